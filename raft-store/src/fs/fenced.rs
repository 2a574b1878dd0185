//! A file system as one run of the store uses it: it remembers that it was full, and it can be fenced off, so that the
//! store can be opened anew in the same process while parts of the run before are still alive.

use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use super::{Fs, FsFile, FsLock, SharedFs, SyncPoint};

/// The file system, for one run.
#[derive(Debug, Clone)]
pub struct Fenced {
    under: SharedFs,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    /// Held for reading during each operation: whoever closes the fence waits for those under way.
    closed: RwLock<bool>,
    full: AtomicBool,
}

impl Fenced {
    /// A new run over `under`.
    pub fn new(under: SharedFs) -> Self {
        Fenced { under, shared: Arc::default() }
    }

    /// Nothing of this run changes, or reads, anything any more once this returns.
    pub fn close(&self) {
        *self.shared.closed.write().unwrap_or_else(PoisonError::into_inner) = true;
    }

    /// Whether an operation failed because there was no space.
    pub fn was_full(&self) -> bool {
        self.shared.full.load(Ordering::Acquire)
    }
}

impl Shared {
    fn run<T>(&self, operation: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        let closed = self.closed.read().unwrap_or_else(PoisonError::into_inner);
        if *closed {
            return Err(io::Error::other("the store has been opened anew since"));
        }
        let result = operation();
        if result.as_ref().is_err_and(is_full) {
            self.full.store(true, Ordering::Release);
        }
        result
    }
}

/// Whether space, or a quota, is used up.
pub(crate) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

#[derive(Debug)]
struct FencedFile {
    under: Box<dyn FsFile>,
    shared: Arc<Shared>,
}

impl FsFile for FencedFile {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.shared.run(|| self.under.append(bytes))
    }

    fn sync(&mut self, point: SyncPoint) -> io::Result<()> {
        self.shared.run(|| self.under.sync(point))
    }
}

impl Fenced {
    fn file(&self, open: impl FnOnce() -> io::Result<Box<dyn FsFile>>) -> io::Result<Box<dyn FsFile>> {
        let under = self.shared.run(open)?;
        Ok(Box::new(FencedFile { under, shared: self.shared.clone() }))
    }
}

impl Fs for Fenced {
    fn create_dir(&self, path: &Path) -> io::Result<bool> {
        self.shared.run(|| self.under.create_dir(path))
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn FsFile>> {
        self.file(|| self.under.create(path))
    }

    fn open_append(&self, path: &Path) -> io::Result<Box<dyn FsFile>> {
        self.file(|| self.under.open_append(path))
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        self.shared.run(|| self.under.read(path))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        self.shared.run(|| self.under.list(dir))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.shared.run(|| self.under.rename(from, to))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.shared.run(|| self.under.remove(path))
    }

    fn truncate(&self, path: &Path, len: u64) -> io::Result<()> {
        self.shared.run(|| self.under.truncate(path, len))
    }

    fn sync_dir(&self, dir: &Path, point: SyncPoint) -> io::Result<()> {
        self.shared.run(|| self.under.sync_dir(dir, point))
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn FsLock>> {
        self.shared.run(|| self.under.lock(path))
    }

    fn free(&self, path: &Path) -> io::Result<u64> {
        self.under.free(path)
    }
}

#[cfg(test)]
mod tests {
    use super::super::sim::SimFs;
    use super::*;

    #[test]
    fn i1_a_closed_run_writes_nothing_more() {
        let disk = SimFs::new();
        let run = Fenced::new(Arc::new(disk.clone()));
        let path = Path::new("file");
        let mut file = run.create(path).expect("an empty disk");
        file.append(b"one").expect("open");
        run.close();
        assert!(file.append(b"two").is_err());
        assert!(file.sync(SyncPoint::Entries).is_err());
        assert!(run.remove(path).is_err());
        assert_eq!(disk.read(path).expect("still there"), b"one");
        let next = Fenced::new(Arc::new(disk));
        next.open_append(path).and_then(|mut file| file.append(b"three")).expect("the next run is open");
        assert!(!run.was_full() && !next.was_full());
    }

    #[test]
    fn a_run_remembers_that_there_was_no_space() {
        let disk = SimFs::new();
        let run = Fenced::new(Arc::new(disk.clone()));
        let mut file = run.create(Path::new("file")).expect("an empty disk");
        disk.set_free(Some(2));
        assert_eq!(run.free(Path::new("")).expect("a simulated disk knows"), 2);
        assert!(file.append(b"three").is_err_and(|e| is_full(&e)));
        disk.set_free(None);
        file.append(b"four").expect("there is space");
        assert!(run.was_full());
    }
}
