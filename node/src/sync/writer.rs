//! The thread that writes learnt flows into the kernel, in the order they were learnt.

mod line;
mod sweeps;

use std::collections::BTreeMap;
use std::sync::mpsc::RecvTimeoutError;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError, mpsc as blocking};
use std::time::{Duration, Instant};

use lockstep_loader::KernelInstant;
use lockstep_model::flow::{FlowOp, WriteOutcome};
use lockstep_model::ids::{Epoch, GroupId};
use lockstep_sync_core::{WorkId, yield_to_owner};
use tokio::sync::mpsc;

use super::driver::Done;
use super::table::{Table, Unmentioned};
use crate::lease::Lendable;
pub(super) use line::Line;
use sweeps::Sweeps;

/// Flows written together, or a few more: about a millisecond of the kernel's time.
const TOGETHER: usize = 512;

/// What it is asked to do. The credit of the streams bounds how much waits.
enum Job {
    Write(Batch),
    Sweep { work: WorkId, of: Unmentioned },
}

/// Writes, in their order.
#[derive(Default)]
struct Batch {
    /// How many of the ops each has.
    works: Vec<(WorkId, usize)>,
    ops: Vec<FlowOp>,
}

/// A write that is in the kernel, or was refused by it.
pub(super) struct Written {
    pub(super) work: WorkId,
    pub(super) ops: Vec<FlowOp>,
    pub(super) outcomes: Vec<WriteOutcome>,
}

/// The groups that this node owns, as the writer must know them at the moment it writes: what is queued when a
/// lease opens may no longer replace anything of the group.
#[derive(Clone, Default)]
pub(super) struct Owned {
    groups: Arc<Mutex<BTreeMap<GroupId, Epoch>>>,
    /// Held during a write.
    batch: Arc<Mutex<()>>,
}

impl Owned {
    pub(super) fn insert(&self, group: GroupId, epoch: Epoch) {
        self.lock().insert(group, epoch);
    }

    /// Whether the group was owned in this epoch, or an earlier one.
    pub(super) fn remove(&self, group: GroupId, epoch: Epoch) -> bool {
        let mut groups = self.lock();
        let ended = groups.get(&group).is_some_and(|owned| *owned <= epoch);
        ended && groups.remove(&group).is_some()
    }

    pub(super) fn snapshot(&self) -> BTreeMap<GroupId, Epoch> {
        self.lock().clone()
    }

    /// Returns when the write under way is over, or after `at_most`.
    pub(super) fn wait_for_batch(&self, at_most: Duration) {
        let until = Instant::now() + at_most;
        while let Err(TryLockError::WouldBlock) = self.batch.try_lock() {
            if Instant::now() >= until {
                return;
            }
            std::thread::yield_now();
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<GroupId, Epoch>> {
        // A map of numbers is whole at every instant.
        self.groups.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Starts the thread; it ends when the line is dropped.
pub(super) fn start<T: Table>(
    table: Arc<T>,
    owned: Owned,
    done: mpsc::UnboundedSender<Done>,
    threads: Lendable,
) -> std::io::Result<Line> {
    let (jobs, queue) = blocking::channel();
    let line = Line::new(jobs, {
        let (table, owned) = (table.clone(), owned.clone());
        Box::new(move |batch| write(&*table, &owned, batch))
    });
    let run = move || {
        threads.enrol();
        let mut writer = Writer { table, owned, queue, next: None, sweeps: Sweeps::default() };
        while let Some(finished) = writer.work() {
            for finished in finished {
                if done.send(finished).is_err() {
                    return;
                }
            }
        }
    };
    std::thread::Builder::new().name("flow-writer".into()).spawn(run)?;
    Ok(line)
}

struct Writer<T> {
    table: Arc<T>,
    owned: Owned,
    queue: blocking::Receiver<Job>,
    /// Taken from the queue already.
    next: Option<Job>,
    sweeps: Sweeps,
}

impl<T: Table> Writer<T> {
    /// Waits for work and does it; what of it is finished. `None`: nobody is left who would ask.
    fn work(&mut self) -> Option<Vec<Done>> {
        if self.sweeps.are_due(Instant::now()) {
            return Some(self.sweep());
        }
        let job = match (self.next.take(), self.sweeps.due()) {
            (Some(job), _) => job,
            (None, None) => self.queue.recv().ok()?,
            (None, Some(due)) => match self.queue.recv_timeout(due.saturating_duration_since(Instant::now()))
            {
                Ok(job) => job,
                Err(RecvTimeoutError::Timeout) => return Some(self.sweep()),
                Err(RecvTimeoutError::Disconnected) => return None,
            },
        };
        match job {
            Job::Write(batch) if self.sweeps.precede(&batch.ops) => {
                self.next = Some(Job::Write(batch));
                Some(self.sweep())
            }
            Job::Write(batch) => Some(self.write(batch)),
            Job::Sweep { work, of } => {
                self.sweeps.add(Instant::now(), work, of);
                Some(Vec::new())
            }
        }
    }

    fn write(&mut self, mut batch: Batch) -> Vec<Done> {
        // What waits already goes in with it, up to what a takeover can wait for.
        while batch.ops.len() < TOGETHER {
            match self.queue.try_recv() {
                Ok(Job::Write(mut more)) if !self.sweeps.precede(&more.ops) => {
                    batch.works.append(&mut more.works);
                    batch.ops.append(&mut more.ops);
                }
                Ok(other) => {
                    self.next = Some(other);
                    break;
                }
                Err(_) => break,
            }
        }
        write(&*self.table, &self.owned, batch).into_iter().map(Done::Written).collect()
    }

    fn sweep(&mut self) -> Vec<Done> {
        let owned = self.owned.snapshot();
        // Nothing of a group that is ours is swept, unless by who owned it after us; should it become ours in the middle,
        // the epoch protects what is new.
        let ours = |of: &Unmentioned| owned.get(&of.group).is_some_and(|own| *own >= of.epoch);
        let (kept, swept): (Vec<_>, Vec<_>) = self.sweeps.take().into_iter().partition(|(_, of)| ours(of));
        let mut finished: Vec<Done> =
            kept.into_iter().map(|(work, _)| Done::Swept { work, result: Ok(0) }).collect();
        if swept.is_empty() {
            return finished;
        }
        let of: Vec<_> = swept.iter().map(|(_, of)| *of).collect();
        match self.table.sweep(&of) {
            Ok(removed) => finished.extend(
                swept.iter().zip(removed).map(|((work, _), n)| Done::Swept { work: *work, result: Ok(n) }),
            ),
            Err(error) => finished.extend(swept.iter().map(|(work, _)| {
                let result = Err(anyhow::anyhow!("{error:#}"));
                Done::Swept { work: *work, result }
            })),
        }
        finished
    }
}

fn write<T: Table>(table: &T, owned: &Owned, batch: Batch) -> Vec<Written> {
    let Batch { works, mut ops } = batch;
    let _batch = owned.batch.lock().unwrap_or_else(PoisonError::into_inner);
    let groups = owned.snapshot();
    yield_to_owner(&mut ops, |group| groups.get(&group).copied());
    let now = KernelInstant::now().0;
    ops.iter_mut().for_each(|op| op.limit_birth(now));
    let mut outcomes = table.write(&ops);
    // From behind, so that only what is split off moves.
    let mut finished: Vec<Written> = works
        .into_iter()
        .rev()
        .map(|(work, count)| {
            let (ops, outcomes) =
                (ops.split_off(ops.len() - count), outcomes.split_off(outcomes.len() - count));
            Written { work, ops, outcomes }
        })
        .collect();
    finished.reverse();
    finished
}
