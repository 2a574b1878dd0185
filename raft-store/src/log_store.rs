//! Raft's log: in memory for reading, in the write-ahead log for keeping.
//!
//! The entries in memory are those that are not purged yet: bounded by the snapshot policy
//! (see `config::raft_config`).

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::io;
use std::marker::PhantomData;
use std::ops::{Bound, RangeBounds};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use lockstep_model::ids::LogIndex;
use openraft::entry::RaftEntry;
use openraft::storage::{IOFlushed, LogState, RaftLogReader, RaftLogStorage};
use openraft::{AsyncRuntime, OptionalSend};
use prost::Message;

use crate::codec;
use crate::commit::{CommitMode, Committer, Op};
use crate::error::StoreError;
use crate::fs::{SharedFs, SyncPoint};
use crate::observer::{LogObserver, observed};
use crate::types::{Entry, LogId, Types, Vote};
use crate::wal::record::Record;
use crate::wal::{Wal, WalStats};

/// Bytes of entries that one replication request carries, unless a single entry is larger.
const REQUEST_BYTES: usize = 1 << 20;

#[derive(Default)]
struct Memory {
    vote: Option<Vote>,
    committed: Option<LogId>,
    purged: Option<LogId>,
    /// With the size of each entry on the wire.
    entries: BTreeMap<u64, (Entry, usize)>,
}

impl Memory {
    fn last(&self) -> Option<LogId> {
        self.entries.last_key_value().map(|(_, (entry, _))| entry.log_id).or(self.purged)
    }
}

/// The end of a log.
pub(crate) struct Unapplied {
    /// The highest term seen.
    pub(crate) term: u64,
    /// Index of the last entry.
    pub(crate) last: u64,
    pub(crate) entries: Vec<Entry>,
}

/// What of a log its observer has been told.
#[derive(Debug, Clone, Default)]
pub struct Told {
    /// Up to here for good: what is applied is committed, and comes back as it was even if this disk has lost it.
    settled: Option<u64>,
    entries: BTreeMap<u64, LogId>,
}

impl Told {
    /// Everything up to `applied` is told for good.
    pub(crate) fn settle(&mut self, applied: Option<LogIndex>) {
        self.settled = self.settled.max(applied.map(LogIndex::get));
        self.entries = self.entries.split_off(&self.settled.map_or(0, |index| index + 1));
    }

    /// The first entry that the observer was told and that is not in the log now.
    fn first_gone(&self, purged: Option<u64>, entries: &BTreeMap<u64, (Entry, usize)>) -> Option<u64> {
        let is_there =
            |index, id| purged >= Some(index) || entries.get(&index).is_some_and(|(e, _)| e.log_id == id);
        self.entries.iter().find(|(index, id)| !is_there(**index, **id)).map(|(index, _)| *index)
    }

    fn has(&self, index: u64) -> bool {
        self.settled >= Some(index) || self.entries.contains_key(&index)
    }
}

/// The log.
pub struct LogStore<RT> {
    memory: Arc<Mutex<Memory>>,
    committer: Arc<Committer>,
    observer: Arc<dyn LogObserver>,
    runtime: PhantomData<fn() -> RT>,
}

impl<RT> Clone for LogStore<RT> {
    fn clone(&self) -> Self {
        LogStore {
            memory: self.memory.clone(),
            committer: self.committer.clone(),
            observer: self.observer.clone(),
            runtime: PhantomData,
        }
    }
}

impl<RT: AsyncRuntime> LogStore<RT> {
    /// Opens the log in `dir`, which exists, and tells `observer` what is in it and not in `told`.
    pub fn open(
        fs: SharedFs,
        dir: &Path,
        segment_bytes: u64,
        mode: CommitMode,
        observer: Arc<dyn LogObserver>,
        told: &Told,
    ) -> Result<Self, StoreError> {
        let (wal, recovered) = Wal::open(fs, dir, segment_bytes)?;
        let damaged = |e: lockstep_proto::convert::ConvertError| StoreError::corrupt(dir, 0, e.to_string());
        let memory = Memory {
            vote: recovered.vote.map(codec::vote_from).transpose().map_err(damaged)?,
            committed: codec::optional_log_id("committed", recovered.committed).map_err(damaged)?,
            purged: codec::optional_log_id("purged", recovered.purged).map_err(damaged)?,
            entries: recovered.entries,
        };
        let gone = told.first_gone(memory.purged.map(|id| id.index), &memory.entries);
        if let Some(first) = gone {
            observer.truncated(first.checked_sub(1));
        }
        let is_news = |index: &u64| !told.has(*index) || gone.is_some_and(|first| *index >= first);
        for (index, (entry, _)) in memory.entries.iter().filter(|(index, _)| is_news(index)) {
            if let Some(observed) = observed(entry) {
                observer.appended(*index, &observed);
            }
        }
        let committer =
            Committer::new(wal, mode).map_err(StoreError::io(dir, "start the log's thread for"))?;
        Ok(LogStore {
            memory: Arc::new(Mutex::new(memory)),
            committer: Arc::new(committer),
            observer,
            runtime: PhantomData,
        })
    }

    /// Where it ends.
    pub(crate) fn last(&self) -> Option<LogIndex> {
        self.memory().last().map(|id| LogIndex(id.index))
    }

    /// See [`crate::replica::Replica::unapplied`].
    pub(crate) fn unapplied(&self, applied: u64) -> Unapplied {
        let memory = self.memory();
        let (last_term, last) = memory.last().map_or((0, 0), |id| (id.leader_id.term, id.index));
        let term = memory.vote.map_or(0, |vote| vote.leader_id.term).max(last_term);
        let entries = memory.entries.range(applied + 1..).map(|(_, (entry, _))| entry.clone()).collect();
        Unapplied { term, last: last.max(applied), entries }
    }

    /// What the observer has been told.
    pub fn told(&self) -> Told {
        let memory = self.memory();
        let entries = memory.entries.iter().map(|(index, (entry, _))| (*index, entry.log_id)).collect();
        Told { settled: memory.purged.map(|id| id.index), entries }
    }

    /// Counters.
    pub fn stats(&self) -> Arc<WalStats> {
        self.committer.stats()
    }

    /// Whether Raft has ever done anything here: it has voted, or there are entries.
    pub fn is_pristine(&self) -> bool {
        let memory = self.memory();
        memory.vote.is_none() && memory.last().is_none()
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<RT: AsyncRuntime> RaftLogReader<Types<RT>> for LogStore<RT> {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> Result<Vec<Entry>, io::Error> {
        if is_empty(&range) {
            return Ok(Vec::new());
        }
        let memory = self.memory();
        Ok(memory.entries.range(range).map(|(_, (entry, _))| entry.clone()).collect())
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, io::Error> {
        Ok(self.memory().vote)
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> Result<Vec<Entry>, io::Error> {
        let mut left = REQUEST_BYTES;
        let mut entries = Vec::new();
        if start >= end {
            return Ok(entries);
        }
        for (entry, size) in self.memory().entries.range(start..end).map(|(_, e)| e) {
            if *size > left && !entries.is_empty() {
                break;
            }
            left = left.saturating_sub(*size);
            entries.push(entry.clone());
        }
        Ok(entries)
    }
}

impl<RT: AsyncRuntime> RaftLogStorage<Types<RT>> for LogStore<RT> {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<Types<RT>>, io::Error> {
        let memory = self.memory();
        Ok(LogState { last_purged_log_id: memory.purged, last_log_id: memory.last() })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), io::Error> {
        // Durable before it can be answered, and before it can be read.
        self.committer.append(Record::Vote(codec::vote(vote)), SyncPoint::Vote).await?;
        self.memory().vote = Some(*vote);
        Ok(())
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> Result<(), io::Error> {
        // Not synced, nor waited for, which would be a sync's time for every commit: what it says can be learnt again
        // from the cluster.
        let record = lockstep_proto::raft::v1::Committed { log_id: committed.as_ref().map(codec::log_id) };
        self.committer.append_unsynced(Record::Committed(record));
        self.memory().committed = committed;
        Ok(())
    }

    async fn read_committed(&mut self) -> Result<Option<LogId>, io::Error> {
        Ok(self.memory().committed)
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<Types<RT>>) -> Result<(), io::Error>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let mut records = Vec::new();
        {
            let mut memory = self.memory();
            for entry in entries {
                let index = entry.index();
                let encoded = codec::entry(&entry);
                if let Some(observed) = observed(&entry) {
                    self.observer.appended(index, &observed);
                }
                memory.entries.insert(index, (entry, encoded.encoded_len()));
                records.push(Record::Entry(encoded));
            }
        }
        let done = Box::new(move |result| callback.io_completed(result));
        self.committer.submit(Op::Append { records, sync: Some(SyncPoint::Entries), done });
        Ok(())
    }

    async fn truncate_after(&mut self, last_log_id: Option<LogId>) -> Result<(), io::Error> {
        {
            let mut memory = self.memory();
            let next = last_log_id.map_or(0, |id| id.index + 1);
            memory.entries.split_off(&next);
            self.observer.truncated(last_log_id.map(|id| id.index));
        }
        // Not synced: until what replaces the entries is durable, nobody was told that they are gone.
        let record = lockstep_proto::raft::v1::Truncation { after: last_log_id.as_ref().map(codec::log_id) };
        self.committer.append_unsynced(Record::Truncation(record));
        Ok(())
    }

    async fn purge(&mut self, log_id: LogId) -> Result<(), io::Error> {
        {
            let mut memory = self.memory();
            memory.entries = memory.entries.split_off(&(log_id.index + 1));
            memory.purged = Some(log_id);
        }
        self.committer.purge(codec::log_id(&log_id)).await
    }
}

/// An inverted range makes a `BTreeMap` panic.
fn is_empty(range: &impl RangeBounds<u64>) -> bool {
    let start = match range.start_bound() {
        Bound::Included(s) => *s,
        Bound::Excluded(s) => s.saturating_add(1),
        Bound::Unbounded => 0,
    };
    match range.end_bound() {
        Bound::Included(e) => start > *e,
        Bound::Excluded(e) => start >= *e,
        Bound::Unbounded => false,
    }
}
