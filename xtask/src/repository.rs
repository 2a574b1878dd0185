//! Where the tree is, and which Rust it wants.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::process::Tool;

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

/// What git tracks, or would track.
pub(crate) fn files(root: &Path) -> Result<BTreeSet<PathBuf>> {
    let list = Tool::new("git")
        .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
        .dir(root)
        .stdout()?;
    let list = String::from_utf8(list).context("a file's name is not UTF-8")?;
    let names = list.split('\0').filter(|name| !name.is_empty()).map(PathBuf::from);
    // A file that is deleted but still tracked is in the list.
    Ok(names.filter(|name| root.join(name).is_file()).collect())
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
