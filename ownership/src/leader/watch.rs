//! What the leader remembers of a group, for its current epoch.

use lockstep_model::ids::{Epoch, NodeId};

use super::PROPOSAL_RETRY;
use crate::time::Instant;

/// A group under one epoch.
#[derive(Debug, Clone, Copy)]
pub(super) struct Watch {
    pub(super) epoch: Epoch,
    pub(super) since: Instant,
    /// A quorum hears its owner.
    heard: bool,
    /// It did at least once.
    pub(super) was_heard: bool,
    /// When the owner last said that it holds the lease, got the assignment, or began to be heard: it may have to wait
    /// for promises then, its own voter's among them.
    pub(super) last_held: Instant,
    /// The group is to move; since when there has been a node to move it to.
    pub(super) candidate_since: Option<Instant>,
    /// Whom it was proposed to give the group to, and when.
    pub(super) proposed: Option<(NodeId, Instant)>,
    pub(super) blamed: bool,
}

impl Watch {
    pub(super) fn new(now: Instant, epoch: Epoch) -> Self {
        Self {
            epoch,
            since: now,
            heard: false,
            was_heard: false,
            last_held: now,
            candidate_since: None,
            proposed: None,
            blamed: false,
        }
    }

    /// This node began to lead, or ceased to: what it would have done is void, what it knows is not.
    pub(super) fn start_over(&mut self, now: Instant) {
        *self = Self { last_held: now, candidate_since: None, proposed: None, blamed: false, ..*self };
    }

    /// Whom the group is about to go to: a proposal is on its way.
    pub(super) fn promised_to(&self, now: Instant) -> Option<NodeId> {
        self.proposed.filter(|(_, at)| now < *at + PROPOSAL_RETRY).map(|(node, _)| node)
    }

    /// What the reports say of the owner now.
    pub(super) fn note(&mut self, now: Instant, heard: bool, holds: bool) {
        if holds || (heard && !self.heard) {
            self.last_held = now;
        }
        self.heard = heard;
        self.was_heard |= heard;
    }
}
