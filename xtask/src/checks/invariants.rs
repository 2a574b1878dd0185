//! docs/invariants.md says which test and which planted bug guards what: all that it names must exist.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use super::documents::{missing_paths, named_paths};
use crate::repository;

const LIST: &str = "docs/invariants.md";
/// Cluster tests are named by strings.
const SCENARIOS: &str = "cluster-tests/src/scenarios.rs";

pub(super) fn check(root: &Path) -> Result<String> {
    let text = read(root, Path::new(LIST))?;
    let files = repository::files(root)?;
    let sources = sources(root, &files)?;
    let scenarios = read(root, Path::new(SCENARIOS))?;
    let wrong = wrong(root, &text, &files, &sources, &scenarios);
    if !wrong.is_empty() {
        bail!("{}", wrong.join("\n"));
    }
    Ok(format!("{} tests of the invariants", named_tests(&text).len()))
}

fn wrong(
    root: &Path,
    text: &str,
    files: &BTreeSet<PathBuf>,
    sources: &[String],
    scenarios: &str,
) -> Vec<String> {
    // A planted bug is named by its file, and so is one of the paths.
    let mut wrong = missing_paths(root, LIST, &named_paths(text), files);
    for test in named_tests(text) {
        if !(is_function(test, sources) || is_scenario(test, scenarios)) {
            wrong.push(format!("{LIST} names the test `{test}`, which does not exist"));
        }
    }
    for number in 1..=14 {
        if !text.lines().any(|line| line.starts_with(&format!("## I{number} "))) {
            wrong.push(format!("{LIST} has no heading for I{number}"));
        }
    }
    wrong
}

/// In backticks, a word of small letters, digits and underscores is the name of a test.
fn named_tests(text: &str) -> BTreeSet<&str> {
    let words = text.lines().flat_map(|line| line.split('`').skip(1).step_by(2));
    words.filter(|word| is_test(word)).collect()
}

fn is_test(word: &str) -> bool {
    word.starts_with(|c: char| c.is_ascii_lowercase())
        && word.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
}

fn is_function(name: &str, sources: &[String]) -> bool {
    let declaration = format!("fn {name}(");
    sources.iter().any(|source| source.contains(&declaration))
}

fn is_scenario(name: &str, scenarios: &str) -> bool {
    scenarios.contains(&format!("\"{name}\""))
}

fn sources(root: &Path, files: &BTreeSet<PathBuf>) -> Result<Vec<String>> {
    let rust = files.iter().filter(|file| file.extension().is_some_and(|extension| extension == "rs"));
    rust.map(|file| read(root, file)).collect()
}

fn read(root: &Path, file: &Path) -> Result<String> {
    fs::read_to_string(root.join(file)).with_context(|| format!("cannot read {}", file.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_tests_are_told_from_other_words() {
        let text = "| `ebpf/abi/src/lease.rs` | `i4_a_lease_ends_by_itself`, `pause` | `i4-bug.patch` |\n\
            neither `I4`, `Why:`, `cargo xtask test pause` nor pause and `i3_…`\n";
        assert_eq!(named_tests(text), BTreeSet::from(["i4_a_lease_ends_by_itself", "pause"]));
    }

    #[test]
    fn what_does_not_exist_is_named() {
        let root = repository::root();
        let files = BTreeSet::from([PathBuf::from("mutants/i4-known.patch")]);
        let sources = ["#[test]\nfn i4_a_lease_ends_by_itself() {}\n".to_owned()];
        let scenarios = "scenario(\"pause\", \"a stopped owner\", faults::pause),";
        let headings: String = (1..=14).map(|number| format!("## I{number} Name\n")).collect();
        let wrong = |text: &str| wrong(&root, text, &files, &sources, scenarios);

        let good = format!("{headings}`i4_a_lease_ends_by_itself`, `pause`, `i4-known.patch`\n");
        assert_eq!(wrong(&good), Vec::<String>::new());
        for (known, unknown) in [
            ("`i4_a_lease_ends_by_itself`", "`i4_a_lease_ends`"),
            ("`i4_a_lease_ends_by_itself`", "`lease_ends_by_itself`"),
            ("`pause`", "`paus`"),
            ("`i4-known.patch`", "`i4-unknown.patch`"),
            ("## I9 ", "## 9 "),
        ] {
            assert_eq!(wrong(&good.replace(known, unknown)).len(), 1, "{unknown}");
        }
    }
}
