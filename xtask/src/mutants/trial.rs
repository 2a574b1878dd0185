//! One bug's trial: build with it, run its test, judge, take it back.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};

use super::{Mutant, apply, is_cargo_test};
use crate::cargo::{Counts, PROFILE, cargo, less_optimised};
use crate::process::{Finished, Show, Tool, tail};
use crate::test::BUILD_FAILED;

/// A bug may make its test hang; this is far more than any of them takes, with the build of the programs.
const LONGEST_TEST: Duration = Duration::from_secs(30 * 60);

/// What became of a bug, with the reason.
pub(super) enum Verdict {
    /// Its test turned red
    Found(String),
    /// Its test stayed green
    Survived(String),
    /// It proves nothing: it does not apply, does not build, or its test fails without it
    Broken(String),
}

impl Verdict {
    pub(super) fn word(&self) -> &'static str {
        match self {
            Self::Found(_) => "found",
            Self::Survived(_) => "SURVIVED",
            Self::Broken(_) => "BROKEN",
        }
    }

    pub(super) fn reason(&self) -> &str {
        match self {
            Self::Found(reason) | Self::Survived(reason) | Self::Broken(reason) => reason,
        }
    }
}

/// How a test ended.
#[derive(Clone)]
enum Outcome {
    DidNotBuild(String),
    Ran(Counts),
}

/// The trials in one copy of the tree.
pub(super) struct Trials<'a> {
    tree: &'a Path,
    target: PathBuf,
    /// How each test ends without a bug
    sound: BTreeMap<Vec<String>, Outcome>,
}

impl<'a> Trials<'a> {
    /// Builds go below `work` and are shared by all bugs.
    pub(super) fn new(tree: &'a Path, work: &Path) -> Self {
        Self { tree, target: work.join("target"), sound: BTreeMap::new() }
    }

    pub(super) fn run(&mut self, mutant: &Mutant) -> Result<Verdict> {
        if let Some(verdict) = self.unsound(&mutant.test)? {
            return Ok(verdict);
        }
        if let Err(error) = apply(self.tree, &mutant.path, &[]) {
            return Ok(Verdict::Broken(format!("{error:#}")));
        }
        let outcome = self.test(&mutant.test);
        apply(self.tree, &mutant.path, &["--reverse"]).context("the bug cannot be taken back")?;
        let test = mutant.test.join(" ");
        Ok(match outcome? {
            Outcome::DidNotBuild(output) => Verdict::Broken(format!("it does not build:\n{output}")),
            Outcome::Ran(counts) if counts.failed > 0 => {
                Verdict::Found(format!("{} failed in `{test}`", counts.failed))
            }
            Outcome::Ran(counts) => Verdict::Survived(format!("{} passed in `{test}`", counts.passed)),
        })
    }

    /// A verdict if the test is no test: without the bug it must run and pass.
    fn unsound(&mut self, test: &[String]) -> Result<Option<Verdict>> {
        if !self.sound.contains_key(test) {
            let outcome = self.test(test)?;
            self.sound.insert(test.to_vec(), outcome);
        }
        let command = test.join(" ");
        Ok(match &self.sound[test] {
            Outcome::DidNotBuild(output) => {
                Some(format!("without the bug, `{command}` does not build:\n{output}"))
            }
            Outcome::Ran(counts) if counts.failed > 0 => {
                Some(format!("without the bug, `{command}` fails as well"))
            }
            Outcome::Ran(counts) if counts.passed == 0 => Some(format!("`{command}` runs no test")),
            Outcome::Ran(_) => None,
        }
        .map(Verdict::Broken))
    }

    fn test(&self, test: &[String]) -> Result<Outcome> {
        if is_cargo_test(test) { self.cargo_test(&test[2..]) } else { self.xtask_test(&test[2..]) }
    }

    fn cargo_test(&self, arguments: &[String]) -> Result<Outcome> {
        let (options, filters) = split(arguments);
        let base = || self.cargo().args(["test", PROFILE, "--locked"]).args(less_optimised()).args(options);
        let built = base().args(["--no-run"]).run(Show::Nothing)?;
        if !built.status.success() {
            return Ok(Outcome::DidNotBuild(tail(&built.output)));
        }
        let ran = base().args(["--no-fail-fast"]).args(filters).within(LONGEST_TEST).run(Show::Nothing)?;
        Ok(judge(&ran, Counts::of_test_programs(&ran.output)))
    }

    fn xtask_test(&self, arguments: &[String]) -> Result<Outcome> {
        let ran = self
            .cargo()
            .args(["run", "--quiet", "--locked", "--package", "lockstep-xtask", "--"])
            .args(arguments)
            .within(LONGEST_TEST)
            .run(Show::Nothing)?;
        if ran.status.code() == Some(i32::from(BUILD_FAILED)) {
            return Ok(Outcome::DidNotBuild(tail(&ran.output)));
        }
        Ok(judge(&ran, Counts::of_summary(&ran.output).unwrap_or_default()))
    }

    fn cargo(&self) -> Tool {
        cargo(self.tree).env("CARGO_TARGET_DIR", &self.target)
    }
}

/// A program that dies without saying what failed (an abort, a signal, too long a time) has failed too.
fn judge(ran: &Finished, mut counts: Counts) -> Outcome {
    if !ran.status.success() {
        counts.failed = counts.failed.max(1);
    }
    Outcome::Ran(counts)
}

/// Cargo's own options, and the names of tests with all that follows them.
fn split(arguments: &[String]) -> (&[String], &[String]) {
    let mut place = 0;
    while let Some(option) =
        arguments.get(place).filter(|argument| argument.starts_with('-') && *argument != "--")
    {
        let takes_value = ["-p", "--package", "--test", "--bin", "--features"].contains(&option.as_str());
        place += if takes_value { 2 } else { 1 };
    }
    arguments.split_at(place.min(arguments.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_told_from_names() {
        let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        let command = words("-p lockstep-raft-store --test disk i1_ -- --exact");
        let (options, names) = split(&command);
        assert_eq!(options, words("-p lockstep-raft-store --test disk"));
        assert_eq!(names, words("i1_ -- --exact"));
    }
}
