//! The tests of all crates, under cargo.

use std::path::Path;

use anyhow::{Result, bail};

use super::Report;
use crate::cargo::{Counts, PROFILE, cargo, less_optimised, target_folder};
use crate::process::{Show, tail};

/// Where the whole output goes, below the target folder.
const LOG: &str = "unit-tests.log";

pub(super) fn run(root: &Path, name: Option<&str>) -> Result<Report> {
    let base = || {
        cargo(root)
            .args(["test", PROFILE, "--workspace", "--locked", "--lib", "--bins", "--tests"])
            .args(less_optimised())
    };
    // Built apart, so that a failure to build is not taken for a failing test.
    base().args(["--no-run", "--quiet"]).output()?;

    let finished = base().args(["--no-fail-fast"]).args(name).run(Show::Nothing)?;
    let log = target_folder(root)?.join(LOG);
    std::fs::write(&log, &finished.output)?;
    let mut counts = Counts::of_test_programs(&finished.output);
    let failed = marked(&finished.output, " ... FAILED");
    if !finished.status.success() {
        println!("{}\nthe whole output is in {}", tail(&finished.output), log.display());
        // A program that aborts reports no result.
        counts.failed = counts.failed.max(1);
    }
    if counts.total() == 0 && name.is_none() {
        bail!("cargo ran no test:\n{}", tail(&finished.output));
    }
    let skipped = finished.output.lines().filter_map(skipped_line).collect();
    let mut summary = format!("{} of {} passed", counts.passed, counts.passed + counts.failed);
    if !failed.is_empty() {
        summary = format!("{summary}; failed: {}", failed.join(", "));
    }
    Ok(Report { counts, summary, skipped })
}

fn marked<'a>(output: &'a str, mark: &str) -> Vec<&'a str> {
    output.lines().filter_map(|line| line.strip_prefix("test ")?.strip_suffix(mark)).collect()
}

/// `test name ... ignored, reason`
fn skipped_line(line: &str) -> Option<String> {
    let (name, reason) = line.strip_prefix("test ")?.split_once(" ... ignored")?;
    let reason = reason.strip_prefix(", ").unwrap_or("marked as ignored, without a reason");
    Some(format!("{name}: {reason}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_failed_and_skipped_tests() {
        let output = "test a::b ... ok\ntest a::c ... FAILED\ntest a::d ... ignored, needs two disks\n";
        assert_eq!(marked(output, " ... FAILED"), ["a::c"]);
        let skipped: Vec<String> = output.lines().filter_map(skipped_line).collect();
        assert_eq!(skipped, ["a::d: needs two disks"]);
    }
}
