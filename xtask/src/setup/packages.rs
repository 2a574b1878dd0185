//! The system packages that building and running need.

use std::path::PathBuf;

use anyhow::Result;

use super::{Found, Surroundings};
use crate::process::Tool;

/// A program (or header) that is needed, and the Debian package that has it. Whoever has the program from
/// elsewhere need not have the package.
const NEEDED: &[(&str, &str)] = &[
    // The C compiler: the linker of every Rust program, and TLS has parts in C.
    ("cc", "gcc"),
    ("/usr/include/stdlib.h", "libc6-dev"),
    // Cluster tests: namespaces and links; nothing may stay behind in the packet filter.
    ("ip", "iproute2"),
    ("nft", "nftables"),
    // Mutants and the clean clone.
    ("git", "git"),
];

/// Where programs are, beside what PATH says: a login without `sbin` in its PATH is common.
const SYSTEM_FOLDERS: &[&str] =
    &["/usr/local/sbin", "/usr/sbin", "/sbin", "/usr/local/bin", "/usr/bin", "/bin"];

pub(super) fn look(_: &Surroundings) -> Result<Found> {
    let missing = missing();
    if missing.is_empty() {
        let all: Vec<&str> = NEEDED.iter().map(|(_, package)| *package).collect();
        return Ok(Found::Ready(all.join(", ")));
    }
    Ok(Found::Missing(missing.join(", ")))
}

pub(super) fn install(_: &Surroundings) -> Result<()> {
    apt(&["update"]).output()?;
    apt(&["install", "--yes", "--no-install-recommends"]).args(missing()).output()?;
    Ok(())
}

fn apt(arguments: &[&str]) -> Tool {
    // Another apt or dpkg at work is waited for.
    Tool::new("apt-get")
        .args(["-q", "-o", "DPkg::Lock::Timeout=300"])
        .args(arguments)
        .env("DEBIAN_FRONTEND", "noninteractive")
}

fn missing() -> Vec<&'static str> {
    NEEDED.iter().filter(|(file, _)| !exists(file)).map(|(_, package)| *package).collect()
}

/// PATH, and the system's folders behind it.
pub(crate) fn search_path() -> Vec<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).chain(SYSTEM_FOLDERS.iter().map(PathBuf::from)).collect()
}

fn exists(file: &str) -> bool {
    // Joining an absolute path replaces the folder, so headers are looked up as they are.
    search_path().iter().any(|folder| folder.join(file).is_file())
}
