//! Small disks for the nodes' data, which can be filled, and emptied behind a daemon's back.
//!
//! Each is a file system in memory, in a mount namespace that a process holds for as long as the run: it outlives the node's
//! daemon as a disk does, and nothing is left of it after a run that was killed.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::Context;

use crate::process::Process;
use crate::programs;
use crate::topology::Node;
use crate::wait;

/// Above `lockstep_raft_store::config::RESUME_FREE`.
const MIB: usize = 48;
const LIMIT: Duration = Duration::from_secs(5);
const FILLER: &str = "filler";
/// What a node that can write nothing says.
pub const FULL: &str = "the disk is full";

/// A disk for each node.
#[derive(Debug)]
pub struct Disks {
    disks: BTreeMap<Node, Disk>,
    program: PathBuf,
}

#[derive(Debug)]
struct Disk {
    /// Lives in the mount namespace.
    holder: Process,
    /// The data directory in that namespace, as seen from outside.
    root: PathBuf,
}

impl Disks {
    /// One under each data directory. `folder` is where the programs and logs for them go.
    pub(crate) fn create(folder: &Path, of: &[(Node, PathBuf)]) -> anyhow::Result<Self> {
        let disks = of
            .iter()
            .map(|(node, data)| Ok((*node, Disk::create(folder, *node, data)?)))
            .collect::<anyhow::Result<BTreeMap<_, _>>>()?;
        Ok(Disks { program: write_program(folder, &disks, of)?, disks })
    }

    /// Becomes the daemon in the mount namespace of its data directory's disk.
    pub(crate) fn program(&self) -> PathBuf {
        self.program.clone()
    }

    /// Writes until not a page is left.
    pub fn fill(&self, node: Node) -> anyhow::Result<()> {
        let path = self.root(node).join(FILLER);
        let mut file = File::create(&path).with_context(|| format!("cannot make {}", path.display()))?;
        for _ in 0..=MIB << 20 >> 12 {
            match file.write_all(&[0; 4096]) {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::StorageFull => return Ok(()),
                Err(error) => return Err(error).context("the disk cannot be filled"),
            }
        }
        anyhow::bail!("{} takes more than {MIB} MiB", path.display())
    }

    /// Takes back what [`Disks::fill`] wrote.
    pub fn free(&self, node: Node) -> anyhow::Result<()> {
        let path = self.root(node).join(FILLER);
        fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))
    }

    /// Deletes everything.
    pub fn empty(&self, node: Node) -> anyhow::Result<()> {
        let entries = fs::read_dir(self.root(node)).context("the disk cannot be read")?;
        for entry in entries {
            let entry = entry.context("the disk cannot be read")?;
            let path = entry.path();
            let removed = match entry.file_type().context("an entry without a type")?.is_dir() {
                true => fs::remove_dir_all(&path),
                false => fs::remove_file(&path),
            };
            removed.with_context(|| format!("cannot remove {}", path.display()))?;
        }
        Ok(())
    }

    fn root(&self, node: Node) -> &Path {
        &self.disks[&node].root
    }
}

impl Disk {
    fn create(folder: &Path, node: Node, data: &Path) -> anyhow::Result<Self> {
        fs::create_dir_all(data).with_context(|| format!("cannot make {}", data.display()))?;
        let inside = data.strip_prefix("/").context("a data directory is a path from the root")?;
        let outside = fs::metadata(data).context("no data directory")?.dev();
        let mut command = Command::new("unshare");
        let script = format!("mount -t tmpfs -o size={MIB}m small \"$0\"; exec sleep infinity");
        command.args(["--mount", "sh", "-ec", &script]).arg(data);
        let log = folder.join(format!("disk-{}.log", node.name()));
        let mut holder = Process::start(&format!("the disk of {}", node.name()), command, None, &log)?;
        let root = PathBuf::from(format!("/proc/{}/root", holder.pid())).join(inside);
        wait::until("a disk to be mounted", LIMIT, || {
            anyhow::ensure!(holder.running()?, "it cannot be: see {}", log.display());
            let device = fs::metadata(&root).with_context(|| format!("no {}", root.display()))?.dev();
            Ok((device != outside).then_some(()))
        })?;
        Ok(Disk { holder, root })
    }
}

fn write_program(
    folder: &Path,
    disks: &BTreeMap<Node, Disk>,
    of: &[(Node, PathBuf)],
) -> anyhow::Result<PathBuf> {
    let path = folder.join("lockstepd-on-a-small-disk");
    let cases: String = of
        .iter()
        .map(|(node, data)| format!("'{}') holder={};;\n", data.display(), disks[node].holder.pid()))
        .collect();
    let script = format!(
        "#!/bin/sh\nset -e\ncase \"$LOCKSTEP_NODE__DATA_DIR\" in\n{cases}esac\n\
         exec nsenter --mount=\"/proc/$holder/ns/mnt\" '{}' \"$@\"\n",
        programs::lockstepd()?.display()
    );
    fs::write(&path, script).with_context(|| format!("cannot write {}", path.display()))?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).context("it cannot be made a program")?;
    Ok(path)
}
