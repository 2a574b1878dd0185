//! The lease thread: the shell around `lockstep-ownership`.
//!
//! One thread sends and answers lease datagrams and writes the kernel's leases, with real-time priority and
//! locked memory, outside the async runtime, so that nothing the daemon does can make a lease lapse. It is
//! told of the log, the state and the node's fitness through [`Handle`], and says through [`Event`] what the
//! rest of the daemon is to do. It never waits for anybody: what has to wait is done by helper threads. A stand-in on
//! another processor takes its turns while the kernel does not let it run.

mod clock;
mod codec;
mod counters;
mod handle;
mod helpers;
mod realtime;
mod replay;
mod seal;
mod sink;
mod snapshot;
mod stand_in;
mod thread;

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::net::SocketAddr;

use lockstep_model::ids::{Epoch, GroupId, NodeId};
use lockstep_ownership::leader::Cause;
use lockstep_ownership::message::Tenure;
use lockstep_ownership::time::Instant;

pub(crate) use self::clock::refuse_shifted;
pub(crate) use self::handle::Handle;
pub(crate) use self::realtime::Lendable;
pub(crate) use self::sink::{KernelUntil, LeaseSink, NotInKernel};
pub(crate) use self::snapshot::Snapshot;
pub(crate) use self::thread::spawn;

/// Events that may be queued: more than every group can cause at once.
pub(crate) const EVENT_QUEUE: usize = 8 * lockstep_model::limits::MAX_GROUPS;

/// Who this node is, once it belongs to a cluster.
#[derive(Clone)]
pub(crate) struct Settings {
    /// The cluster's id.
    pub(crate) cluster: [u8; 16],
    /// This node.
    pub(crate) node: NodeId,
    /// Where lease datagrams are sent from and received.
    pub(crate) listen: SocketAddr,
    /// What the datagrams' MAC is keyed from.
    pub(crate) secret: [u8; 32],
    /// Assignments up to this epoch were to a kernel that is gone; 0: none.
    pub(crate) forgone: Epoch,
}

/// What the rest of the daemon is to know or do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Event {
    /// The kernel lease is written and the first announcement sent: this node owns the group.
    Opened(Tenure),
    /// The kernel lease was not renewed in time; it is asked for again, under the same epoch.
    Lapsed(Tenure),
    /// The kernel lease is closed, and no program runs that has read it: this node owns the group no more.
    Closed(Tenure),
    /// Send what the standbys lack and call [`Handle::flushed`]; the lease is closed then, or at `deadline`
    /// (CLOCK_MONOTONIC_RAW) at the latest.
    Flush {
        /// The tenure that ends.
        tenure: Tenure,
        /// When it ends at the latest.
        deadline: Instant,
    },
    /// The intent has begun or ceased to be stale: stop or resume creating flows.
    IntentStale(bool),
    /// Propose this assignment to Raft.
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
    /// Propose to Raft who holds a group's flows.
    SetReplicas {
        /// The group.
        group: GroupId,
        /// Its current epoch.
        epoch: Epoch,
        /// Who holds them now.
        replaces: BTreeSet<NodeId>,
        /// Who is to.
        nodes: BTreeSet<NodeId>,
    },
    /// Hand the Raft leadership over.
    TransferLeader(NodeId),
    /// Campaign against a Raft leader that is lost.
    Campaign {
        /// Who led.
        against: NodeId,
    },
    /// Nothing is claimed and nothing is left to give back.
    Idle,
}

/// A past instant of the lease thread on CLOCK_MONOTONIC, ns, for display.
pub(crate) fn to_monotonic(at: Instant) -> u64 {
    clock::to_monotonic(at)
}

/// What is left until an instant of the lease thread.
pub(crate) fn time_left(until: Instant) -> std::time::Duration {
    until.since(clock::now())
}
