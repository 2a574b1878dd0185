//! One tenure of this node, from asking to giving back.

use std::collections::{BTreeMap, BTreeSet};

use lockstep_model::ids::NodeId;

use super::succession::FLUSH;
use crate::time::Instant;

/// Until when a kernel lease runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Until {
    /// Until then.
    At(Instant),
    /// This node alone is the quorum: it needs nobody's promise.
    Unbounded,
}

impl Until {
    /// Whether the lease holds at `now`.
    pub fn holds(self, now: Instant) -> bool {
        match self {
            Until::At(until) => now < until,
            Until::Unbounded => true,
        }
    }
}

/// Where a claim stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// No lease yet.
    Asking,
    /// A lease was had; it may have lapsed, and is renewed.
    Open,
    /// Somebody else is to serve: no more renewals. It has not asked for promises yet.
    Awaiting {
        /// Not longer than until then.
        patience: Instant,
    },
    /// Flows are flushed while the lease lasts.
    Yielding,
    /// The kernel lease is being closed.
    Closing,
    /// Never opened, and over; given back when no other tenure of the group is open here.
    Abandoned,
}

/// A claim.
#[derive(Debug, Clone)]
pub(crate) struct Claim {
    pub(crate) phase: Phase,
    /// By voter, when its promise ends, as this node must count it.
    pub(crate) promises: BTreeMap<NodeId, Instant>,
    /// Voters that will not promise this epoch again.
    pub(crate) refused_by: BTreeSet<NodeId>,
    pub(crate) until: Option<Until>,
    /// The send time of the newest request that counts for the lease.
    pub(crate) last_renewal: Option<Instant>,
}

impl Claim {
    pub(crate) fn new() -> Self {
        Self {
            phase: Phase::Asking,
            promises: BTreeMap::new(),
            refused_by: BTreeSet::new(),
            until: None,
            last_renewal: None,
        }
    }

    /// When its flows are flushed although its successor has not asked yet.
    pub(crate) fn flush_at(&self) -> Option<Instant> {
        match (self.phase, self.until) {
            (Phase::Awaiting { patience }, Some(Until::At(until))) => Some(patience.min(until - FLUSH)),
            _ => None,
        }
    }

    /// Whether the kernel may hold a lease for it.
    pub(crate) fn may_serve(&self) -> bool {
        matches!(self.phase, Phase::Open | Phase::Awaiting { .. } | Phase::Yielding | Phase::Closing)
    }

    pub(crate) fn asks(&self) -> bool {
        matches!(self.phase, Phase::Asking | Phase::Open)
    }

    pub(crate) fn holds(&self, now: Instant) -> bool {
        matches!(self.phase, Phase::Open | Phase::Awaiting { .. } | Phase::Yielding)
            && self.until.is_some_and(|u| u.holds(now))
    }
}
