//! The system packages that building and running need.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

use anyhow::{Context, Result};

use super::{Found, Surroundings};
use crate::process::Tool;

/// A program (or header) that is needed, and the Debian package that has it. Whoever has the program from
/// elsewhere need not have the package.
const NEEDED: &[(&str, &str)] = &[
    // The C compiler: the linker of every Rust program, and TLS has parts in C.
    ("cc", "gcc"),
    ("/usr/include/stdlib.h", "libc6-dev"),
    // Cluster tests: namespaces and links; nothing may stay behind in the packet filter.
    ("ip", "iproute2"),
    ("nft", "nftables"),
    // Mutants and the clean clone.
    ("git", "git"),
];

/// What a benchmark measures beside us, and with. Got only when it is run.
const NEEDED_FOR_BENCH: &[(&str, &[(&str, &str)])] = &[
    ("e2e", &[("haproxy", "haproxy"), ("nginx", "nginx"), ("wrk", "wrk")]),
    ("failover", &[("keepalived", "keepalived")]),
    ("sync", &[("conntrackd", "conntrackd"), ("conntrack", "conntrack"), ("nginx", "nginx"), ("wrk", "wrk")]),
];

/// Those of them that are no services.
const COMMANDS: &[&str] = &["wrk", "conntrack"];

/// Asked by Debian's packages whether they may start their services.
const POLICY: &str = "/usr/sbin/policy-rc.d";
/// 101: they may not.
const FORBID: &str = "#!/bin/sh\nexit 101\n";

/// Where programs are, beside what PATH says: a login without `sbin` in its PATH is common.
const SYSTEM_FOLDERS: &[&str] =
    &["/usr/local/sbin", "/usr/sbin", "/sbin", "/usr/local/bin", "/usr/bin", "/bin"];

pub(super) fn look(_: &Surroundings) -> Result<Found> {
    let missing = missing(NEEDED);
    if missing.is_empty() {
        let all: Vec<&str> = NEEDED.iter().map(|(_, package)| *package).collect();
        return Ok(Found::Ready(all.join(", ")));
    }
    Ok(Found::Missing(missing.join(", ")))
}

pub(super) fn install(_: &Surroundings) -> Result<()> {
    get(&missing(NEEDED))
}

/// Gets what the benchmark `what` needs beside all the rest. A web server and a proxy that nobody asked to run on this
/// machine are not started, now or at its next start.
pub(crate) fn for_bench(what: &str) -> Result<()> {
    let Some((_, needed)) = NEEDED_FOR_BENCH.iter().find(|(bench, _)| *bench == what) else { return Ok(()) };
    let missing = missing(needed);
    if missing.is_empty() {
        let all: Vec<&str> = needed.iter().map(|(_, package)| *package).collect();
        println!("ok       packages of the benchmark: {}", all.join(", "));
        return Ok(());
    }
    println!("getting  packages of the benchmark: {}", missing.join(", "));
    let policy = Policy::forbid()?;
    get(&missing)?;
    drop(policy);
    if exists("systemctl") {
        for package in missing.iter().filter(|package| !COMMANDS.contains(package)) {
            Tool::new("systemctl").args(["disable", "--quiet", package]).output()?;
        }
    }
    println!("done     packages of the benchmark");
    Ok(())
}

/// While it lives, no package starts a service.
struct Policy {
    /// Whoever has one already forbids or allows as they like.
    ours: bool,
}

impl Policy {
    fn forbid() -> Result<Self> {
        let file = File::options().write(true).create_new(true).mode(0o755).open(POLICY);
        match file {
            Ok(mut file) => {
                let policy = Self { ours: true };
                file.write_all(FORBID.as_bytes()).with_context(|| format!("cannot write {POLICY}"))?;
                Ok(policy)
            }
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(Self { ours: false }),
            Err(error) => Err(error).with_context(|| format!("cannot make {POLICY}")),
        }
    }
}

impl Drop for Policy {
    fn drop(&mut self) {
        if self.ours
            && let Err(error) = std::fs::remove_file(POLICY)
        {
            println!("note     cannot remove {POLICY}: {error}");
        }
    }
}

fn get(packages: &[&str]) -> Result<()> {
    apt(&["update"]).output()?;
    apt(&["install", "--yes", "--no-install-recommends"]).args(packages).output()?;
    Ok(())
}

fn apt(arguments: &[&str]) -> Tool {
    // Another apt or dpkg at work is waited for.
    Tool::new("apt-get")
        .args(["-q", "-o", "DPkg::Lock::Timeout=300"])
        .args(arguments)
        .env("DEBIAN_FRONTEND", "noninteractive")
}

fn missing(needed: &[(&str, &'static str)]) -> Vec<&'static str> {
    needed.iter().filter(|(file, _)| !exists(file)).map(|(_, package)| *package).collect()
}

/// PATH, and the system's folders behind it.
pub(crate) fn search_path() -> Vec<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).chain(SYSTEM_FOLDERS.iter().map(PathBuf::from)).collect()
}

fn exists(file: &str) -> bool {
    // Joining an absolute path replaces the folder, so headers are looked up as they are.
    search_path().iter().any(|folder| folder.join(file).is_file())
}
