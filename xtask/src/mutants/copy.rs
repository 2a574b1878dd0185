//! The copy of the tree that bugs are planted in. It is kept between runs, and a file is only written when it
//! differs, so that cargo builds again only what changed.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::repository;

/// Makes the copy below `work` equal to what git tracks or would track in `root`.
pub(super) fn refresh(root: &Path, work: &Path) -> Result<PathBuf> {
    let tree = work.join("tree");
    fs::create_dir_all(&tree).with_context(|| format!("cannot make {}", tree.display()))?;
    let wanted = repository::files(root)?;
    for file in &wanted {
        write_if_different(&root.join(file), &tree.join(file))?;
    }
    remove_others(&tree, &tree, &wanted)?;
    Ok(tree)
}

fn write_if_different(from: &Path, to: &Path) -> Result<()> {
    let new = fs::read(from).with_context(|| format!("cannot read {}", from.display()))?;
    if fs::read(to).is_ok_and(|old| old == new) {
        return Ok(());
    }
    let folder = to.parent().context("a file is in a folder")?;
    fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    fs::copy(from, to).with_context(|| format!("cannot write {}", to.display())).map(drop)
}

/// What an earlier copy had and the tree no longer has, such as a file that a patch added.
fn remove_others(tree: &Path, folder: &Path, wanted: &BTreeSet<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))? {
        let entry = entry?;
        let path = entry.path();
        if entry.file_type()?.is_dir() {
            remove_others(tree, &path, wanted)?;
        } else if !path.strip_prefix(tree).is_ok_and(|file| wanted.contains(file)) {
            fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))?;
        }
    }
    Ok(())
}
