//! The file system as the store sees it: few operations, each with a durability that is said.
//!
//! Written bytes survive a power cut only after [`FsFile::sync`]; a created, renamed or removed name only after
//! [`Fs::sync_dir`] of its directory. Every call of either names its [`SyncPoint`], so that a test can leave
//! out one and show that it was needed.

pub mod fenced;
pub mod real;
pub mod sim;

use std::fmt;
use std::io;
use std::path::Path;
use std::sync::Arc;

/// A shared file system.
pub type SharedFs = Arc<dyn Fs>;

/// What a sync makes durable. One per place in the store that syncs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SyncPoint {
    /// Entries, before they are acknowledged.
    Entries,
    /// A vote, before it is answered.
    Vote,
    /// What is left of a segment, before the next one begins.
    SegmentSeal,
    /// A new segment's name.
    SegmentName,
    /// The purge record, before the segments it makes superfluous are removed.
    Purge,
    /// A segment's removal, before the next one's.
    SegmentRemoval,
    /// The last segment's content, after it was read at a start.
    RecoveredSegment,
    /// The segments' names, after they were read at a start.
    RecoveredNames,
    /// A snapshot's content, before it gets its name.
    SnapshotContent,
    /// A snapshot's name, before the log relies on it.
    SnapshotName,
    /// The snapshots' names, after they were read at a start.
    RecoveredSnapshots,
    /// The identity's content, before it gets its name.
    IdentityContent,
    /// The identity's name.
    IdentityName,
    /// The data directory's own name.
    DataDirectory,
    /// The names in the data directory, when it is opened.
    Layout,
}

impl SyncPoint {
    /// All of them.
    pub const ALL: [SyncPoint; 15] = [
        SyncPoint::Entries,
        SyncPoint::Vote,
        SyncPoint::SegmentSeal,
        SyncPoint::SegmentName,
        SyncPoint::Purge,
        SyncPoint::SegmentRemoval,
        SyncPoint::RecoveredSegment,
        SyncPoint::RecoveredNames,
        SyncPoint::SnapshotContent,
        SyncPoint::SnapshotName,
        SyncPoint::RecoveredSnapshots,
        SyncPoint::IdentityContent,
        SyncPoint::IdentityName,
        SyncPoint::DataDirectory,
        SyncPoint::Layout,
    ];
}

/// A file that is only appended to.
pub trait FsFile: Send + fmt::Debug {
    /// Appends all of `bytes`; after an error an unknown prefix of them may be in the file.
    fn append(&mut self, bytes: &[u8]) -> io::Result<()>;

    /// Makes the file's content durable. After an error nothing is known about what was not durable before,
    /// and the file must not be used again.
    fn sync(&mut self, point: SyncPoint) -> io::Result<()>;
}

/// Exclusive use of a directory while it lives.
pub trait FsLock: Send + Sync + fmt::Debug {}

/// A file system.
pub trait Fs: Send + Sync + fmt::Debug + 'static {
    /// Makes a directory. Returns false if it was there.
    fn create_dir(&self, path: &Path) -> io::Result<bool>;

    /// Makes a new, empty file; what was there under the name is gone.
    fn create(&self, path: &Path) -> io::Result<Box<dyn FsFile>>;

    /// Opens an existing file for appending.
    fn open_append(&self, path: &Path) -> io::Result<Box<dyn FsFile>>;

    /// The whole content of a file.
    fn read(&self, path: &Path) -> io::Result<Vec<u8>>;

    /// Names in a directory, sorted.
    fn list(&self, dir: &Path) -> io::Result<Vec<String>>;

    /// Renames within one directory, atomically, replacing the target.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a file.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Cuts a file.
    fn truncate(&self, path: &Path, len: u64) -> io::Result<()>;

    /// Makes the names in a directory durable.
    fn sync_dir(&self, dir: &Path, point: SyncPoint) -> io::Result<()>;

    /// Bytes that may still be written to the file system that holds `path`.
    fn free(&self, path: &Path) -> io::Result<u64>;

    /// Takes the lock file at `path`; `ErrorKind::WouldBlock` if someone else holds it.
    fn lock(&self, path: &Path) -> io::Result<Box<dyn FsLock>>;
}
