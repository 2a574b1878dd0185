//! What of the machine a run could leave changed, written down so that before and after can be compared.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::Context;

use crate::bpf::{self, Kind};
use crate::wait;

/// Names by kind of thing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    kinds: BTreeMap<&'static str, BTreeSet<String>>,
}

/// Folders whose entries a run could add to.
const FOLDERS: [&str; 4] = ["/tmp", "/run", "/run/netns", "/dev/shm"];
/// How long nothing may change before it counts as rest.
const REST: Duration = Duration::from_secs(2);
const SETTLE_LIMIT: Duration = Duration::from_secs(30);
const PINS: &str = "/sys/fs/bpf";
const SYSCTLS: [&str; 2] = ["/proc/sys/net", "/proc/sys/kernel"];
const PROGRAMS: [&str; 3] = ["lockstepd", "lockstep", "lockstep-cluster-tests"];
/// What differs by itself from one look to the next.
const RESTLESS: [&str; 6] =
    ["random/", "ns_last_pid", "pty/nr", "perf_event_max_sample_rate", "sched_domain", "nf_conntrack_count"];
/// What `ip netns` makes on its first use after a boot and never removes.
const ONCE: &str = "/run/netns";

impl Snapshot {
    /// Looks at everything.
    pub fn take() -> anyhow::Result<Self> {
        let mut kinds = BTreeMap::new();
        kinds.insert("links", lines(Command::new("ip").args(["-o", "-brief", "link"]))?);
        kinds.insert("addresses", lines(Command::new("ip").args(["-o", "-brief", "address"]))?);
        kinds.insert("routes", lines(Command::new("ip").args(["route", "show", "table", "all"]))?);
        for (name, kind) in
            [("eBPF programs", Kind::Program), ("eBPF maps", Kind::Map), ("eBPF links", Kind::Link)]
        {
            kinds.insert(name, bpf::ids(kind)?.into_iter().map(|id| id.to_string()).collect());
        }
        let mut pins = BTreeSet::new();
        walk(Path::new(PINS), &mut pins)?;
        kinds.insert("pins", pins);
        kinds.insert("nftables rules", lines(Command::new("nft").args(["list", "ruleset"]))?);
        kinds.insert("sysctls", sysctls()?);
        kinds.insert("processes", processes()?);
        let mut files = BTreeSet::new();
        for folder in FOLDERS {
            if Path::new(folder).is_dir() {
                for entry in fs::read_dir(folder).with_context(|| format!("cannot read {folder}"))? {
                    files.insert(entry?.path().display().to_string());
                }
            }
        }
        files.remove(ONCE);
        kinds.insert("files", files);
        Ok(Snapshot { kinds })
    }

    /// Looks until nothing changes any more: what ended shortly before may still be freed, after a grace period.
    pub fn take_settled() -> anyhow::Result<Self> {
        let mut last = Self::take()?;
        wait::until("the machine to come to rest", SETTLE_LIMIT, || {
            wait::pass(REST)?;
            let now = Self::take()?;
            let settled = last.differences(&now).is_empty();
            last = now;
            Ok(settled.then_some(()))
        })?;
        Ok(last)
    }

    /// What `later` has that this has not, and the other way round.
    pub fn differences(&self, later: &Snapshot) -> Vec<String> {
        let mut found = Vec::new();
        for (kind, before) in &self.kinds {
            let after = &later.kinds[kind];
            found.extend(after.difference(before).map(|name| format!("{kind}: left behind: {name}")));
            found.extend(before.difference(after).map(|name| format!("{kind}: gone: {name}")));
        }
        found
    }
}

fn lines(command: &mut Command) -> anyhow::Result<BTreeSet<String>> {
    let output = command.output().with_context(|| format!("cannot run {:?}", command.get_program()))?;
    anyhow::ensure!(
        output.status.success(),
        "{:?}: {}",
        command.get_program(),
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect())
}

fn walk(folder: &Path, found: &mut BTreeSet<String>) -> anyhow::Result<()> {
    for entry in fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))? {
        let path = entry?.path();
        if path.is_dir() && !path.is_symlink() {
            walk(&path, found)?;
        }
        found.insert(path.display().to_string());
    }
    Ok(())
}

fn sysctls() -> anyhow::Result<BTreeSet<String>> {
    let mut paths = BTreeSet::new();
    for root in SYSCTLS {
        walk(Path::new(root), &mut paths)?;
    }
    Ok(paths
        .into_iter()
        .filter(|path| !RESTLESS.iter().any(|part| path.contains(part)))
        // Some may only be written, and some refuse to be read in their state: neither has a value to compare.
        .filter_map(|path| Some(format!("{path} = {}", fs::read_to_string(&path).ok()?.trim())))
        .collect())
}

/// Processes of the programs that a run starts.
fn processes() -> anyhow::Result<BTreeSet<String>> {
    let mut found = BTreeSet::new();
    for entry in fs::read_dir("/proc").context("cannot read /proc")? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if !name.bytes().all(|b| b.is_ascii_digit()) {
            continue;
        }
        // Gone meanwhile, or a kernel thread.
        let Ok(program) = fs::read_link(entry.path().join("exe")) else { continue };
        let Some(program) = program.file_name().map(|name| name.to_string_lossy().into_owned()) else {
            continue;
        };
        if PROGRAMS.contains(&program.as_str()) {
            found.insert(format!("{name} {program}"));
        }
    }
    Ok(found)
}
