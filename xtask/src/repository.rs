//! Where the tree is, and which Rust it wants.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// The root of the tree that this was started in. Cargo says it at run time; the place where xtask was compiled
/// serves when the binary is started by hand.
pub(crate) fn root() -> PathBuf {
    let manifest = std::env::var_os("CARGO_MANIFEST_DIR")
        .map_or_else(|| env!("CARGO_MANIFEST_DIR").into(), PathBuf::from);
    manifest.parent().expect("xtask is a folder of the repository").to_owned()
}

/// The one Rust version that the tree is built with, from `rust-toolchain.toml`.
pub(crate) fn rust_version(root: &Path) -> Result<String> {
    let path = root.join("rust-toolchain.toml");
    let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let value = text
        .lines()
        .filter_map(|line| line.split_once('='))
        .find(|(key, _)| key.trim() == "channel")
        .map(|(_, value)| value.trim().trim_matches('"').to_owned());
    value.with_context(|| format!("{} names no channel", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_toolchain_is_pinned_to_a_release() {
        let version = rust_version(&root()).unwrap();
        assert!(version.split('.').all(|part| part.parse::<u32>().is_ok()), "{version}");
    }
}
