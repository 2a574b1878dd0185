//! Who is to lead when the leader owned a group and is lost: Raft's own timeouts end long after the lease.
//!
//! A leader keeps away from what is owned, but an operator may place it there, and alone with one other voter it has no
//! choice. When it dies, a quorum ceases to hear the owner within a lease, as every node learns from the others'
//! reports. Nobody leads who could judge that; so the best placed voter campaigns at once, and the next one some time
//! later, in case the first does not get through. An election that comes too early costs a change of leader, never I3.

use std::time::Duration;

use lockstep_model::ids::NodeId;

use super::{Leader, Output};
use crate::log::LogView;
use crate::time::Instant;

/// Between two voters' turns: an election and the news of it fit in, so that there is one candidate at a time.
const TURN: Duration = Duration::from_millis(30);
/// A campaign without effect is tried again after this: by then Raft's own timeouts have ended as well.
const RETRY: Duration = Duration::from_secs(1);

/// What a node remembers of a leader that is lost.
#[derive(Debug, Default)]
pub(super) struct Campaign {
    /// Who leads, as far as Raft knows here.
    leader: Option<NodeId>,
    /// Since when a quorum does not hear what it owned.
    lost_since: Option<Instant>,
    tried: Option<Instant>,
}

impl Campaign {
    /// Whether this node has just campaigned, on a judgement that holds for whoever leads.
    pub(super) fn is_on(&self, now: Instant) -> bool {
        self.tried.is_some_and(|at| now < at + RETRY)
    }
}

impl Leader {
    /// Who leads has changed, as far as Raft knows on this node.
    pub fn handle_leader(&mut self, now: Instant, leader: Option<NodeId>, log: &LogView) {
        if self.campaign.leader != leader {
            self.campaign.leader = leader;
            self.campaign.lost_since = None;
            self.judge(now, log);
        }
    }

    /// Looks whether the leader is lost, and whether it is this node's turn. When to look again, if it is not yet.
    pub(super) fn consider_campaign(&mut self, now: Instant, log: &LogView) -> Option<Instant> {
        let leader = self.campaign.leader.filter(|leader| *leader != self.me)?;
        if !self.is_lost(now, leader, log) {
            self.campaign.lost_since = None;
            return None;
        }
        let since = *self.campaign.lost_since.get_or_insert(now);
        let successors = self.successors(now, leader, log);
        let place = u32::try_from(successors.iter().position(|n| *n == self.me)?).ok()?;
        let turn = (since + TURN * place).max(self.judges_from);
        let turn = self.campaign.tried.map_or(turn, |at| turn.max(at + RETRY));
        if now < turn {
            return Some(turn);
        }
        self.campaign.tried = Some(now);
        self.counters.campaigns += 1;
        self.outputs.push_back(Output::Campaign { against: leader });
        Some(now + RETRY)
    }

    /// Whether a quorum reports, and does not hear what a node owns.
    fn is_lost(&self, now: Instant, node: NodeId, log: &LogView) -> bool {
        let mut owned = log.view().groups.iter().filter_map(|(group, view)| Some((group, view.assignment?)));
        owned.any(|(group, owner)| owner.node == node && self.is_unheard(now, *group, owner, log))
            && self.sees(now, log)
    }
}
