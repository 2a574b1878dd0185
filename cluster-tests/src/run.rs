//! One run: its unique name, its folders, and the record from which a later run cleans up after a killed one.
//!
//! What a run makes outside its process is named after it: namespaces `<run>-…`, pins under
//! `/sys/fs/bpf/<run>`, files under the run's temporary folder. The record `/run/lockstep-demo/<run>` holds the
//! process that owns the run; once that is gone, the run is stale.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::sys::statfs::{BPF_FS_MAGIC, statfs};
use nix::unistd::Pid;

use crate::namespace::{self, NETNS_DIR};
use crate::wait;

const REGISTRY: &str = "/run/lockstep-demo";
const BPFFS: &str = "/sys/fs/bpf";
/// Starts the name of every run and so of everything a run makes.
const PREFIX: &str = "lsd";

/// A run of this process; cleaned up when dropped.
#[derive(Debug)]
pub struct Run {
    name: String,
}

impl Run {
    /// Cleans up after dead runs and begins a new one.
    pub fn begin() -> anyhow::Result<Self> {
        require_bpffs()?;
        // A run that others see has an owner, and the registry stays until it is there.
        let _registry = lock_registry()?;
        clean_stale()?;
        let run = Run { name: format!("{PREFIX}{:x}", std::process::id()) };
        // A run of a process that had our id and is dead would have been cleaned just now.
        fs::create_dir_all(run.registry()).context("cannot record the run")?;
        fs::write(run.registry().join("owner"), Owner::this_process()?.to_line())
            .context("cannot record the run")?;
        fs::create_dir(run.folder()).context("cannot make the run's temporary folder")?;
        fs::create_dir(run.pins()).context("cannot make the run's pin folder")?;
        Ok(run)
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The name of a namespace of this run.
    pub fn namespace(&self, what: &str) -> String {
        format!("{}-{what}", self.name)
    }

    /// Its temporary folder.
    pub fn folder(&self) -> PathBuf {
        folder(&self.name)
    }

    /// Its folder in bpffs.
    pub fn pins(&self) -> PathBuf {
        pins(&self.name)
    }

    fn registry(&self) -> PathBuf {
        Path::new(REGISTRY).join(&self.name)
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        let cleaned = clean(&self.name).and_then(|()| {
            let _registry = lock_registry()?;
            unrecord(&self.name)
        });
        if let Err(error) = cleaned {
            eprintln!("{error:#}");
        }
    }
}

/// The process that owns a run: its id alone could have been given to another since.
#[derive(Debug, PartialEq, Eq)]
struct Owner {
    pid: i32,
    started: u64,
}

impl Owner {
    fn this_process() -> anyhow::Result<Self> {
        let pid = std::process::id() as i32;
        let started = start_time(pid).context("cannot read this process's start time")?;
        Ok(Owner { pid, started })
    }

    fn to_line(&self) -> String {
        format!("{} {}\n", self.pid, self.started)
    }

    fn parse(line: &str) -> Option<Self> {
        let (pid, started) = line.trim().split_once(' ')?;
        Some(Owner { pid: pid.parse().ok()?, started: started.parse().ok()? })
    }

    fn lives(&self) -> bool {
        start_time(self.pid) == Some(self.started)
    }
}

/// When a process was started, in ticks since boot (field 22 of /proc/PID/stat); none once it is gone or a zombie.
fn start_time(pid: i32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field is the command in brackets and may hold anything.
    let rest = &stat[stat.rfind(')')? + 1..];
    let mut fields = rest.split_whitespace();
    if fields.next()? == "Z" {
        return None;
    }
    fields.nth(18)?.parse().ok()
}

/// Until the file is closed, no other process reads or changes the registry. It may not exist yet, so its parent is locked.
fn lock_registry() -> anyhow::Result<File> {
    let parent = Path::new(REGISTRY).parent().context("the registry has a parent")?;
    let file = File::open(parent).with_context(|| format!("cannot open {}", parent.display()))?;
    file.lock().with_context(|| format!("cannot lock {}", parent.display()))?;
    Ok(file)
}

/// Cleans up after every run whose process is gone, with the registry locked.
fn clean_stale() -> anyhow::Result<()> {
    let entries = match fs::read_dir(REGISTRY) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error).with_context(|| format!("cannot read {REGISTRY}")),
    };
    for entry in entries {
        let entry = entry.with_context(|| format!("cannot read {REGISTRY}"))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if !name.starts_with(PREFIX) {
            continue;
        }
        let owner = fs::read_to_string(entry.path().join("owner")).ok();
        if owner.as_deref().and_then(Owner::parse).is_some_and(|owner| owner.lives()) {
            continue;
        }
        clean(&name)?;
        unrecord(&name)?;
    }
    Ok(())
}

/// Removes everything that bears the run's name, but its record.
fn clean(name: &str) -> anyhow::Result<()> {
    let prefix = format!("{name}-");
    let mut namespaces = Vec::new();
    if let Ok(entries) = fs::read_dir(NETNS_DIR) {
        for entry in entries.flatten() {
            let found = entry.file_name().to_string_lossy().into_owned();
            if found.starts_with(&prefix) {
                namespaces.push(found);
            }
        }
    }
    kill_inside(&namespaces)?;
    for namespace in &namespaces {
        namespace::remove(namespace)?;
    }
    remove_tree(&pins(name))?;
    remove_tree(&folder(name))
}

/// Removes the run's record, with the registry locked.
fn unrecord(name: &str) -> anyhow::Result<()> {
    remove_tree(&Path::new(REGISTRY).join(name))?;
    // The last run takes the registry with it; another run's entry makes this fail, which is right.
    match fs::remove_dir(REGISTRY) {
        Ok(()) => {}
        Err(error) => match error.raw_os_error().map(Errno::from_raw) {
            Some(Errno::ENOTEMPTY | Errno::EEXIST | Errno::ENOENT) => {}
            _ => return Err(error).with_context(|| format!("cannot remove {REGISTRY}")),
        },
    }
    Ok(())
}

/// Kills what still runs in these namespaces and waits until it is gone.
fn kill_inside(namespaces: &[String]) -> anyhow::Result<()> {
    use std::os::unix::fs::MetadataExt;
    let inodes: Vec<u64> = namespaces
        .iter()
        .filter_map(|name| fs::metadata(Path::new(NETNS_DIR).join(name)).ok().map(|m| m.ino()))
        .collect();
    if inodes.is_empty() {
        return Ok(());
    }
    wait::until("processes of a former run to end", Duration::from_secs(10), || {
        let mut found = false;
        for entry in fs::read_dir("/proc").context("cannot read /proc")?.flatten() {
            let Ok(pid) = entry.file_name().to_string_lossy().parse::<i32>() else { continue };
            if pid == std::process::id() as i32 {
                continue;
            }
            let Ok(meta) = fs::metadata(format!("/proc/{pid}/ns/net")) else { continue };
            if inodes.contains(&meta.ino()) {
                found = true;
                match kill(Pid::from_raw(pid), Signal::SIGKILL) {
                    Ok(()) | Err(Errno::ESRCH) => {}
                    Err(error) => return Err(error).context("cannot kill a process of a former run"),
                }
            }
        }
        Ok((!found).then_some(()))
    })
    .or_else(|error| if crate::interrupt::requested() { Ok(()) } else { Err(error) })
}

fn folder(name: &str) -> PathBuf {
    std::env::temp_dir().join(format!("lockstep-{name}"))
}

fn pins(name: &str) -> PathBuf {
    Path::new(BPFFS).join(name)
}

fn remove_tree(path: &Path) -> anyhow::Result<()> {
    match fs::remove_dir_all(path) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error).with_context(|| format!("cannot remove {}", path.display())),
    }
}

fn require_bpffs() -> anyhow::Result<()> {
    let found = statfs(BPFFS).with_context(|| format!("cannot look at {BPFFS}"))?;
    if found.filesystem_type() != BPF_FS_MAGIC {
        bail!("no bpffs is mounted at {BPFFS}: run `cargo xtask setup`");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_owner_is_alive_only_with_its_start_time() {
        let here = Owner::this_process().unwrap();
        assert_eq!(Owner::parse(&here.to_line()), Some(Owner { ..here }));
        assert!(here.lives());
        assert!(!Owner { pid: here.pid, started: here.started + 1 }.lives());
    }
}
