//! The data directory, the cluster's secret, the certificates.

use std::fs::File;
use std::path::{Path, PathBuf};

use lockstep_raft_store::config::RESUME_FREE;
use nix::sys::statfs::{FsType, NFS_SUPER_MAGIC, OVERLAYFS_SUPER_MAGIC, TMPFS_MAGIC, statfs};
use nix::unistd::{AccessFlags, access};

use super::Findings;
use crate::config::Config;
use crate::tls;

/// Less is soon full: the log keeps up to a snapshot's worth of entries beside two snapshots.
const MIN_FREE: u64 = 256 << 20;
/// `linux/magic.h`; not in nix.
const RAMFS_MAGIC: FsType = FsType(0x8584_58f6);

/// Whether a daemon has this data directory open: it locks a file in it.
pub(super) fn is_running(data_dir: &Path) -> bool {
    let Ok(file) = File::open(data_dir.join("lock")) else { return false };
    matches!(file.try_lock_shared(), Err(std::fs::TryLockError::WouldBlock))
}

pub(super) fn check(config: &Config, running: bool, findings: &mut Findings) {
    let daemon = if running { "runs" } else { "is not running" };
    findings.ok("daemon", format!("lockstepd {daemon} on {}", config.node.data_dir.display()));
    data_dir(&config.node.data_dir, findings);
    match tls::read_secret(&config.cluster.secret_file) {
        Ok(_) => findings.ok("cluster.secret_file", config.cluster.secret_file.display().to_string()),
        Err(error) => findings.fail("cluster.secret_file", format!("{error:#}")),
    }
    match tls::Tls::load(&config.tls) {
        Ok(_) => findings.ok("tls", if config.tls.ca.is_some() { "files are read" } else { "none" }),
        Err(error) => findings.fail("tls", format!("{error:#}")),
    }
}

fn data_dir(path: &Path, findings: &mut Findings) {
    const SUBJECT: &str = "node.data_dir";
    let shown = path.display();
    let there = existing(path);
    if let Err(errno) = access(&there, AccessFlags::W_OK | AccessFlags::X_OK) {
        return findings.fail(SUBJECT, format!("{} cannot be written to: {errno}", there.display()));
    }
    let file_system = match statfs(&there) {
        Ok(file_system) => file_system,
        Err(errno) => return findings.fail(SUBJECT, format!("{}: {errno}", there.display())),
    };
    let kind = file_system.filesystem_type();
    let free = file_system.blocks_available() * file_system.block_size() as u64;
    if kind == TMPFS_MAGIC || kind == RAMFS_MAGIC {
        findings.fail(SUBJECT, format!("{shown} is in memory: a voter that forgets what it acknowledged can lose the cluster's intent; put it on a disk"));
    } else if kind == OVERLAYFS_SUPER_MAGIC || kind == NFS_SUPER_MAGIC {
        findings.warn(SUBJECT, format!("{shown} is on an overlay or a network file system: the log needs a disk of this machine that outlives the container"));
    } else {
        space(path, free, findings);
    }
}

fn space(path: &Path, free: u64, findings: &mut Findings) {
    const SUBJECT: &str = "node.data_dir";
    let shown = path.display();
    if free < RESUME_FREE {
        findings.fail(SUBJECT, format!("{shown}: the disk is full ({free} bytes free): a store that has stopped because of that goes on by itself when {RESUME_FREE} are free; allow {} MiB", MIN_FREE >> 20));
    } else if free < MIN_FREE {
        findings.warn(SUBJECT, format!("{shown}: {} MiB free; allow {} MiB", free >> 20, MIN_FREE >> 20));
    } else {
        findings.ok(SUBJECT, format!("{shown}: {} MiB free", free >> 20));
    }
}

/// The folder itself, or the first above it that there is.
fn existing(path: &Path) -> PathBuf {
    path.ancestors().find(|path| path.exists()).unwrap_or(Path::new("/")).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_data_directory_in_memory_fails() {
        let mut findings = Findings::default();
        data_dir(Path::new("/dev/shm/lockstep-doctor-nothing"), &mut findings);
        assert_eq!(findings.failed(), 1, "{findings:?}");
        assert!(findings.0[0].text.contains("is in memory"), "{findings:?}");
    }

    #[test]
    fn a_full_disk_fails_and_says_when_the_store_goes_on() {
        for (free, failed) in [(0, 1), (RESUME_FREE - 1, 1), (RESUME_FREE, 0), (MIN_FREE, 0)] {
            let mut findings = Findings::default();
            space(Path::new("/data"), free, &mut findings);
            assert_eq!(findings.failed(), failed, "{free} bytes free: {findings:?}");
            assert_eq!(findings.0[0].text.contains("16777216"), failed == 1, "{findings:?}");
        }
    }

    #[test]
    fn a_locked_data_directory_is_one_of_a_running_daemon() {
        let folder = std::env::temp_dir().join(format!("lockstep-doctor-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        assert!(!is_running(&folder), "no lock file");
        let file = File::create(folder.join("lock")).unwrap();
        assert!(!is_running(&folder), "nobody holds it");
        file.try_lock().unwrap();
        assert!(is_running(&folder));
        drop(file);
        assert!(!is_running(&folder));
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
