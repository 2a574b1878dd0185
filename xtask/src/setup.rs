//! `cargo xtask setup`: everything that building and running need, on a machine that has none of it. Every
//! step first looks whether there is anything to do, so a second run changes nothing and takes no time.
//!
//! It keeps nothing of its own: what it downloads and builds on the way lives in temporary folders.

mod bpf_linker;
mod debian;
mod machine;
pub(crate) mod packages;
mod rust_src;

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use tempfile::TempDir;

use crate::process::Tool;
use crate::{repository, signals};

/// Prefix of the temporary folders. Those left by a run that was killed are removed by the next.
const TEMPORARY_PREFIX: &str = "lockstep-setup-";

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Get what is missing
    Install,
    /// Only say what is missing
    Check,
}

/// What a look at the machine shows.
enum Found {
    /// There is nothing to do; what was found
    Ready(String),
    /// It is not there, and the step's `install` can get it; what exactly is missing
    Missing(String),
}

/// What steps need to know.
struct Surroundings {
    root: PathBuf,
    rust_version: String,
    /// Of the pinned toolchain
    sysroot: PathBuf,
    cargo_home: PathBuf,
}

/// One thing that must be there.
struct Step {
    name: &'static str,
    /// Looks without changing anything. An error is something that no install can mend.
    look: fn(&Surroundings) -> Result<Found>,
    install: fn(&Surroundings) -> Result<()>,
    /// A failure leaves the later steps nothing to stand on
    required_by_later: bool,
}

/// In this order.
const STEPS: &[Step] = &[
    Step { name: "root", look: machine::root, install: machine::cannot, required_by_later: true },
    Step {
        name: "architecture",
        look: machine::architecture,
        install: machine::cannot,
        required_by_later: true,
    },
    Step { name: "kernel", look: machine::kernel, install: machine::cannot, required_by_later: true },
    Step { name: "BTF", look: machine::btf, install: machine::cannot, required_by_later: true },
    Step { name: "bpffs", look: machine::bpffs, install: machine::mount_bpffs, required_by_later: false },
    Step { name: "packages", look: packages::look, install: packages::install, required_by_later: true },
    Step { name: "Rust", look: machine::rust, install: machine::cannot, required_by_later: true },
    Step { name: "rust-src", look: rust_src::look, install: rust_src::install, required_by_later: false },
    Step {
        name: "bpf-linker",
        look: bpf_linker::look,
        install: bpf_linker::install,
        required_by_later: false,
    },
];

/// Goes through the steps, a line each. The exit code says whether everything is there.
pub(crate) fn run(mode: Mode) -> Result<ExitCode> {
    let surroundings = surroundings()?;
    if mode == Mode::Install {
        remove_leftovers(&surroundings.cargo_home)?;
    }
    let mut lock = None;
    let mut complete = true;
    for step in STEPS {
        let good = match take(step, &surroundings, mode, &mut lock) {
            Ok(good) => good,
            Err(error) => {
                println!("failed   {}: {error:#}", step.name);
                false
            }
        };
        if signals::received().is_some() {
            bail!("interrupted in the step `{}`", step.name);
        }
        complete &= good;
        if !good && step.required_by_later && mode == Mode::Install {
            break;
        }
    }
    if !complete && mode == Mode::Check {
        println!("run `cargo xtask setup` as root to get what is missing");
    }
    Ok(if complete { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Answers whether the step's thing is there in the end.
fn take(step: &Step, surroundings: &Surroundings, mode: Mode, lock: &mut Option<File>) -> Result<bool> {
    if let Found::Ready(what) = (step.look)(surroundings)? {
        println!("ok       {}: {what}", step.name);
        return Ok(true);
    }
    if mode == Mode::Install && lock.is_none() {
        *lock = Some(exclusive(&surroundings.cargo_home)?);
    }
    // While we waited for the lock, another run may have done the work: look again.
    let missing = match (step.look)(surroundings)? {
        Found::Ready(what) => {
            println!("ok       {}: {what}", step.name);
            return Ok(true);
        }
        Found::Missing(what) => what,
    };
    if mode == Mode::Check {
        println!("missing  {}: {missing}", step.name);
        return Ok(false);
    }
    println!("getting  {}: {missing}", step.name);
    std::io::stdout().flush().context("cannot write")?;
    (step.install)(surroundings)?;
    match (step.look)(surroundings)? {
        Found::Ready(what) => println!("done     {}: {what}", step.name),
        Found::Missing(what) => bail!("it was installed, and is still missing: {what}"),
    }
    Ok(true)
}

fn surroundings() -> Result<Surroundings> {
    let root = repository::root();
    let rust_version = repository::rust_version(&root)?;
    let sysroot = Tool::new("rustc").args(["--print", "sysroot"]).dir(&root).stdout()?;
    let sysroot = String::from_utf8(sysroot).context("the sysroot's path is not UTF-8")?;
    let cargo_home = std::env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| std::env::home_dir().map(|home| home.join(".cargo")))
        .context("neither CARGO_HOME nor HOME is set")?;
    Ok(Surroundings { root, rust_version, sysroot: PathBuf::from(sysroot.trim()), cargo_home })
}

/// One set-up at a time. The lock is on cargo's own folder, so that no lock file stays behind; it ends with
/// the file handle, however this process ends.
fn exclusive(cargo_home: &Path) -> Result<File> {
    let folder = open(cargo_home)?;
    folder.lock().with_context(|| format!("cannot lock {}", cargo_home.display()))?;
    Ok(folder)
}

/// Removes what a killed run left. While somebody holds the lock, a folder may be in use, and is left alone.
fn remove_leftovers(cargo_home: &Path) -> Result<()> {
    let folder = open(cargo_home)?;
    if folder.try_lock().is_err() {
        return Ok(());
    }
    let entries = std::fs::read_dir(std::env::temp_dir()).context("cannot read the temporary folder")?;
    for entry in entries.flatten() {
        if entry.file_name().to_string_lossy().starts_with(TEMPORARY_PREFIX)
            && let Err(error) = std::fs::remove_dir_all(entry.path())
        {
            println!("note     cannot remove {}: {error}", entry.path().display());
        }
    }
    Ok(())
}

fn open(folder: &Path) -> Result<File> {
    File::open(folder).with_context(|| format!("cannot open {}", folder.display()))
}

/// A folder that is gone when the step ends.
fn temporary() -> Result<TempDir> {
    tempfile::Builder::new().prefix(TEMPORARY_PREFIX).tempdir().context("cannot make a temporary folder")
}
