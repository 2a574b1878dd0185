//! `cargo xtask sim`: build, and then become the program that simulates clusters. Needs nothing of the machine.

use std::process::ExitCode;

use anyhow::{Result, bail};

use crate::cargo::{PROFILE, cargo, program_folder};
use crate::process::{Show, Tool};
use crate::repository;

const RUNNER: &str = "lockstep-sim";

/// Runs the simulation with these arguments.
pub(crate) fn run(arguments: &[String]) -> Result<ExitCode> {
    let root = repository::root();
    let build = cargo(&root).args(["build", PROFILE, "--locked", "--package", RUNNER]);
    let finished = build.run(Show::Everything)?;
    if !finished.status.success() {
        bail!("`{build}` failed ({})", finished.status);
    }
    Err(Tool::new(program_folder(&root)?.join(RUNNER)).args(arguments).exec())
}
