//! From Raft's log to the lease thread, which starts later: what the log said before is kept and told first.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard};

use lockstep_model::ids::{LogIndex, NodeId};
use lockstep_ownership::log::{Edit, LogEvent};
use lockstep_ownership::membership::{LogId, Membership};
use lockstep_raft_store::observer::{LogObserver, Observed};

use crate::lease;

/// Hands the log's events on, in their order.
#[derive(Default)]
pub(crate) struct Relay {
    target: Mutex<Target>,
}

enum Target {
    /// Nobody listens yet. Bounded by the log, which is bounded by snapshots.
    Waiting(Vec<LogEvent>),
    Lease(lease::Handle),
}

impl Default for Target {
    fn default() -> Self {
        Target::Waiting(Vec::new())
    }
}

impl Relay {
    /// From now on `lease` is told, beginning with what it missed.
    pub(crate) fn attach(&self, lease: lease::Handle) {
        let mut target = self.target();
        if let Target::Waiting(missed) = &mut *target {
            for event in missed.drain(..) {
                lease.log(event);
            }
        }
        *target = Target::Lease(lease);
    }

    fn tell(&self, event: LogEvent) {
        match &mut *self.target() {
            Target::Waiting(missed) => missed.push(event),
            Target::Lease(lease) => lease.log(event),
        }
    }

    fn target(&self) -> MutexGuard<'_, Target> {
        self.target.lock().expect("no holder panics")
    }
}

impl LogObserver for Relay {
    fn appended(&self, index: u64, observed: &Observed) {
        self.tell(match observed {
            Observed::Assignment { group, replaces, node, .. } => {
                LogEvent::Assign { index: LogIndex(index), group: *group, replaces: *replaces, node: *node }
            }
            Observed::Edit { gives, deletes } => {
                let edit = Edit { gives: gives.clone(), deletes: deletes.clone() };
                LogEvent::Edit { index: LogIndex(index), edit }
            }
            Observed::Membership { id, voters } => LogEvent::Membership(membership(id, voters)),
        });
    }

    fn truncated(&self, after: Option<u64>) {
        self.tell(LogEvent::Truncated { after: LogIndex(after.unwrap_or(0)) });
    }
}

fn membership(id: &lockstep_raft_store::observer::MembershipId, voters: &[BTreeSet<NodeId>]) -> Membership {
    let id = LogId { term: id.term, leader: NodeId(id.node), index: LogIndex(id.index) };
    Membership { id, configs: voters.to_vec() }
}
