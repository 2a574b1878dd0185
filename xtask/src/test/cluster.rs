//! The cluster tests: a program of its own, which runs the real binaries in network namespaces.

use std::path::Path;

use anyhow::{Context, Result};

use super::Report;
use crate::cargo::Counts;
use crate::demo::{build_for_tests, runner};
use crate::process::Show;

/// Whether a cluster test has `name` in its name.
pub(super) fn has(root: &Path, name: &str) -> Result<bool> {
    build_for_tests(root)?;
    let list = runner(root)?.args(["list"]).stdout()?;
    Ok(String::from_utf8_lossy(&list).lines().any(|line| line.contains(name)))
}

pub(super) fn run(root: &Path, name: Option<&str>) -> Result<Report> {
    build_for_tests(root)?;
    let finished = runner(root)?.args(["test"]).args(name).run(Show::Everything)?;
    let mut counts = Counts::of_summary(&finished.output)
        .with_context(|| format!("the runner printed no summary ({})", finished.status))?;
    if !finished.status.success() {
        counts.failed = counts.failed.max(1);
    }
    let summary = format!("{} of {} passed", counts.passed, counts.passed + counts.failed);
    // The runner has printed what it skipped, and why.
    Ok(Report { counts, summary, skipped: Vec::new() })
}
