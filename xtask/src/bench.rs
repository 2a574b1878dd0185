//! `cargo xtask bench` and `cargo xtask verifier`: set-up, build, and then become the program that measures.

use std::process::ExitCode;

use anyhow::{Result, bail};

use crate::cargo::{PROFILE, cargo, program_folder};
use crate::process::{Show, Tool};
use crate::setup::packages::search_path;
use crate::{repository, setup};

/// The program of `bench`.
const RUNNER: &str = "lockstep-bench";
/// The benchmarks of a whole cluster: they run the daemon and the command beside themselves.
const OF_CLUSTERS: &[&str] = &["failover", "sync"];

/// Runs the benchmark `what` with these arguments.
pub(crate) fn run(what: &str, arguments: &[String]) -> Result<ExitCode> {
    let code = setup::run(setup::Mode::Install)?;
    if code != ExitCode::SUCCESS {
        return Ok(code);
    }
    setup::packages::for_bench(what)?;
    let root = repository::root();
    println!("building the programs (the first time, this takes minutes)");
    let mut build = cargo(&root).args(["build", PROFILE, "--locked", "--package", RUNNER]);
    if OF_CLUSTERS.contains(&what) {
        build = build.args(["--package", "lockstep-node", "--package", "lockstep-cli"]);
    }
    let finished = build.run(Show::Everything)?;
    if !finished.status.success() {
        bail!("`{build}` failed ({})", finished.status);
    }
    let path = std::env::join_paths(search_path())?;
    let runner = Tool::new(program_folder(&root)?.join(RUNNER)).env("PATH", path);
    Err(runner.args([what]).args(arguments).exec())
}
