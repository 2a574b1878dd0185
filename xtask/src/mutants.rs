//! `cargo xtask mutants`: plants the bugs of `mutants/*.patch`, one at a time, in a copy of the tree, and runs
//! the test that each names. A test that still passes has let the bug live, and that is a failure. The same
//! test must pass without the bug, or its failing would mean nothing.

mod copy;
mod trial;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};

use crate::cargo::target_folder;
use crate::process::Tool;
use crate::{repository, setup, signals};
use trial::{Trials, Verdict};

const FOLDER: &str = "mutants";

/// One planted bug: a patch, below a header that says what it is for.
pub(crate) struct Mutant {
    pub(crate) path: PathBuf,
    name: String,
    /// `Invariant: I3`
    invariant: String,
    /// `Test: …`, a `cargo test` or `cargo xtask test` command
    test: Vec<String>,
}

impl Mutant {
    /// All of `mutants/`, in the order of their names.
    pub(crate) fn all(root: &Path) -> Result<Vec<Self>> {
        let folder = root.join(FOLDER);
        let entries =
            std::fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))?;
        let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
        paths.retain(|path| path.extension().is_some_and(|extension| extension == "patch"));
        paths.sort();
        paths
            .into_iter()
            .map(|path| Self::read(path.clone()).with_context(|| path.display().to_string()))
            .collect()
    }

    fn read(path: PathBuf) -> Result<Self> {
        let text = std::fs::read_to_string(&path).context("cannot read it")?;
        let name = path.file_stem().context("a patch has a name")?.to_string_lossy().into_owned();
        let (invariant, test) = header(&text)?;
        Ok(Self { path, name, invariant, test })
    }
}

/// Only those of one invariant, and only those with `name` in their name, where these are given.
pub(crate) fn run(invariant: Option<&str>, name: Option<&str>) -> Result<ExitCode> {
    let code = setup::run(setup::Mode::Install)?;
    if code != ExitCode::SUCCESS {
        return Ok(code);
    }
    let root = repository::root();
    let mut mutants = Mutant::all(&root)?;
    if let Some(wanted) = invariant {
        mutants.retain(|mutant| mutant.invariant.eq_ignore_ascii_case(wanted));
    }
    if let Some(wanted) = name {
        mutants.retain(|mutant| mutant.name.contains(wanted));
    }
    if mutants.is_empty() {
        let wanted =
            [invariant.map(|it| format!("is for {it}")), name.map(|it| format!("has {it:?} in its name"))];
        bail!("no patch in {FOLDER}/ {}", wanted.into_iter().flatten().collect::<Vec<_>>().join(" and "));
    }
    let work = target_folder(&root)?.join(FOLDER);
    let tree = copy::refresh(&root, &work)?;
    let mut trials = Trials::new(&tree, &work);
    let mut survivors = 0;
    let mut broken = 0;
    for mutant in &mutants {
        let verdict = trials.run(mutant)?;
        match &verdict {
            Verdict::Found(_) => {}
            Verdict::Survived(_) => survivors += 1,
            Verdict::Broken(_) => broken += 1,
        }
        println!("{:<9} {:<4} {:<36} {}", verdict.word(), mutant.invariant, mutant.name, verdict.reason());
        if signals::received().is_some() {
            bail!("interrupted");
        }
    }
    let found = mutants.len() - survivors - broken;
    println!("{found} found, {survivors} survived, {broken} broken");
    Ok(if found == mutants.len() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Applies a patch to a tree (or does what the options say: only look, or take it back).
pub(crate) fn apply(tree: &Path, patch: &Path, options: &[&str]) -> Result<()> {
    let mut git = Tool::new("git").args(["apply"]).args(options).args([patch]).dir(tree);
    // A copy below the repository's own target folder is no part of the repository: without this, git would
    // look at the paths from the repository's root, and silently skip them all.
    if let Some(parent) = tree.parent() {
        git = git.env("GIT_CEILING_DIRECTORIES", parent);
    }
    git.output().map(drop)
}

/// The invariant and the test's command.
fn header(text: &str) -> Result<(String, Vec<String>)> {
    let lines: Vec<&str> = text.lines().take_while(|line| !line.starts_with("diff --git ")).collect();
    if lines.len() == text.lines().count() {
        bail!("it has no `diff --git` line");
    }
    let value = |key: &str| {
        let found = lines.iter().find_map(|line| line.strip_prefix(key)?.strip_prefix(':')).map(str::trim);
        found.filter(|value| !value.is_empty()).with_context(|| format!("its header has no `{key}:`"))
    };
    let invariant = value("Invariant")?.to_owned();
    let is_known = invariant
        .strip_prefix('I')
        .and_then(|number| number.parse().ok())
        .is_some_and(|n| (1..=14).contains(&n));
    if !is_known {
        bail!("`Invariant: {invariant}` is none of I1 to I14");
    }
    value("Why")?;
    let test: Vec<String> = value("Test")?.split_whitespace().map(str::to_owned).collect();
    if !(is_cargo_test(&test) || is_xtask_test(&test)) {
        bail!("`Test:` must be `cargo test …` or `cargo xtask test NAME`");
    }
    Ok((invariant, test))
}

fn is_cargo_test(test: &[String]) -> bool {
    matches!(test, [cargo, word, ..] if cargo == "cargo" && word == "test")
}

fn is_xtask_test(test: &[String]) -> bool {
    matches!(test, [cargo, xtask, word, _] if cargo == "cargo" && xtask == "xtask" && word == "test")
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str =
        "Invariant: I3\nTest: cargo test -p lockstep-ownership i3_\nWhy: two owners\n\ndiff --git a/x b/x\n";

    #[test]
    fn a_header_is_read() {
        let (invariant, test) = header(GOOD).unwrap();
        assert_eq!(invariant, "I3");
        assert_eq!(test, ["cargo", "test", "-p", "lockstep-ownership", "i3_"]);
    }

    #[test]
    fn a_header_must_be_complete() {
        for (missing, replacement) in [
            ("Invariant: I3\n", ""),
            ("I3", "I15"),
            ("Why: two owners\n", ""),
            ("cargo test", "rm"),
            ("diff --git", "diff"),
        ] {
            assert!(header(&GOOD.replace(missing, replacement)).is_err(), "without {missing:?}");
        }
    }
}
