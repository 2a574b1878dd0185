//! The thread that writes learnt flows into the kernel, in the order they were learnt.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError, mpsc as blocking};
use std::time::{Duration, Instant};

use lockstep_loader::KernelInstant;
use lockstep_model::flow::FlowOp;
use lockstep_model::ids::{Epoch, GroupId};
use lockstep_sync_core::{WorkId, yield_to_owner};
use tokio::sync::mpsc;

use super::driver::Done;
use super::table::Table;

/// What it is asked to do. The credit of the streams bounds how much waits.
pub(super) enum Job {
    Write { work: WorkId, ops: Vec<FlowOp> },
    Sweep { work: WorkId, group: GroupId, shard: u8, mark: u32, epoch: Epoch },
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

/// Starts the thread; it ends when the sender is dropped.
pub(super) fn start<T: Table>(
    table: Arc<T>,
    owned: Owned,
    done: mpsc::UnboundedSender<Done>,
) -> std::io::Result<blocking::Sender<Job>> {
    let (jobs, queue) = blocking::channel();
    let run = move || {
        while let Ok(job) = queue.recv() {
            if done.send(one(&*table, &owned, job)).is_err() {
                return;
            }
        }
    };
    std::thread::Builder::new().name("flow-writer".into()).spawn(run)?;
    Ok(jobs)
}

fn one<T: Table>(table: &T, owned: &Owned, job: Job) -> Done {
    match job {
        Job::Write { work, mut ops } => {
            let _batch = owned.batch.lock().unwrap_or_else(PoisonError::into_inner);
            let groups = owned.snapshot();
            yield_to_owner(&mut ops, |group| groups.get(&group).copied());
            let now = KernelInstant::now().0;
            ops.iter_mut().for_each(|op| op.limit_birth(now));
            let outcomes = table.write(&ops);
            Done::Written { work, ops, outcomes }
        }
        // Nothing of a group that is ours is swept; should it become ours in the middle, the epoch protects
        // what is new. By the word of a later owner it is ours no more, whether or not that has been noticed here.
        Job::Sweep { work, group, epoch, .. }
            if owned.snapshot().get(&group).is_some_and(|own| *own >= epoch) =>
        {
            Done::Swept { work, result: Ok(0) }
        }
        Job::Sweep { work, group, shard, mark, epoch } => {
            Done::Swept { work, result: table.sweep(group, shard, mark, epoch) }
        }
    }
}
