//! The source of `core`, which the eBPF programs are built with. First from rustup; where its server cannot be
//! reached, from Debian, which packages the same release.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::{Found, Surroundings, debian, temporary};
use crate::process::{Show, Tool};

/// The component is small, and an unreachable server must not hold us up.
const RUSTUP_TIMEOUT: Duration = Duration::from_secs(60);
/// Below the sysroot.
const LIBRARY: &str = "lib/rustlib/src/rust/library";
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
    from_debian(surroundings, &library).with_context(|| {
        format!("neither rustup nor Debian gave it; run `rustup component add rust-src` with a network. rustup said: {rustup:#}. Debian")
    })
}

fn from_rustup(surroundings: &Surroundings, library: &Path) -> Result<()> {
    let component = |action: &str| {
        Tool::new("rustup")
            .args(["component", action, "rust-src"])
            .dir(&surroundings.root)
            .within(RUSTUP_TIMEOUT)
    };
    component("add").output()?;
    if is_whole(library) {
        return Ok(());
    }
    // rustup believes that it is installed: somebody removed the files. It may also refuse to remove what is
    // not there; adding it again is what counts.
    component("remove").run(Show::Nothing)?;
    component("add").output()?;
    if !is_whole(library) {
        bail!("rustup says that rust-src is installed, and {} is not there", library.display());
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
    std::fs::create_dir_all(parent).with_context(|| format!("cannot make {}", parent.display()))?;
    let beside = remove(parent.join(".library.new"))?;
    Tool::new("cp").args(["-r", "--"]).args([&source, &beside]).output()?;
    remove(library.to_owned())?;
    std::fs::rename(&beside, library).with_context(|| format!("cannot rename to {}", library.display()))
}

fn remove(folder: PathBuf) -> Result<PathBuf> {
    match std::fs::remove_dir_all(&folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", folder.display()))
        }
        _ => Ok(folder),
    }
}

fn is_whole(library: &Path) -> bool {
    PROOF.iter().all(|file| library.join(file).is_file())
}
