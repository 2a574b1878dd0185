//! `cargo xtask demo` and `chaos`: set-up, build, and then become the program that runs the cluster.

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};

use crate::cargo::{PROFILE, cargo, less_optimised, program_folder};
use crate::process::{Show, Tool};
use crate::setup::packages::search_path;
use crate::{repository, setup};

/// The program of `cluster-tests`. It finds the daemon and the command beside itself.
const RUNNER: &str = "lockstep-cluster-tests";
/// The packages whose programs it runs.
const PACKAGES: &[&str] = &["lockstep-node", "lockstep-cli", "lockstep-cluster-tests"];

/// Runs a command of that program with these arguments.
pub(crate) fn run(command: &str, arguments: &[String]) -> Result<ExitCode> {
    let code = setup::run(setup::Mode::Install)?;
    if code != ExitCode::SUCCESS {
        return Ok(code);
    }
    let root = repository::root();
    println!("building the programs (the first time, this takes minutes)");
    build(&root, Show::Everything)?;
    Err(runner(&root)?.args([command]).args(arguments).exec())
}

/// The program that runs clusters.
pub(crate) fn runner(root: &Path) -> Result<Tool> {
    let path = std::env::join_paths(search_path()).context("a folder in PATH has a colon in its name")?;
    Ok(Tool::new(program_folder(root)?.join(RUNNER)).env("PATH", path))
}

/// Builds what the cluster runs.
pub(crate) fn build(root: &Path, show: Show) -> Result<()> {
    let mut tool = cargo(root).args(["build", PROFILE, "--locked"]);
    for package in PACKAGES {
        tool = tool.args(["--package", package]);
    }
    finish(&tool, show)
}

/// Builds the same for tests, with the features that the unit tests are built with: nothing is compiled twice.
pub(crate) fn build_for_tests(root: &Path) -> Result<()> {
    let tool = cargo(root)
        .args(["build", PROFILE, "--locked", "--workspace", "--bins", "--tests"])
        .args(less_optimised());
    finish(&tool, Show::Nothing)
}

fn finish(tool: &Tool, show: Show) -> Result<()> {
    let finished = tool.run(show)?;
    if !finished.status.success() {
        if show == Show::Nothing {
            println!("{}", crate::process::tail(&finished.output));
        }
        bail!("`{tool}` failed ({})", finished.status);
    }
    Ok(())
}
