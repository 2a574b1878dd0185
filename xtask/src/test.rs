//! `cargo xtask test`: everything that must hold, in one table, from the cheapest to the dearest. A step that
//! fails does not stop the others. The last line is `N passed, N failed, N skipped`.

mod cluster;
mod units;

use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Result, bail};

use crate::cargo::{Counts, PROFILE, PROGRAMS, cargo, target_folder};
use crate::checks::{dependencies, documents, patches};
use crate::{repository, setup, signals};

/// The exit code when tests could not run at all, to tell that from tests that ran and failed.
pub(crate) const BUILD_FAILED: u8 = 2;

/// One row of the table.
struct Step {
    name: &'static str,
    run: fn(&Path) -> Result<Report>,
}

/// What a step brought.
struct Report {
    counts: Counts,
    /// What was looked at, or which tests failed
    summary: String,
    /// What was skipped, and why: one line each
    skipped: Vec<String>,
}

const STEPS: &[Step] = &[
    Step { name: "format", run: |root| Ok(Report::check(format(root))) },
    Step { name: "dependencies", run: |root| Ok(Report::check(dependencies::check(root))) },
    Step { name: "documents", run: |root| Ok(Report::check(documents::check(root))) },
    Step { name: "patches", run: |root| Ok(Report::check(patches::check(root))) },
    Step { name: "lints", run: |root| Ok(Report::check(lints(root))) },
    Step { name: "lints of the eBPF programs", run: |root| Ok(Report::check(lints_of_programs(root))) },
    Step { name: "units", run: |root| units::run(root, None) },
    Step { name: "cluster", run: |root| cluster::run(root, None) },
];

impl Report {
    /// Of a step that is one check: it says what it looked at, or what is wrong.
    fn check(outcome: Result<String>) -> Self {
        let (counts, summary) = match outcome {
            Ok(looked_at) => (Counts { passed: 1, ..Counts::default() }, looked_at),
            Err(error) => (Counts { failed: 1, ..Counts::default() }, format!("{error:#}")),
        };
        Self { counts, summary, skipped: Vec::new() }
    }
}

pub(crate) fn run(name: Option<&str>) -> Result<ExitCode> {
    let mut sum = Counts::default();
    let outcome = setup::run(setup::Mode::Install).and_then(|code| {
        if code != ExitCode::SUCCESS {
            bail!("the set-up is not complete");
        }
        go_through(&repository::root(), name, &mut sum)
    });
    let could_run = outcome.unwrap_or_else(|error| {
        println!("error: {error:#}");
        sum.failed += 1;
        false
    });
    println!("{} passed, {} failed, {} skipped", sum.passed, sum.failed, sum.skipped);
    Ok(match (could_run, sum.failed) {
        (false, _) => ExitCode::from(BUILD_FAILED),
        (true, 0) => ExitCode::SUCCESS,
        (true, _) => ExitCode::FAILURE,
    })
}

/// Answers whether everything could run, whatever it brought.
fn go_through(root: &Path, name: Option<&str>, sum: &mut Counts) -> Result<bool> {
    let Some(name) = name else {
        let mut could_run = true;
        for step in STEPS {
            could_run &= take(step.name, || (step.run)(root), sum)?;
        }
        return Ok(could_run);
    };
    let steps: Vec<&Step> = STEPS.iter().filter(|step| step.name.contains(name)).collect();
    if !steps.is_empty() {
        let mut could_run = true;
        for step in steps {
            could_run &= take(step.name, || (step.run)(root), sum)?;
        }
        return Ok(could_run);
    }
    // No step: then a cluster test or a unit test. The former are asked for their names, which is quicker.
    let mut is_cluster_test = false;
    let asked =
        take_quietly("cluster", || cluster::has(root, name).map(|found| is_cluster_test = found), sum)?;
    if !asked {
        return Ok(false);
    }
    if is_cluster_test {
        return take("cluster", || cluster::run(root, Some(name)), sum);
    }
    let before = sum.total();
    let could_run = take("units", || units::run(root, Some(name)), sum)?;
    if could_run && sum.total() == before {
        bail!("no step and no test has {name:?} in its name");
    }
    Ok(could_run)
}

/// Runs one step and prints what it brought. A step that cannot run counts as one failure.
fn take(name: &str, run: impl FnOnce() -> Result<Report>, sum: &mut Counts) -> Result<bool> {
    println!("run      {name}");
    let start = Instant::now();
    let result = run();
    interrupted(name)?;
    let seconds = start.elapsed().as_secs();
    match result {
        Ok(report) => {
            for line in &report.skipped {
                println!("skipped  {line}");
            }
            let word = if report.counts.failed == 0 { "ok" } else { "FAILED" };
            println!("{word:<8} {name}: {} ({seconds} s)", report.summary);
            sum.add(report.counts);
            Ok(true)
        }
        Err(error) => {
            println!("{error:#}\nFAILED   {name} ({seconds} s)");
            sum.failed += 1;
            Ok(false)
        }
    }
}

/// For preparations: only a failure is printed and counted.
fn take_quietly(name: &str, run: impl FnOnce() -> Result<()>, sum: &mut Counts) -> Result<bool> {
    let result = run();
    interrupted(name)?;
    if let Err(error) = &result {
        println!("{error:#}\nFAILED   {name}");
        sum.failed += 1;
    }
    Ok(result.is_ok())
}

fn interrupted(name: &str) -> Result<()> {
    if signals::received().is_some() {
        bail!("interrupted in the step `{name}`");
    }
    Ok(())
}

fn format(root: &Path) -> Result<String> {
    let fmt = || cargo(root).args(["fmt", "--check"]);
    // Only the names of files: `cargo fmt` shows the rest, and mends it.
    fmt().args(["--all", "--", "-l"]).output()?;
    for folder in PROGRAMS {
        fmt().args(["--manifest-path"]).args([manifest(folder)]).args(["--", "-l"]).output()?;
    }
    Ok("all crates".into())
}

/// In the profile of the tests, so that build scripts and macros are built once.
fn lints(root: &Path) -> Result<String> {
    cargo(root)
        .args([
            "clippy",
            PROFILE,
            "--workspace",
            "--all-targets",
            "--locked",
            "--quiet",
            "--",
            "--deny",
            "warnings",
        ])
        .output()?;
    Ok("all crates, no warning".into())
}

fn lints_of_programs(root: &Path) -> Result<String> {
    for folder in PROGRAMS {
        cargo(root)
            .args(["clippy", "--release", "--locked", "--quiet", "--manifest-path"])
            .args([manifest(folder)])
            .args(["-Z", "build-std=core", "--target", "bpfel-unknown-none", "--", "--deny", "warnings"])
            .env("RUSTC_BOOTSTRAP", "1")
            .env("CARGO_ENCODED_RUSTFLAGS", "-Ctarget-cpu=v3")
            .env("CARGO_TARGET_DIR", target_folder(root)?.join("programs"))
            .output()?;
    }
    Ok("no warning".into())
}

fn manifest(folder: &str) -> String {
    format!("{folder}/Cargo.toml")
}
