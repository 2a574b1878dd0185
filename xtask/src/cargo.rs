//! Calling cargo: where it is, where it builds, and what its test programs report.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::Value;

use crate::process::Tool;

/// The profile of everything that runs: unit tests, demo and cluster tests share one build of the
/// dependencies, which is most of the work.
pub(crate) const PROFILE: &str = "--release";
/// Crates that the optimiser takes longest for, each with how much of it their tests need: two processors have half an
/// hour for everything. At level 0 are those whose tests wait for kernels, disks and peers; at level 1 those that compute.
const OPTIMISED: &[(u8, &[&str])] = &[
    (0, &["node", "raft-store", "cli", "cluster-tests", "bench", "proto"]),
    (1, &["sim", "loader", "model", "sync-transport"]),
];

/// What makes it so, on cargo's command line.
pub(crate) fn less_optimised() -> Vec<String> {
    let each = OPTIMISED.iter().flat_map(|(level, crates)| {
        crates.iter().map(move |name| format!("profile.release.package.lockstep-{name}.opt-level={level}"))
    });
    each.flat_map(|setting| ["--config".to_owned(), setting]).collect()
}

/// The folder of that profile below the target folder.
const PROFILE_FOLDER: &str = "release";

/// Crates of eBPF programs: no part of the workspace, another target, and `core` built from its source.
pub(crate) const PROGRAMS: &[&str] = &["ebpf/programs", "bench/programs"];

/// Test outcomes, summed over test programs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) passed: u32,
    pub(crate) failed: u32,
    pub(crate) skipped: u32,
}

impl Counts {
    pub(crate) fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }

    pub(crate) fn total(self) -> u32 {
        self.passed + self.failed + self.skipped
    }

    /// Sums the `test result:` lines of cargo's test programs.
    pub(crate) fn of_test_programs(output: &str) -> Self {
        let mut sum = Self::default();
        for line in output.lines().filter_map(|line| line.strip_prefix("test result: ")) {
            sum.add(Self {
                passed: number_before(line, " passed"),
                failed: number_before(line, " failed"),
                skipped: number_before(line, " ignored"),
            });
        }
        sum
    }

    /// The last line of the form `N passed, N failed, N skipped`.
    pub(crate) fn of_summary(output: &str) -> Option<Self> {
        let line =
            output.lines().rev().find(|line| line.contains(" passed, ") && line.ends_with(" skipped"))?;
        Some(Self {
            passed: number_before(line, " passed"),
            failed: number_before(line, " failed"),
            skipped: number_before(line, " skipped"),
        })
    }
}

/// Cargo, in the root of the tree.
pub(crate) fn cargo(root: &Path) -> Tool {
    let program = std::env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"));
    let mut tool = Tool::new(program).dir(root);
    // What `cargo run` told xtask about its own package is not for the packages that it builds.
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("CARGO_PKG_") || text.starts_with("CARGO_MANIFEST_") {
            tool = tool.env_remove(&name);
        }
    }
    tool
}

/// What `cargo metadata` says; `without_dependencies` is quicker and resolves nothing.
pub(crate) fn metadata(root: &Path, manifest: &Path, without_dependencies: bool) -> Result<Value> {
    let mut tool = cargo(root)
        .args(["metadata", "--format-version", "1", "--locked", "--manifest-path"])
        .args([manifest]);
    if without_dependencies {
        tool = tool.args(["--no-deps"]);
    }
    serde_json::from_slice(&tool.stdout()?).context("cargo metadata printed no JSON")
}

/// Where the programs of the shared profile are built.
pub(crate) fn program_folder(root: &Path) -> Result<PathBuf> {
    Ok(target_folder(root)?.join(PROFILE_FOLDER))
}

/// Cargo's target folder, wherever the user put it.
pub(crate) fn target_folder(root: &Path) -> Result<PathBuf> {
    let metadata = metadata(root, &root.join("Cargo.toml"), true)?;
    let folder = metadata["target_directory"].as_str().context("cargo metadata names no target directory")?;
    Ok(PathBuf::from(folder))
}

fn number_before(line: &str, word: &str) -> u32 {
    let Some(end) = line.find(word) else { return 0 };
    let start = line[..end].rfind(|c: char| !c.is_ascii_digit()).map_or(0, |place| place + 1);
    line[start..end].parse().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_test_programs() {
        let output = "running 3 tests\n\
            test result: ok. 12 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s\n\
            test result: FAILED. 3 passed; 2 failed; 0 ignored; 0 measured; 7 filtered out; finished in 0.00s\n";
        assert_eq!(Counts::of_test_programs(output), Counts { passed: 15, failed: 2, skipped: 1 });
    }

    #[test]
    fn reads_the_last_summary() {
        let output = "1 passed, 0 failed, 0 skipped\nmore\n10 passed, 2 failed, 3 skipped\n";
        assert_eq!(Counts::of_summary(output), Some(Counts { passed: 10, failed: 2, skipped: 3 }));
        assert_eq!(Counts::of_summary("nothing"), None);
    }
}
