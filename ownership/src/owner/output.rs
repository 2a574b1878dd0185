//! What comes out of an owner: things to do, and counts.

use std::collections::BTreeMap;

use lockstep_model::ids::NodeId;

use super::Until;
use crate::message::{RefusalReason, Release, Request, Tenure};
use crate::time::Instant;

/// What an owner wants done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Send to every voter, this node's own included, in this order with what follows.
    Request(Request),
    /// Send to a voter.
    Release(NodeId, Release),
    /// Write the kernel lease.
    SetLease {
        /// The tenure it is for.
        tenure: Tenure,
        /// Its end.
        until: Until,
        /// It was not held just before: apply what is queued first, and announce afterwards.
        first: bool,
    },
    /// Send what the standbys lack, then say so; the lease lasts until `deadline`.
    Flush {
        /// The tenure that ends.
        tenure: Tenure,
        /// When it is closed at the latest.
        deadline: Instant,
    },
    /// Close the kernel lease of this and every earlier epoch of the group, wait until no program still runs
    /// that has read it, then say so.
    CloseLease(Tenure),
    /// The intent has begun or ceased to be stale: stop or resume creating flows.
    IntentStale(bool),
}

/// Plain counters.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counters {
    /// Requests sent (each to all voters).
    pub requests: u64,
    /// Leases opened (not held just before).
    pub opened: u64,
    /// Leases extended.
    pub renewed: u64,
    /// Leases that ended although they were to be renewed.
    pub lapsed: u64,
    /// Replies whose request is too old to count or was another run's.
    pub late_replies: u64,
    /// Release datagrams sent.
    pub releases: u64,
    /// Releases that not every voter acknowledged.
    pub releases_given_up: u64,
    /// By reason.
    pub refused: BTreeMap<RefusalReason, u64>,
}
