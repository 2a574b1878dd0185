//! A disk in memory that forgets what was not synced.
//!
//! [`SimFs::crash`] is a power cut: every name that was not synced is kept or lost by chance, independently
//! of the others; of a file's unsynced bytes a prefix, all with a hole, or a run of zeros remains. The chance
//! comes from the seed given, so that a failing schedule can be repeated.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use super::{Fs, FsFile, FsLock, SyncPoint};

type Inode = u64;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Node {
    Dir,
    File(Inode),
}

/// A change of names that is not durable yet.
#[derive(Debug, Clone)]
enum NameOp {
    Link(PathBuf, Node),
    Unlink(PathBuf),
    Rename(PathBuf, PathBuf, Node),
}

impl NameOp {
    fn dir(&self) -> &Path {
        let (NameOp::Link(path, _) | NameOp::Unlink(path) | NameOp::Rename(path, ..)) = self;
        path.parent().unwrap_or(Path::new(""))
    }

    fn apply(&self, names: &mut BTreeMap<PathBuf, Node>) {
        match self {
            NameOp::Link(path, node) => {
                names.insert(path.clone(), *node);
            }
            NameOp::Unlink(path) => {
                names.remove(path);
            }
            NameOp::Rename(from, to, node) => {
                names.remove(from);
                names.insert(to.clone(), *node);
            }
        }
    }
}

#[derive(Debug, Default)]
struct Content {
    now: Vec<u8>,
    durable: Vec<u8>,
}

#[derive(Debug, Default)]
struct Disk {
    names: BTreeMap<PathBuf, Node>,
    durable_names: BTreeMap<PathBuf, Node>,
    pending: Vec<NameOp>,
    contents: BTreeMap<Inode, Content>,
    next_inode: Inode,
    locks: BTreeSet<PathBuf>,
    /// Raised by every crash: handles from before it are dead.
    generation: u64,
    ignored: BTreeSet<SyncPoint>,
    seen: BTreeSet<SyncPoint>,
    failing: BTreeSet<SyncPoint>,
    /// Bytes that may still be written.
    free: Option<usize>,
}

/// The simulated file system. Clones share the disk.
#[derive(Debug, Clone, Default)]
pub struct SimFs {
    disk: Arc<Mutex<Disk>>,
}

impl SimFs {
    /// An empty disk.
    pub fn new() -> Self {
        Self::default()
    }

    /// From now on syncs of this kind do nothing, and say that they succeeded.
    pub fn ignore(&self, point: SyncPoint) {
        self.disk().ignored.insert(point);
    }

    /// Syncs of this kind fail until [`SimFs::heal`] or the next crash.
    pub fn fail(&self, point: SyncPoint) {
        self.disk().failing.insert(point);
    }

    /// No sync fails any more.
    pub fn heal(&self) {
        self.disk().failing.clear();
    }

    /// The disk is full after this many more bytes; `None`: never.
    pub fn set_free(&self, bytes: Option<usize>) {
        self.disk().free = bytes;
    }

    /// The kinds of sync that have been asked for.
    pub fn seen(&self) -> BTreeSet<SyncPoint> {
        self.disk().seen.clone()
    }

    /// Changes one byte of a file, durably: a disk that lies.
    pub fn flip(&self, path: &Path, offset: usize) {
        let mut disk = self.disk();
        let inode = disk.file(path).expect("a file to damage");
        let content = disk.contents.get_mut(&inode).expect("every file has content");
        content.now[offset] ^= 0x40;
        content.durable = content.now.clone();
    }

    /// A power cut. All handles and locks are gone.
    pub fn crash(&self, seed: u64) {
        let mut chance = Chance(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
        let mut disk = self.disk();
        let disk = &mut *disk;
        disk.generation += 1;
        disk.locks.clear();
        disk.failing.clear();
        for op in std::mem::take(&mut disk.pending) {
            if chance.below(2) == 0 {
                op.apply(&mut disk.durable_names);
            }
        }
        let names = disk.durable_names.clone();
        disk.durable_names.retain(|path, _| has_durable_parents(path, &names));
        disk.names = disk.durable_names.clone();
        for content in disk.contents.values_mut() {
            content.now = remains(content, &mut chance);
            content.durable = content.now.clone();
        }
    }

    fn disk(&self) -> MutexGuard<'_, Disk> {
        self.disk.lock().expect("no test panics while it holds the disk")
    }
}

impl Disk {
    fn file(&self, path: &Path) -> io::Result<Inode> {
        match self.names.get(path) {
            Some(Node::File(inode)) => Ok(*inode),
            _ => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn apply(&mut self, op: NameOp) {
        op.apply(&mut self.names);
        self.pending.push(op);
    }

    /// Whether the sync does something.
    fn sync(&mut self, point: SyncPoint) -> io::Result<bool> {
        self.seen.insert(point);
        if self.failing.contains(&point) {
            return Err(io::Error::other(format!("the disk failed a sync of {point:?}")));
        }
        Ok(!self.ignored.contains(&point))
    }

    fn check_parent(&self, path: &Path) -> io::Result<()> {
        match path.parent() {
            None => Ok(()),
            Some(p) if p.as_os_str().is_empty() || self.names.get(p) == Some(&Node::Dir) => Ok(()),
            Some(_) => Err(io::ErrorKind::NotFound.into()),
        }
    }
}

fn has_durable_parents(path: &Path, names: &BTreeMap<PathBuf, Node>) -> bool {
    path.ancestors().skip(1).filter(|p| !p.as_os_str().is_empty()).all(|p| names.get(p) == Some(&Node::Dir))
}

/// What a power cut leaves of a file.
fn remains(content: &Content, chance: &mut Chance) -> Vec<u8> {
    let kept = content.durable.len();
    if content.now.len() < kept || content.now[..kept] != content.durable[..] {
        // Cut, and not synced: the one or the other.
        return if chance.below(2) == 0 { content.now.clone() } else { content.durable.clone() };
    }
    let unsynced = content.now.len() - kept;
    if unsynced == 0 {
        return content.durable.clone();
    }
    match chance.below(5) {
        0 => content.durable.clone(),
        1 => content.now.clone(),
        2 => content.now[..kept + chance.below(unsynced)].to_vec(),
        3 => {
            // The size reached the disk, the rest of the bytes did not.
            let mut bytes = content.now[..kept + chance.below(unsynced)].to_vec();
            bytes.resize(content.now.len(), 0);
            bytes
        }
        _ => {
            // Blocks reached the disk in another order than they were written in.
            let mut bytes = content.now.clone();
            let from = kept + chance.below(unsynced);
            let to = from + chance.below(bytes.len() - from + 1);
            bytes[from..to].fill(0);
            bytes
        }
    }
}

/// xorshift64*: enough to choose with, and the same everywhere.
struct Chance(u64);

impl Chance {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        ((self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) % n as u64) as usize
    }
}

#[derive(Debug)]
struct SimFile {
    fs: SimFs,
    inode: Inode,
    generation: u64,
}

impl SimFile {
    fn disk(&self) -> io::Result<MutexGuard<'_, Disk>> {
        let disk = self.fs.disk();
        if disk.generation != self.generation {
            return Err(io::Error::other("the machine that opened this file lost power"));
        }
        Ok(disk)
    }
}

impl FsFile for SimFile {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut disk = self.disk()?;
        let fits = disk.free.map_or(bytes.len(), |free| free.min(bytes.len()));
        if let Some(free) = &mut disk.free {
            *free -= fits;
        }
        disk.contents.entry(self.inode).or_default().now.extend_from_slice(&bytes[..fits]);
        if fits < bytes.len() { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }

    fn sync(&mut self, point: SyncPoint) -> io::Result<()> {
        let mut disk = self.disk()?;
        if disk.sync(point)? {
            let content = disk.contents.entry(self.inode).or_default();
            content.durable = content.now.clone();
        }
        Ok(())
    }
}

#[derive(Debug)]
struct SimLock {
    fs: SimFs,
    path: PathBuf,
    generation: u64,
}

impl FsLock for SimLock {}

impl Drop for SimLock {
    fn drop(&mut self) {
        let mut disk = self.fs.disk();
        if disk.generation == self.generation {
            disk.locks.remove(&self.path);
        }
    }
}

impl Fs for SimFs {
    fn create_dir(&self, path: &Path) -> io::Result<bool> {
        let mut disk = self.disk();
        disk.check_parent(path)?;
        match disk.names.get(path) {
            Some(Node::Dir) => Ok(false),
            Some(Node::File(_)) => Err(io::ErrorKind::AlreadyExists.into()),
            None => {
                disk.apply(NameOp::Link(path.to_owned(), Node::Dir));
                Ok(true)
            }
        }
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn FsFile>> {
        let mut disk = self.disk();
        disk.check_parent(path)?;
        let inode = disk.next_inode;
        disk.next_inode += 1;
        disk.contents.insert(inode, Content::default());
        disk.apply(NameOp::Link(path.to_owned(), Node::File(inode)));
        Ok(Box::new(SimFile { fs: self.clone(), inode, generation: disk.generation }))
    }

    fn open_append(&self, path: &Path) -> io::Result<Box<dyn FsFile>> {
        let disk = self.disk();
        Ok(Box::new(SimFile { fs: self.clone(), inode: disk.file(path)?, generation: disk.generation }))
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let disk = self.disk();
        let inode = disk.file(path)?;
        Ok(disk.contents.get(&inode).map(|c| c.now.clone()).unwrap_or_default())
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let disk = self.disk();
        if disk.names.get(dir) != Some(&Node::Dir) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let inside = disk.names.keys().filter(|p| p.parent() == Some(dir));
        Ok(inside.filter_map(|p| p.file_name()?.to_str().map(str::to_owned)).collect())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        assert_eq!(from.parent(), to.parent(), "only renames within a directory are atomic after a crash");
        let mut disk = self.disk();
        let node = Node::File(disk.file(from)?);
        disk.apply(NameOp::Rename(from.to_owned(), to.to_owned(), node));
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut disk = self.disk();
        disk.file(path)?;
        disk.apply(NameOp::Unlink(path.to_owned()));
        Ok(())
    }

    fn truncate(&self, path: &Path, len: u64) -> io::Result<()> {
        let mut disk = self.disk();
        let inode = disk.file(path)?;
        disk.contents.entry(inode).or_default().now.truncate(len as usize);
        Ok(())
    }

    fn sync_dir(&self, dir: &Path, point: SyncPoint) -> io::Result<()> {
        let mut disk = self.disk();
        if !disk.sync(point)? {
            return Ok(());
        }
        let disk = &mut *disk;
        let (now, later) = std::mem::take(&mut disk.pending).into_iter().partition(|op| op.dir() == dir);
        disk.pending = later;
        let now: Vec<NameOp> = now;
        now.iter().for_each(|op| op.apply(&mut disk.durable_names));
        Ok(())
    }

    fn free(&self, _path: &Path) -> io::Result<u64> {
        Ok(self.disk().free.map_or(u64::MAX, |free| free as u64))
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn FsLock>> {
        let mut disk = self.disk();
        if !disk.locks.insert(path.to_owned()) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(Box::new(SimLock { fs: self.clone(), path: path.to_owned(), generation: disk.generation }))
    }
}
