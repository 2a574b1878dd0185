//! ARCHITECTURE.md is a map: every path that it names must exist, and it must answer the questions that a
//! newcomer asks. The list of invariants is checked with it.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use super::invariants;
use crate::repository;

const MAP: &str = "ARCHITECTURE.md";

/// A heading must hold all words of a row.
const QUESTIONS: &[&[&str]] =
    &[&["flow", "created"], &["flow", "sent"], &["flow", "applied"], &["own", "vip"], &["node dies"]];

/// Endings by which a word without a slash is known as a file.
const FILES: &[&str] = &[".rs", ".md", ".toml", ".proto", ".patch", ".yaml", ".service"];

pub(crate) fn check(root: &Path) -> Result<String> {
    match (map(root), invariants::check(root)) {
        (Ok(map), Ok(invariants)) => Ok(format!("{map}; {invariants}")),
        (Err(one), Err(other)) => bail!("{one:#}\n{other:#}"),
        (Err(error), Ok(_)) | (Ok(_), Err(error)) => Err(error),
    }
}

fn map(root: &Path) -> Result<String> {
    let text = std::fs::read_to_string(root.join(MAP)).with_context(|| format!("cannot read {MAP}"))?;
    let paths = named_paths(&text);
    let mut wrong = missing_paths(root, MAP, &paths, &repository::files(root)?);
    for words in QUESTIONS {
        if !text.lines().any(|line| is_heading_with(line, words)) {
            wrong.push(format!("{MAP} has no heading with the words: {}", words.join(", ")));
        }
    }
    if paths.is_empty() {
        wrong.push(format!("{MAP} names no path"));
    }
    if !wrong.is_empty() {
        bail!("{}", wrong.join("\n"));
    }
    Ok(format!("{} paths and {} headings", paths.len(), QUESTIONS.len()))
}

/// A line for each path that `document` names and that is nowhere.
pub(super) fn missing_paths(
    root: &Path,
    document: &str,
    paths: &[&str],
    files: &BTreeSet<PathBuf>,
) -> Vec<String> {
    paths
        .iter()
        .filter(|path| !(root.join(path).exists() || is_file_somewhere(path, files)))
        .map(|path| format!("{document} names `{path}`, which does not exist"))
        .collect()
}

fn is_heading_with(line: &str, words: &[&str]) -> bool {
    let line = line.to_lowercase();
    line.starts_with('#') && words.iter().all(|word| line.contains(word))
}

/// A file may be named without its folders where the text says which they are.
fn is_file_somewhere(name: &str, files: &BTreeSet<PathBuf>) -> bool {
    !name.contains('/') && files.iter().any(|file| file.file_name().is_some_and(|known| known == name))
}

/// What stands in backticks and looks like a path of the tree. `path:place` means a place in it.
pub(super) fn named_paths(text: &str) -> Vec<&str> {
    let words = text.lines().flat_map(|line| line.split('`').skip(1).step_by(2));
    words.map(|word| word.split(':').next().unwrap_or(word)).filter(|word| is_path(word)).collect()
}

fn is_path(word: &str) -> bool {
    let starts_well = word.starts_with(|c: char| c.is_ascii_alphabetic() || c == '.');
    let is_plain = word.chars().all(|c| c.is_ascii_alphanumeric() || "._-/".contains(c));
    let is_file = FILES.iter().any(|ending| word.strip_suffix(ending).is_some_and(|stem| !stem.is_empty()));
    starts_well && is_plain && (word.contains('/') || is_file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_told_from_other_code() {
        let text = "See `model/src/flow.rs`, `node/` and `Cargo.toml`; `sync/core/src/lib.rs:Origin`, but not\n\
            `/sys/fs/bpf`, `10.0.0.0/24`, `lockstep.admin.v1`, `FlowKey::shard`, `cargo xtask test`, `.proto` or `x / y`.\n";
        let expected = ["model/src/flow.rs", "node/", "Cargo.toml", "sync/core/src/lib.rs"];
        assert_eq!(named_paths(text), expected);
    }

    #[test]
    fn headings_need_all_words() {
        assert!(is_heading_with("## Who may own a VIP", &["own", "vip"]));
        assert!(!is_heading_with("Who may own a VIP", &["own", "vip"]));
        assert!(!is_heading_with("## Who may own", &["own", "vip"]));
    }
}
