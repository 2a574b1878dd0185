//! The planted bugs must keep up with the code: every patch applies, and says what it is for.

use std::path::Path;

use anyhow::{Result, bail};

use crate::mutants::{Mutant, apply};

pub(crate) fn check(root: &Path) -> Result<String> {
    let mutants = Mutant::all(root)?;
    let mut wrong = Vec::new();
    for mutant in &mutants {
        if let Err(error) = apply(root, &mutant.path, &["--check"]) {
            wrong.push(format!("{error:#}"));
        }
    }
    if !wrong.is_empty() {
        bail!("{}", wrong.join("\n"));
    }
    Ok(format!("{} patches", mutants.len()))
}
