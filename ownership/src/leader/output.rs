//! What comes out of a leader: things to do, why, and counts.

use std::collections::{BTreeMap, BTreeSet};

use lockstep_model::ids::{Epoch, GroupId, NodeId};

use super::Standing;

/// What a leader wants done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Propose an assignment.
    Assign {
        /// The group.
        group: GroupId,
        /// Its current epoch.
        replaces: Epoch,
        /// The next owner.
        node: NodeId,
        /// Why.
        cause: Cause,
    },
    /// Propose who holds a group's flows.
    SetReplicas {
        /// The group.
        group: GroupId,
        /// Its current epoch.
        epoch: Epoch,
        /// Who holds them now.
        replaces: BTreeSet<NodeId>,
        /// Who is to, the owner among them.
        nodes: BTreeSet<NodeId>,
    },
    /// Hand the leadership over.
    TransferLeader(NodeId),
    /// Ask for votes against a leader that is lost, without waiting for Raft's timeouts.
    Campaign {
        /// Who led.
        against: NodeId,
    },
}

/// Why a group gets a (new) owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Cause {
    /// It never had one.
    First,
    /// No quorum hears its owner.
    NotHeard,
    /// The owner reports itself unfit.
    OwnerUnfit,
    /// The owner drains.
    OwnerDraining,
    /// The owner has given the epoch back.
    GivenBack,
    /// The owner reports, for too long, that it holds no lease.
    NoLease,
    /// A node that the group prefers to its owner has been able to serve it for a while, and the group is to go back.
    Failback,
}

impl Cause {
    /// All, for metrics.
    pub const ALL: [Cause; 7] = [
        Cause::First,
        Cause::NotHeard,
        Cause::OwnerUnfit,
        Cause::OwnerDraining,
        Cause::GivenBack,
        Cause::NoLease,
        Cause::Failback,
    ];

    /// Metric label.
    pub const fn name(self) -> &'static str {
        match self {
            Cause::First => "first",
            Cause::NotHeard => "not_heard",
            Cause::OwnerUnfit => "owner_unfit",
            Cause::OwnerDraining => "owner_draining",
            Cause::GivenBack => "given_back",
            Cause::NoLease => "no_lease",
            Cause::Failback => "failback",
        }
    }

    /// Whether it speaks against the owner.
    pub(super) const fn is_failure(self) -> bool {
        matches!(self, Cause::NotHeard | Cause::OwnerUnfit | Cause::NoLease)
    }

    /// How high the owner still stands.
    pub(super) const fn standing(self) -> Standing {
        match self {
            Cause::First | Cause::NotHeard | Cause::GivenBack => Standing::Gone,
            Cause::OwnerUnfit | Cause::OwnerDraining | Cause::NoLease => Standing::Unfit,
            // Only a node that can, and has not failed lately.
            Cause::Failback => Standing::HeldDown,
        }
    }

    /// Whether the former owner may be the next.
    pub(super) const fn owner_may_stay(self) -> bool {
        matches!(self, Cause::First | Cause::GivenBack)
    }
}

/// Plain counters.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counters {
    /// Assignments proposed, by cause.
    pub proposed: BTreeMap<Cause, u64>,
    /// Of these, to a node that was not caught up.
    pub takeover_without_flows: u64,
    /// Changes proposed of who holds a group's flows.
    pub replicas: u64,
    /// Transfers of leadership away from an owner.
    pub transfers: u64,
    /// Campaigns against a leader that owned a group and is lost.
    pub campaigns: u64,
    /// Judgements put off because no quorum of fresh reports was there.
    pub blind: u64,
    /// Times that nothing was judged for longer than a lease: this node stood still.
    pub stood_still: u64,
}
