//! Who is to lead instead of this node, or of one that is lost.

use std::time::Duration;

use lockstep_model::ids::{LogIndex, NodeId};
use lockstep_model::intent::NodeRole;
use lockstep_model::limits::MAX_LEASE;

use super::{Leader, Output};
use crate::log::LogView;
use crate::time::Instant;

/// A transfer that shows no effect is tried again after this.
const TRANSFER_RETRY: Duration = Duration::from_secs(1);
/// How long a leader may not hear an owner whom a quorum hears, before it makes way for a voter that does: it cannot tell
/// whether such an owner holds its lease, and must not be taken for [`super::HOLD_GRACE`] to say that it does not.
const CUT_OFF_GRACE: Duration = MAX_LEASE;
/// How far a new leader may be behind in the log.
const TRANSFER_MAX_LAG: u64 = 64;

impl Leader {
    /// Leadership moves to a live voter that owns nothing, so that an owner's death costs no election; and away from a
    /// node that is cut off from an owner, whatever an operator said.
    pub(super) fn consider_transfer(&mut self, now: Instant, log: &LogView) {
        let view = log.view();
        let pinned = self.pinned_until.is_some_and(|until| now < until);
        let cut_off = self.cut_off_since.is_some_and(|since| now >= since + CUT_OFF_GRACE);
        if !(cut_off || (view.load(self.me) > 0 && !pinned))
            || self.transfer_tried.is_some_and(|at| now < at + TRANSFER_RETRY)
        {
            return;
        }
        let Some(membership) = log.membership() else { return };
        if membership.configs.len() > 1 {
            // Whoever began a change of membership is to end it.
            return;
        }
        // Or it would come back.
        let keeps = |n: &NodeId| view.load(*n) == 0 && self.hears_owners(now, *n, log);
        let target = self.successors(now, self.me, log).into_iter().find(keeps);
        if let Some(target) = target {
            self.transfer_tried = Some(now);
            self.counters.transfers += 1;
            self.outputs.push_back(Output::TransferLeader(target));
        }
    }

    /// The voters that could lead instead of `former`, best first: those that own nothing, and a witness, which never will,
    /// before all others.
    pub(super) fn successors(&self, now: Instant, former: NodeId, log: &LogView) -> Vec<NodeId> {
        let Some(membership) = log.membership() else { return Vec::new() };
        let view = log.view();
        let voters = membership.voters();
        // This node may be the one that has fallen behind.
        let reported = voters.iter().filter_map(|n| self.fresh(now, *n, log)).map(|r| r.applied);
        let newest = reported.chain([view.applied]).max().unwrap_or_default();
        let could = |n: &NodeId| {
            *n != former
                && self.fresh(now, *n, log).is_some_and(|r| !r.draining && reached(r.applied, newest))
        };
        let mut successors: Vec<NodeId> = voters.iter().copied().filter(could).collect();
        successors.sort_by_key(|n| (view.load(*n) > 0, view.nodes.get(n) != Some(&NodeRole::Witness), *n));
        successors
    }
}

fn reached(applied: LogIndex, newest: LogIndex) -> bool {
    applied.get() + TRANSFER_MAX_LAG >= newest.get()
}
