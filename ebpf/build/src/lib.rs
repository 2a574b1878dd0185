//! What build scripts share that embed eBPF programs: it builds a crate for bpfel-unknown-none and leaves the
//! object in the script's `OUT_DIR`. When the eBPF toolchain is missing, it says so in one sentence instead of
//! a linker's backtrace.

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

const TARGET: &str = "bpfel-unknown-none";
/// Its LLVM must be the toolchain's own: an older one cannot read rustc's bitcode.
const BPF_LINKER_VERSION: &str = "0.13.0";

/// What to build. Folders are as the build script's crate sees them.
#[derive(Debug, Clone, Copy)]
pub struct Programs {
    /// The crate of the programs: a workspace of its own, built with flags of its own.
    pub folder: &'static str,
    /// Its binary.
    pub binary: &'static str,
    /// What its own sources include; a change of any rebuilds the object.
    pub sources: &'static [&'static str],
    /// The object's name in `OUT_DIR`.
    pub object: &'static str,
}

impl Programs {
    /// Builds the object, or fails the build with the reason.
    pub fn build(&self) {
        // `error=` prints one line and fails the build; a panic would bury it under a backtrace.
        if let Err(message) = build(self) {
            println!("cargo::error={message}");
        }
    }
}

fn build(programs: &Programs) -> Result<(), String> {
    let here = PathBuf::from(var("CARGO_MANIFEST_DIR")?);
    let out = PathBuf::from(var("OUT_DIR")?);

    println!("cargo::rerun-if-changed=build.rs");
    for name in [programs.folder].iter().chain(programs.sources) {
        println!("cargo::rerun-if-changed={}", here.join(name).join("Cargo.toml").display());
        println!("cargo::rerun-if-changed={}", here.join(name).join("src").display());
    }
    println!("cargo::rerun-if-env-changed=PATH");

    let sysroot = sysroot()?;
    let linker = toolchain(&sysroot)?;
    // A set-up that is undone later must be noticed, and so must a new one.
    println!("cargo::rerun-if-changed={}", linker.display());

    // One place for all profiles and for clippy (OUT_DIR is TARGET/PROFILE/build/NAME/out), so that `core` is
    // built once and not once for each.
    let target_dir = out.ancestors().nth(4).unwrap_or(&out).join("ebpf");
    let object = compile(&here.join(programs.folder), programs.binary, &target_dir, &sysroot, &linker)?;
    let embedded = out.join(programs.object);
    std::fs::copy(&object, &embedded).map_err(|error| {
        format!("{} cannot be copied to {}: {error}", object.display(), embedded.display())
    })?;
    Ok(())
}

fn var(name: &str) -> Result<OsString, String> {
    env::var_os(name).ok_or_else(|| format!("{name} is not set: this is run by cargo"))
}

fn sysroot() -> Result<PathBuf, String> {
    let rustc = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = Command::new(&rustc)
        .args(["--print", "sysroot"])
        .output()
        .map_err(|error| format!("{} cannot be run: {error}", rustc.to_string_lossy()))?;
    let path = String::from_utf8_lossy(&output.stdout);
    Ok(PathBuf::from(path.trim()))
}

/// Checks `rust-src` and bpf-linker; answers where the linker is.
fn toolchain(sysroot: &Path) -> Result<PathBuf, String> {
    let missing = |what: &str| {
        Err(format!(
            "the eBPF toolchain is not set up: {what}; run `cargo xtask setup` as root, then build again"
        ))
    };

    let core = sysroot.join("lib/rustlib/src/rust/library/core/src/lib.rs");
    println!("cargo::rerun-if-changed={}", core.display());
    if !core.is_file() {
        return missing("rust-src (the source of `core`) is missing");
    }

    let Some(linker) = find_linker() else {
        return missing(&format!("bpf-linker {BPF_LINKER_VERSION} is missing"));
    };
    let version =
        Command::new(&linker).arg("--version").env("LD_LIBRARY_PATH", library_path(sysroot)).output();
    let version = match version {
        Ok(output) => String::from_utf8_lossy(&output.stdout).trim().to_owned(),
        Err(error) => return missing(&format!("bpf-linker cannot be run ({error})")),
    };
    if version.split_whitespace().last() != Some(BPF_LINKER_VERSION) {
        return missing(&format!("bpf-linker {BPF_LINKER_VERSION} is missing (found {version:?})"));
    }
    Ok(linker)
}

fn find_linker() -> Option<PathBuf> {
    let cargo_home = env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| env::var_os("HOME").map(|home| PathBuf::from(home).join(".cargo")));
    let in_path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&in_path)
        .chain(cargo_home.map(|home| home.join("bin")))
        .map(|folder| folder.join("bpf-linker"))
        .find(|candidate| candidate.is_file())
}

/// bpf-linker loads the toolchain's own libLLVM.
fn library_path(sysroot: &Path) -> OsString {
    let mut paths = vec![sysroot.join("lib")];
    if let Some(inherited) = env::var_os("LD_LIBRARY_PATH") {
        paths.extend(env::split_paths(&inherited));
    }
    env::join_paths(paths).unwrap_or_else(|_| sysroot.join("lib").into_os_string())
}

fn compile(
    programs: &Path,
    binary: &str,
    target_dir: &Path,
    sysroot: &Path,
    linker: &Path,
) -> Result<PathBuf, String> {
    let flags = ["-Cdebuginfo=2", "-Clink-arg=--btf", "-Ctarget-cpu=v3"];
    let arch = env::var("CARGO_CFG_TARGET_ARCH").unwrap_or_else(|_| "x86_64".into());
    let cfg = format!("--cfg=bpf_target_arch=\"{arch}\"");
    let flags: Vec<&str> = flags.into_iter().chain([cfg.as_str()]).collect();

    let mut cargo = Command::new(var("CARGO")?);
    // What cargo, clippy or the user set for the host build must not reach the kernel build: flags, wrappers
    // (clippy-driver), target directories, profiles.
    for (key, _) in env::vars_os() {
        if key.to_str().is_some_and(belongs_to_host_build) {
            cargo.env_remove(key);
        }
    }
    cargo
        .current_dir(programs)
        .env("RUSTC_BOOTSTRAP", "1")
        .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f"))
        .env("CARGO_TARGET_BPFEL_UNKNOWN_NONE_LINKER", linker)
        .env("LD_LIBRARY_PATH", library_path(sysroot))
        .args(["build", "--quiet", "--release", "--locked", "-Z", "build-std=core", "--target", TARGET])
        .args(["--bin", binary, "--target-dir"])
        .arg(target_dir);

    let output = cargo.output().map_err(|error| format!("cargo cannot be run: {error}"))?;
    if !output.status.success() {
        // The compiler's own words, then the one line that says where they come from.
        eprint!("{}", String::from_utf8_lossy(&output.stderr));
        eprintln!("the eBPF programs in {} did not build", programs.display());
        std::process::exit(1);
    }
    Ok(target_dir.join(TARGET).join("release").join(binary))
}

fn belongs_to_host_build(key: &str) -> bool {
    let kept = ["CARGO_HOME", "CARGO_MAKEFLAGS"];
    let kept_prefixes = ["CARGO_NET_", "CARGO_HTTP_", "CARGO_REGISTR", "CARGO_SOURCE_"];
    if kept.contains(&key) || kept_prefixes.iter().any(|prefix| key.starts_with(prefix)) {
        return false;
    }
    key.starts_with("CARGO")
        || key.starts_with("RUSTC")
        || key.starts_with("RUSTDOC")
        || key == "RUSTFLAGS"
        || key == "CLIPPY_ARGS"
        || key == "LD_LIBRARY_PATH"
}
