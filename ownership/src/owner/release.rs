//! Giving promises back, until every voter has heard it or has forgotten the promise anyway.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use lockstep_model::ids::NodeId;
use lockstep_model::limits::MAX_LEASE;

use crate::message::{Release, Tenure};
use crate::time::Instant;

/// What a lost release costs the successor; doubled for every further one.
const FIRST_RETRY: Duration = Duration::from_millis(10);

#[derive(Debug, Clone)]
struct Pending {
    unacked: BTreeSet<NodeId>,
    next: Instant,
    retry: Duration,
    give_up: Instant,
}

/// Releases under way.
#[derive(Debug, Clone, Default)]
pub(crate) struct Releases {
    pending: BTreeMap<Tenure, Pending>,
    pub(crate) sent: u64,
    pub(crate) given_up: u64,
}

impl Releases {
    pub(crate) fn start(&mut self, now: Instant, tenure: Tenure, voters: BTreeSet<NodeId>) {
        if voters.is_empty() {
            return;
        }
        let pending = Pending { unacked: voters, next: now, retry: FIRST_RETRY, give_up: now + MAX_LEASE };
        self.pending.insert(tenure, pending);
    }

    pub(crate) fn handle_ack(&mut self, voter: NodeId, tenures: &[Tenure]) {
        for tenure in tenures {
            if let Some(pending) = self.pending.get_mut(tenure) {
                pending.unacked.remove(&voter);
                if pending.unacked.is_empty() {
                    self.pending.remove(tenure);
                }
            }
        }
    }

    /// What is due, by receiver.
    pub(crate) fn due(&mut self, now: Instant) -> BTreeMap<NodeId, Release> {
        let mut due: BTreeMap<NodeId, Release> = BTreeMap::new();
        self.pending.retain(|tenure, pending| {
            if now >= pending.give_up {
                self.given_up += 1;
                return false;
            }
            if now >= pending.next {
                pending.next = now + pending.retry;
                pending.retry *= 2;
                for node in &pending.unacked {
                    due.entry(*node).or_insert_with(|| Release { tenures: Vec::new() }).tenures.push(*tenure);
                }
            }
            true
        });
        self.sent += due.len() as u64;
        due
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.pending.is_empty()
    }

    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.pending.values().map(|p| p.next.min(p.give_up)).min()
    }
}
