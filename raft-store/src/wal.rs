//! The write-ahead log on disk: numbered segments of checksummed records.
//!
//! Records are appended and made durable by a sync that the caller places; what it acknowledges, it has
//! synced. A segment begins with everything the ones before it had established, so that whole segments can be
//! removed once their entries are in a snapshot.
//!
//! After the first error the log stops for good: after a failed write or sync nobody knows what is on the disk, and
//! only a restart, which reads it, can tell.

pub(crate) mod record;
mod recover;

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use lockstep_proto::raft::v1 as pb;

use crate::error::StoreError;
use crate::fs::{FsFile, SharedFs, SyncPoint};
use record::Record;
pub(crate) use recover::{Recovered, segment_sequence};

/// A segment that has grown beyond this is followed by another. Small enough that purging frees disk soon,
/// large enough that beginning one (two more syncs) is rare.
pub const SEGMENT_BYTES: u64 = 8 << 20;

/// Counters of the log since its start.
#[derive(Debug, Default)]
pub struct WalStats {
    /// Bytes written.
    pub bytes: AtomicU64,
    /// Records written.
    pub records: AtomicU64,
    /// Syncs of a segment's content.
    pub syncs: AtomicU64,
    /// Segments begun.
    pub segments: AtomicU64,
    /// Bytes of torn tails that were cut at the start.
    pub torn_bytes: AtomicU64,
}

#[derive(Debug)]
struct Segment {
    sequence: u64,
    /// Highest index among its entries.
    max_index: u64,
}

#[derive(Debug)]
struct Active {
    file: Box<dyn FsFile>,
    len: u64,
    synced: u64,
}

/// The log's writer.
#[derive(Debug)]
pub(crate) struct Wal {
    fs: SharedFs,
    dir: PathBuf,
    segment_bytes: u64,
    /// Oldest first; the last one is being written.
    segments: VecDeque<Segment>,
    active: Active,
    /// What the next segment will begin with.
    start: pb::SegmentStart,
    stopped: Option<String>,
    stats: Arc<WalStats>,
}

impl Wal {
    /// Reads what is in `dir`, which exists, and makes it ready to be appended to.
    pub(crate) fn open(fs: SharedFs, dir: &Path, segment_bytes: u64) -> Result<(Wal, Recovered), StoreError> {
        let stats = Arc::new(WalStats::default());
        let (recovered, scan) = recover::recover(&fs, dir)?;
        stats.torn_bytes.store(scan.torn_bytes, Ordering::Relaxed);
        let mut wal = Wal {
            fs,
            dir: dir.to_owned(),
            segment_bytes,
            segments: scan
                .segments
                .into_iter()
                .map(|(sequence, max_index)| Segment { sequence, max_index })
                .collect(),
            active: Active { file: Box::new(NoFile), len: 0, synced: 0 },
            start: scan.start,
            stopped: None,
            stats,
        };
        match scan.tail {
            Some(len) => {
                let path = wal.path(wal.segments.back().map_or(0, |s| s.sequence));
                if scan.torn_bytes > 0 {
                    wal.fs.truncate(&path, len).map_err(StoreError::io(&path, "cut the torn tail of"))?;
                }
                let mut file = wal.fs.open_append(&path).map_err(StoreError::io(&path, "open"))?;
                // What was read may be in memory only, if not the machine but the process died. Raft counts it
                // as flushed from here on.
                file.sync(SyncPoint::RecoveredSegment).map_err(StoreError::io(&path, "sync"))?;
                wal.fs.sync_dir(dir, SyncPoint::RecoveredNames).map_err(StoreError::io(dir, "sync"))?;
                wal.active = Active { file, len, synced: len };
            }
            None => wal.begin(scan.next_sequence)?,
        }
        Ok((wal, recovered))
    }

    /// Appends records; durable only after [`Wal::sync`].
    pub(crate) fn write(&mut self, records: &[Record]) -> Result<(), StoreError> {
        self.check()?;
        if self.active.len >= self.segment_bytes {
            let rolled = self.roll();
            self.or_stop(rolled)?;
        }
        let mut bytes = Vec::new();
        for record in records {
            let synced = u32::try_from(self.active.synced).expect("a segment is far below 4 GiB");
            if let Err(len) = record.encode(synced, &mut bytes) {
                let problem = format!("a record of {len} bytes; allowed: {}", record::MAX_PAYLOAD);
                let error = StoreError::Stopped { path: self.dir.clone(), cause: problem };
                return self.or_stop(Err(error));
            }
        }
        let path = self.active_path();
        let written = self.active.file.append(&bytes).map_err(StoreError::io(&path, "append to"));
        self.or_stop(written)?;
        self.active.len += bytes.len() as u64;
        self.stats.bytes.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        self.stats.records.fetch_add(records.len() as u64, Ordering::Relaxed);
        for record in records {
            note(&mut self.start, record);
            if let (Record::Entry(entry), Some(segment)) = (record, self.segments.back_mut()) {
                segment.max_index = segment.max_index.max(entry.log_id.as_ref().map_or(0, |id| id.index));
            }
        }
        Ok(())
    }

    /// Makes everything written durable.
    pub(crate) fn sync(&mut self, point: SyncPoint) -> Result<(), StoreError> {
        self.check()?;
        if self.active.synced == self.active.len {
            return Ok(());
        }
        let path = self.active_path();
        let synced = self.active.file.sync(point).map_err(StoreError::io(&path, "sync"));
        self.or_stop(synced)?;
        self.stats.syncs.fetch_add(1, Ordering::Relaxed);
        self.active.synced = self.active.len;
        Ok(())
    }

    /// Records that entries up to `upto` are in a durable snapshot, and removes the segments that held nothing else.
    pub(crate) fn purge(&mut self, upto: pb::LogId) -> Result<(), StoreError> {
        let index = upto.index;
        self.write(&[Record::Purge(pb::Purge { upto: Some(upto) })])?;
        self.sync(SyncPoint::Purge)?;
        while self.segments.len() > 1 && self.segments.front().is_some_and(|s| s.max_index <= index) {
            let Some(oldest) = self.segments.pop_front() else { break };
            let path = self.path(oldest.sequence);
            let removed = self.fs.remove(&path).map_err(StoreError::io(&path, "remove"));
            self.or_stop(removed)?;
            // One at a time: a later segment's removal must not survive an earlier one's, or there is a gap.
            let synced = self.fs.sync_dir(&self.dir, SyncPoint::SegmentRemoval);
            let synced = synced.map_err(StoreError::io(&self.dir, "sync"));
            self.or_stop(synced)?;
        }
        Ok(())
    }

    pub(crate) fn stats(&self) -> Arc<WalStats> {
        self.stats.clone()
    }

    /// Closes the segment being written, durably, and begins the next.
    fn roll(&mut self) -> Result<(), StoreError> {
        // A segment that is not the last may not have a torn tail.
        self.sync(SyncPoint::SegmentSeal)?;
        let next = self.segments.back().map_or(1, |s| s.sequence + 1);
        self.begin(next)
    }

    fn begin(&mut self, sequence: u64) -> Result<(), StoreError> {
        let path = self.path(sequence);
        let mut file = self.fs.create(&path).map_err(StoreError::io(&path, "create"))?;
        self.start.sequence = sequence;
        let mut bytes = Vec::new();
        Record::Start(self.start).encode(0, &mut bytes).expect("a start record is small");
        file.append(&bytes).map_err(StoreError::io(&path, "append to"))?;
        self.fs.sync_dir(&self.dir, SyncPoint::SegmentName).map_err(StoreError::io(&self.dir, "sync"))?;
        // Its content becomes durable with what is written next; until then the segment may as well be missing.
        self.active = Active { file, len: bytes.len() as u64, synced: 0 };
        self.segments.push_back(Segment { sequence, max_index: 0 });
        self.stats.segments.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    fn path(&self, sequence: u64) -> PathBuf {
        self.dir.join(recover::file_name(sequence))
    }

    fn active_path(&self) -> PathBuf {
        self.path(self.start.sequence)
    }

    fn check(&self) -> Result<(), StoreError> {
        match &self.stopped {
            None => Ok(()),
            Some(cause) => Err(StoreError::Stopped { path: self.dir.clone(), cause: cause.clone() }),
        }
    }

    fn or_stop(&mut self, result: Result<(), StoreError>) -> Result<(), StoreError> {
        if let Err(error) = &result {
            tracing::error!(%error, "the log stops: nothing more is acknowledged");
            self.stopped.get_or_insert_with(|| error.to_string());
        }
        result
    }
}

/// Keeps what a next segment must begin with.
fn note(start: &mut pb::SegmentStart, record: &Record) {
    match record {
        Record::Start(s) => *start = *s,
        Record::Entry(e) => start.last = e.log_id,
        Record::Vote(v) => start.vote = Some(*v),
        Record::Committed(c) => start.committed = c.log_id,
        Record::Truncation(t) => start.last = t.after.or(start.purged),
        Record::Purge(p) => {
            start.purged = p.upto;
            if start.last.map_or(0, |l| l.index) <= p.upto.map_or(0, |u| u.index) {
                start.last = p.upto;
            }
        }
    }
}

/// Stands where the active segment will be, until it is opened.
#[derive(Debug)]
struct NoFile;

impl FsFile for NoFile {
    fn append(&mut self, _bytes: &[u8]) -> std::io::Result<()> {
        Err(std::io::ErrorKind::NotFound.into())
    }

    fn sync(&mut self, _point: SyncPoint) -> std::io::Result<()> {
        Err(std::io::ErrorKind::NotFound.into())
    }
}
