//! Group commit: what waits for the disk is written and synced together, in the order it came.
//!
//! In production a thread does it, so that no async worker ever waits for a disk. In simulation the caller
//! does it itself, so that the order of things depends on nothing but the seed.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Mutex, MutexGuard};
use std::thread::JoinHandle;

use futures::channel::oneshot;
use lockstep_proto::raft::v1 as pb;

use crate::error::StoreError;
use crate::fs::SyncPoint;
use crate::wal::record::Record;
use crate::wal::{Wal, WalStats};

/// Operations that may wait for the disk. When it is full the caller waits; Raft itself has only a few in
/// flight.
const QUEUE: usize = 1024;

/// Operations that one sync may answer.
const GROUP: usize = 256;

/// Who does the disk's work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CommitMode {
    /// The caller.
    Inline,
    /// A thread of the log's own.
    Thread,
}

/// Called once the operation is durable, or has failed.
pub(crate) type Done = Box<dyn FnOnce(io::Result<()>) + Send>;

/// What is asked of the disk.
pub(crate) enum Op {
    /// Append; durable before `done` if `sync` says so.
    Append { records: Vec<Record>, sync: Option<SyncPoint>, done: Done },
    /// Entries up to here are in a snapshot.
    Purge { upto: pb::LogId, done: Done },
}

/// The way to the disk.
pub(crate) struct Committer {
    way: Way,
    stats: Arc<WalStats>,
}

enum Way {
    Inline(Box<Mutex<Wal>>),
    Thread { queue: Option<SyncSender<Op>>, thread: Option<JoinHandle<()>> },
}

impl Committer {
    pub(crate) fn new(wal: Wal, mode: CommitMode) -> io::Result<Committer> {
        let stats = wal.stats();
        let way = match mode {
            CommitMode::Inline => Way::Inline(Box::new(Mutex::new(wal))),
            CommitMode::Thread => {
                let (queue, ops) = sync_channel(QUEUE);
                let thread =
                    std::thread::Builder::new().name("raft-wal".into()).spawn(move || run(wal, &ops))?;
                Way::Thread { queue: Some(queue), thread: Some(thread) }
            }
        };
        Ok(Committer { way, stats })
    }

    pub(crate) fn stats(&self) -> Arc<WalStats> {
        self.stats.clone()
    }

    pub(crate) fn submit(&self, op: Op) {
        match &self.way {
            Way::Inline(wal) => commit(&mut lock(wal), vec![op]),
            Way::Thread { queue, .. } => {
                let sent = match queue {
                    Some(queue) => queue.send(op).map_err(|e| e.0),
                    None => Err(op),
                };
                if let Err(op) = sent {
                    op.finish(Err(io::Error::other("the log's thread has ended")));
                }
            }
        }
    }

    /// Appends what nobody waits for. After a failure the log has stopped, and whoever waits next is told.
    pub(crate) fn append_unsynced(&self, record: Record) {
        self.submit(Op::Append { records: vec![record], sync: None, done: Box::new(drop) });
    }

    /// Appends, and waits until it is durable.
    pub(crate) async fn append(&self, record: Record, point: SyncPoint) -> io::Result<()> {
        let (done, waiting) = completion();
        self.submit(Op::Append { records: vec![record], sync: Some(point), done });
        waiting.await.unwrap_or_else(|_| Err(io::Error::other("the log's thread has ended")))
    }

    /// Purges, and waits.
    pub(crate) async fn purge(&self, upto: pb::LogId) -> io::Result<()> {
        let (done, waiting) = completion();
        self.submit(Op::Purge { upto, done });
        waiting.await.unwrap_or_else(|_| Err(io::Error::other("the log's thread has ended")))
    }
}

impl Drop for Committer {
    fn drop(&mut self) {
        if let Way::Thread { queue, thread } = &mut self.way {
            // Closing the queue ends the thread once it has done what was asked.
            drop(queue.take());
            if let Some(thread) = thread.take()
                && thread.join().is_err()
            {
                tracing::error!("the log's thread panicked");
            }
        }
    }
}

impl Op {
    fn finish(self, result: io::Result<()>) {
        let (Op::Append { done, .. } | Op::Purge { done, .. }) = self;
        done(result);
    }
}

fn completion() -> (Done, oneshot::Receiver<io::Result<()>>) {
    let (sender, receiver) = oneshot::channel();
    // Nobody waits any more: the caller was dropped, and the operation is done all the same.
    (Box::new(move |result| drop(sender.send(result))), receiver)
}

fn lock(wal: &Mutex<Wal>) -> MutexGuard<'_, Wal> {
    wal.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn run(mut wal: Wal, ops: &Receiver<Op>) {
    while let Ok(first) = ops.recv() {
        let mut group = vec![first];
        group.extend(ops.try_iter().take(GROUP - 1));
        commit(&mut wal, group);
    }
}

/// Does `group` in order, with as few syncs as the order allows.
fn commit(wal: &mut Wal, group: Vec<Op>) {
    let mut waiting: Vec<Done> = Vec::new();
    let mut point = None;
    for op in group {
        match op {
            Op::Append { records, sync, done } => match wal.write(&records) {
                Ok(()) => {
                    point = point.max(sync);
                    match sync {
                        Some(_) => waiting.push(done),
                        None => done(Ok(())),
                    }
                }
                Err(e) => done(Err(e.into())),
            },
            Op::Purge { upto, done } => {
                acknowledge(wal, point.take(), &mut waiting);
                done(wal.purge(upto).map_err(Into::into));
            }
        }
    }
    acknowledge(wal, point, &mut waiting);
}

/// One sync for all that wait for it. Nothing is acknowledged before it.
fn acknowledge(wal: &mut Wal, point: Option<SyncPoint>, waiting: &mut Vec<Done>) {
    let synced = match point {
        Some(point) => wal.sync(point),
        None => Ok(()),
    };
    for done in waiting.drain(..) {
        done(match &synced {
            Ok(()) => Ok(()),
            Err(e) => Err(again(e)),
        });
    }
}

/// The same error for one more of those who waited for one sync.
fn again(error: &StoreError) -> io::Error {
    let kind = match error {
        StoreError::Io { source, .. } => source.kind(),
        _ => io::ErrorKind::Other,
    };
    io::Error::new(kind, error.to_string())
}
