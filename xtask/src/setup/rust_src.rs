//! The source of `core`, which the eBPF programs are built with. First from rustup; where its server cannot be
//! reached, from Debian, which packages the same release.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};

use super::{Found, Surroundings, debian, temporary};
use crate::process::Tool;

/// The component is small, and an unreachable server must not hold us up.
const RUSTUP_TIMEOUT: Duration = Duration::from_secs(60);
/// Below the sysroot.
const LIBRARY: &str = "lib/rustlib/src/rust/library";
/// rustup's list of the component's files, below the sysroot.
const MANIFEST: &str = "lib/rustlib/manifest-rust-src";
/// Files without which `core` does not build; the lock file tells a whole library from a part of one.
const PROOF: [&str; 3] = ["Cargo.lock", "core/Cargo.toml", "core/src/lib.rs"];

pub(super) fn look(surroundings: &Surroundings) -> Result<Found> {
    let library = surroundings.sysroot.join(LIBRARY);
    if is_whole(&library) {
        Ok(Found::Ready(format!("of Rust {}", surroundings.rust_version)))
    } else {
        Ok(Found::Missing(format!("the source of `core` for Rust {}", surroundings.rust_version)))
    }
}

pub(super) fn install(surroundings: &Surroundings) -> Result<()> {
    let library = surroundings.sysroot.join(LIBRARY);
    let rustup = match from_rustup(surroundings, &library) {
        Ok(()) => return Ok(()),
        Err(error) => error,
    };
    println!("note     rustup could not get it, trying Debian's package");
    from_debian(surroundings, &library).map_err(|debian| {
        anyhow!(
            "neither rustup nor Debian gave it: run `rustup component add rust-src` with a network\n\
            rustup: {rustup:#}\nDebian: {debian:#}"
        )
    })
}

fn from_rustup(surroundings: &Surroundings, library: &Path) -> Result<()> {
    let component = |action: &str| {
        Tool::new("rustup")
            .args(["component", action, "rust-src"])
            .dir(&surroundings.root)
            .env_remove("RUST_BACKTRACE")
            .within(RUSTUP_TIMEOUT)
    };
    component("add").output()?;
    if is_whole(library) {
        return Ok(());
    }
    // rustup's books say that it is installed: somebody removed the files. It cannot remove what is not there,
    // and does not add what it believes to have.
    fill_in(&surroundings.sysroot)?;
    component("remove").output()?;
    component("add").output()?;
    if !is_whole(library) {
        bail!("rustup says that rust-src is installed, and {} is not there", library.display());
    }
    Ok(())
}

/// Makes an empty file for each that rustup would remove and that is missing.
fn fill_in(sysroot: &Path) -> Result<()> {
    let manifest = sysroot.join(MANIFEST);
    let text =
        fs::read_to_string(&manifest).with_context(|| format!("cannot read {}", manifest.display()))?;
    for file in text.lines().filter_map(|line| line.strip_prefix("file:")) {
        let path = sysroot.join(file);
        if path.exists() {
            continue;
        }
        let folder = path.parent().context("a file is in a folder")?;
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        fs::write(&path, "").with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

fn from_debian(surroundings: &Surroundings, library: &Path) -> Result<()> {
    let temporary = temporary()?;
    let version = &surroundings.rust_version;
    let unpacked = debian::unpack("rust-src", version, temporary.path())?;
    let source = unpacked.join(format!("usr/src/rustc-{version}/library"));
    if !is_whole(&source) {
        bail!("Debian's package has no {}", source.display());
    }
    // Copied beside its place and renamed, so that nobody ever sees half of it.
    let parent = library.parent().context("the library has a parent folder")?;
    fs::create_dir_all(parent).with_context(|| format!("cannot make {}", parent.display()))?;
    let beside = remove(parent.join(".library.new"))?;
    Tool::new("cp").args(["-r", "--"]).args([&source, &beside]).output()?;
    remove(library.to_owned())?;
    fs::rename(&beside, library).with_context(|| format!("cannot rename to {}", library.display()))
}

fn remove(folder: PathBuf) -> Result<PathBuf> {
    match fs::remove_dir_all(&folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", folder.display()))
        }
        _ => Ok(folder),
    }
}

/// Empty files are what `fill_in` made.
fn is_whole(library: &Path) -> bool {
    PROOF.iter().all(|file| fs::metadata(library.join(file)).is_ok_and(|file| file.len() > 0))
}
