//! `cargo xtask demo`: set-up, build, and then become the program that runs the cluster.

use std::process::ExitCode;

use anyhow::{Result, bail};

use crate::cargo::{PROFILE, cargo, program_folder};
use crate::process::{Show, Tool};
use crate::{repository, setup};

/// The program of `cluster-tests`. It finds the daemon and the command beside itself.
pub(crate) const RUNNER: &str = "lockstep-cluster-tests";
/// The packages whose programs it runs.
const PACKAGES: &[&str] = &["lockstep-node", "lockstep-cli", "lockstep-cluster-tests"];

pub(crate) fn run(arguments: &[String]) -> Result<ExitCode> {
    let code = setup::run(setup::Mode::Install)?;
    if code != ExitCode::SUCCESS {
        return Ok(code);
    }
    let root = repository::root();
    println!("building the programs (the first time, this takes minutes)");
    build(&root, Show::Everything)?;
    let runner = program_folder(&root)?.join(RUNNER);
    Err(Tool::new(runner).args(["demo"]).args(arguments).exec())
}

/// Builds what the cluster runs.
pub(crate) fn build(root: &std::path::Path, show: Show) -> Result<()> {
    let mut tool = cargo(root).args(["build", PROFILE, "--locked"]);
    for package in PACKAGES {
        tool = tool.args(["--package", package]);
    }
    let finished = tool.run(show)?;
    if !finished.status.success() {
        if show == Show::Nothing {
            println!("{}", crate::process::tail(&finished.output));
        }
        bail!("`{tool}` failed ({})", finished.status);
    }
    Ok(())
}
