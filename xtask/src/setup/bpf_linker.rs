//! bpf-linker, built against the toolchain's own LLVM: then it reads exactly the bitcode that rustc writes, and
//! no LLVM package is needed.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use super::{Found, Surroundings, temporary};
use crate::cargo::cargo;
use crate::process::{Show, Tool};

const VERSION: &str = "0.13.0";
/// The LLVM of the pinned Rust, as bpf-linker's feature and in the library's file name.
const LLVM_FEATURE: &str = "llvm-22";
const LLVM_FILE_PREFIX: &str = "libLLVM.so.22.";

pub(super) fn look(surroundings: &Surroundings) -> Result<Found> {
    let program = program(surroundings);
    if !program.is_file() {
        return Ok(Found::Missing(format!("{VERSION} in {}", surroundings.cargo_home.join("bin").display())));
    }
    // Cargo lends its own library path to what it runs; the linker must find its LLVM without.
    let found = Tool::new(&program).args(["--version"]).env_remove("LD_LIBRARY_PATH").run(Show::Nothing)?;
    let text = found.output.trim();
    if found.status.success() && text.split_whitespace().last() == Some(VERSION) {
        Ok(Found::Ready(VERSION.into()))
    } else {
        Ok(Found::Missing(format!("{VERSION} is needed, and the one that is there says {text:?}")))
    }
}

pub(super) fn install(surroundings: &Surroundings) -> Result<()> {
    let prefix = surroundings.cargo_home.join(format!("lib/bpf-linker-{VERSION}"));
    link_llvm(&surroundings.sysroot, &prefix)?;
    let temporary = temporary()?;
    cargo(&surroundings.root)
        .args(["install", "bpf-linker", "--version", VERSION, "--locked", "--force"])
        .args(["--no-default-features", "--features", LLVM_FEATURE, "--root"])
        .args([&surroundings.cargo_home])
        .env("LLVM_PREFIX", &prefix)
        .env("CARGO_TARGET_DIR", temporary.path())
        .env_remove("RUSTFLAGS")
        .env_remove("CARGO_BUILD_TARGET")
        .output()?;
    Ok(())
}

fn program(surroundings: &Surroundings) -> PathBuf {
    surroundings.cargo_home.join("bin/bpf-linker")
}

/// A folder that looks like an LLVM installation. It stays: the linker looks for its LLVM there when it runs.
fn link_llvm(sysroot: &Path, prefix: &Path) -> Result<()> {
    let library = toolchain_llvm(&sysroot.join("lib"))?;
    let name = library.file_name().context("a library has a name")?;
    let folder = prefix.join("lib");
    std::fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    for link in [folder.join("libLLVM.so"), folder.join(name)] {
        if std::fs::read_link(&link).is_ok_and(|target| target == library) {
            continue;
        }
        if link.symlink_metadata().is_ok() {
            std::fs::remove_file(&link).with_context(|| format!("cannot remove {}", link.display()))?;
        }
        symlink(&library, &link).with_context(|| format!("cannot link {}", link.display()))?;
    }
    Ok(())
}

fn toolchain_llvm(folder: &Path) -> Result<PathBuf> {
    let entries = std::fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?;
    for entry in entries {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(LLVM_FILE_PREFIX) {
            return Ok(entry.path());
        }
    }
    bail!("{} has no {LLVM_FILE_PREFIX}*: the toolchain must come from rustup", folder.display())
}
