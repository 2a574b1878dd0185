//! Where the programs are that a run starts: beside this one.

use std::path::PathBuf;

use anyhow::Context;

/// The daemon.
pub fn lockstepd() -> anyhow::Result<PathBuf> {
    beside("lockstepd")
}

/// The command line.
pub fn lockstep() -> anyhow::Result<PathBuf> {
    beside("lockstep")
}

fn beside(name: &str) -> anyhow::Result<PathBuf> {
    let this = std::env::current_exe().context("cannot find this program's own file")?;
    let path = this.with_file_name(name);
    anyhow::ensure!(
        path.is_file(),
        "{} is missing: run `cargo xtask demo` or `cargo xtask test`, which build it",
        path.display()
    );
    Ok(path)
}
