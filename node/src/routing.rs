//! `[routing]`: an executable or a Unix socket that tells routing daemons which groups this node serves.
//!
//! Level-triggered: what is wanted last counts, a run that failed is repeated until it succeeds or something else is
//! wanted, and after a start every group that this node does not own is told once. A thread of its own, one run at a time:
//! a hook that hangs delays the next run, never a lease.
//!
//! ```text
//! HOOK owner GROUP EPOCH      the lease is in the kernel, the first announcement is sent
//! HOOK standby GROUP EPOCH    the lease has lapsed or is closed (EPOCH 0: not since this daemon started)
//! ```
//!
//! A socket gets the same three words as a line, and answers with the line `ok`.

mod execute;
mod socket;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use lockstep_model::ids::{Epoch, GroupId};
use lockstep_model::limits::MAX_LEASE;

/// A run that takes longer is killed, and has failed.
const LIMIT: Duration = Duration::from_secs(5);
/// Between a failure and the next attempt at the same.
const RETRY: Duration = Duration::from_secs(1);
/// A daemon that has just started tells of no group that it is a standby before this: it may be the owner again, and
/// nobody should hear that it was not.
const SETTLE: Duration = MAX_LEASE.saturating_mul(2);

/// What this node is to a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    Owner,
    Standby,
}

impl Standing {
    const fn name(self) -> &'static str {
        match self {
            Standing::Owner => "owner",
            Standing::Standby => "standby",
        }
    }
}

/// Who is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Target {
    /// An executable, run for each change.
    Program(PathBuf),
    /// A stream socket, connected to for each change.
    Socket(PathBuf),
}

/// The way to the thread; clones share it.
#[derive(Debug, Clone)]
pub(crate) struct Hook {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    target: Target,
    limit: Duration,
    retry: Duration,
    settle: Duration,
    groups: Mutex<BTreeMap<GroupId, Group>>,
    changed: Condvar,
    runs: AtomicU64,
    failures: AtomicU64,
}

/// What is to be told of a group.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Group {
    name: String,
    epoch: Epoch,
    standing: Standing,
    /// When to tell it; none: it is told.
    due: Option<Instant>,
}

impl Hook {
    /// Starts the thread, which lives as long as the process.
    pub(crate) fn start(target: Target) -> Result<Self> {
        Self::with_times(target, LIMIT, RETRY, SETTLE)
    }

    fn with_times(target: Target, limit: Duration, retry: Duration, settle: Duration) -> Result<Self> {
        let shared = Arc::new(Shared {
            target,
            limit,
            retry,
            settle,
            groups: Mutex::default(),
            changed: Condvar::new(),
            runs: AtomicU64::new(0),
            failures: AtomicU64::new(0),
        });
        let worker = shared.clone();
        std::thread::Builder::new()
            .name("routing".to_owned())
            .spawn(move || worker.work())
            .context("routing: its thread cannot start")?;
        Ok(Hook { shared })
    }

    /// This node owns a group under this epoch, or does no more.
    pub(crate) fn tell(&self, group: GroupId, name: String, epoch: Epoch, standing: Standing) {
        let told = Group { name, epoch, standing, due: Some(Instant::now()) };
        self.shared.lock().insert(group, told);
        self.shared.changed.notify_one();
    }

    /// The groups there are: of one that is new here this node is a standby until it is told otherwise.
    pub(crate) fn know(&self, groups: BTreeMap<GroupId, String>) {
        let mut known = self.shared.lock();
        known.retain(|id, group| groups.contains_key(id) || group.due.is_some());
        for (group, name) in groups {
            if let Entry::Vacant(vacant) = known.entry(group) {
                let due = Some(Instant::now() + self.shared.settle);
                vacant.insert(Group { name, epoch: Epoch(0), standing: Standing::Standby, due });
                self.shared.changed.notify_one();
            }
        }
    }

    /// Counters: runs that succeeded, and runs that did not.
    pub(crate) fn counters(&self) -> Vec<(String, u64)> {
        let counts = [("runs", &self.shared.runs), ("failures", &self.shared.failures)];
        counts.map(|(name, count)| (name.to_owned(), count.load(Ordering::Relaxed))).into()
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<GroupId, Group>> {
        self.groups.lock().expect("no holder panics")
    }

    fn work(&self) {
        loop {
            let (group, told) = self.next();
            let words = arguments(&told);
            let outcome = match &self.target {
                Target::Program(program) => execute::run(program, self.limit, &words),
                Target::Socket(path) => socket::tell(path, self.limit, &words),
            };
            self.finish(group, &told, outcome);
        }
    }

    /// Waits until something is due, and takes what has been so for longest.
    fn next(&self) -> (GroupId, Group) {
        let mut groups = self.lock();
        loop {
            let first =
                groups.iter().filter(|(_, group)| group.due.is_some()).min_by_key(|(_, group)| group.due);
            let wait = match first {
                None => Duration::MAX,
                Some((id, group)) => {
                    let wait =
                        group.due.map_or(Duration::ZERO, |at| at.saturating_duration_since(Instant::now()));
                    if wait.is_zero() {
                        return (*id, group.clone());
                    }
                    wait
                }
            };
            groups = self.changed.wait_timeout(groups, wait).expect("no holder panics").0;
        }
    }

    fn finish(&self, id: GroupId, told: &Group, outcome: Result<(), String>) {
        let due = outcome.is_err().then(|| Instant::now() + self.retry);
        // What changed meanwhile is due already.
        if let Some(current) = self.lock().get_mut(&id).filter(|current| *current == told) {
            current.due = due;
        }
        let (group, epoch, standing) = (&told.name, told.epoch, told.standing.name());
        match outcome {
            Ok(()) => {
                self.runs.fetch_add(1, Ordering::Relaxed);
                tracing::info!(group, %epoch, standing, "routing hook told");
            }
            Err(error) => {
                self.failures.fetch_add(1, Ordering::Relaxed);
                let retry = self.retry;
                tracing::warn!(group, %epoch, standing, error, ?retry, "the routing hook failed: it is run again");
            }
        }
    }
}

fn arguments(told: &Group) -> [String; 3] {
    [told.standing.name().to_owned(), told.name.clone(), told.epoch.to_string()]
}
