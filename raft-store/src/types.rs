//! The types Raft is made of here, for any async runtime.

use std::fmt;
use std::marker::PhantomData;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use lockstep_model::command::Command;
use lockstep_model::state::Applied;
use openraft::AsyncRuntime;
use serde::{Deserialize, Serialize};

/// Raft's type configuration over the runtime `RT`: Tokio in production, a virtual clock in simulation.
pub struct Types<RT>(PhantomData<fn() -> RT>);

/// What is proposed. Shared, because the log, the network and `apply` each hold it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Command", into = "Command")]
pub struct Proposal(pub Arc<Command>);

impl From<Command> for Proposal {
    fn from(command: Command) -> Self {
        Proposal(Arc::new(command))
    }
}

impl From<Proposal> for Command {
    fn from(proposal: Proposal) -> Self {
        Arc::unwrap_or_clone(proposal.0)
    }
}

impl fmt::Display for Proposal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &*self.0 {
            Command::Change { changes, .. } => write!(f, "{} changes", changes.len()),
            Command::RegisterNode { id, .. } => write!(f, "register node {id}"),
            Command::Assign { group, node, .. } => write!(f, "assign group {group} to node {node}"),
            Command::SetReplicas { group, nodes, .. } => {
                let nodes: Vec<_> = nodes.iter().map(ToString::to_string).collect();
                write!(f, "flows of group {group} held by nodes {}", nodes.join(", "))
            }
            Command::AllocatePortBlocks { address, count } => {
                write!(f, "allocate {count} port blocks of {address}")
            }
            Command::ReleasePortBlocks { address, blocks } => {
                write!(f, "release {} port blocks of {address}", blocks.count_ones())
            }
            Command::Judge { judgements, .. } => write!(f, "{} verdicts", judgements.len()),
            Command::AdmitNode { spec, .. } => write!(f, "admit node {}", spec.name),
            Command::DrainNode { id, draining: true } => write!(f, "drain node {id}"),
            Command::DrainNode { id, draining: false } => write!(f, "undrain node {id}"),
            Command::RemoveNode { id } => write!(f, "remove node {id}"),
        }
    }
}

/// What applying an entry answered; `None` for entries that carry no command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer(pub Option<Applied>);

/// How Raft reaches a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Peer {
    /// Its cluster listener.
    pub address: SocketAddr,
}

impl Default for Peer {
    fn default() -> Self {
        Peer { address: (Ipv4Addr::UNSPECIFIED, 0).into() }
    }
}

/// Who leads, in which term: two candidates of one term may both become leaders in turn, which costs fewer
/// lost elections.
pub type LeaderId = openraft::impls::leader_id_adv::LeaderId<u64, u64>;
/// A vote.
pub type Vote = openraft::Vote<LeaderId>;
/// An entry's identity.
pub type LogId = openraft::LogId<LeaderId>;
/// Voters and learners.
pub type Membership = openraft::Membership<u64, Peer>;
/// A membership and the entry it came with.
pub type StoredMembership = openraft::StoredMembership<LeaderId, u64, Peer>;
/// What an entry carries.
pub type Payload = openraft::EntryPayload<Proposal, u64, Peer>;
/// A log entry.
pub type Entry = openraft::Entry<LeaderId, Payload>;
/// What a snapshot covers.
pub type SnapshotMeta = openraft::SnapshotMeta<LeaderId, u64, Peer>;
/// A snapshot as it travels.
pub type Snapshot = openraft::Snapshot<LeaderId, u64, Peer, crate::snapshot::SnapshotBytes>;

impl<RT: AsyncRuntime> openraft::RaftTypeConfig for Types<RT> {
    type D = Proposal;
    type R = Answer;
    type NodeId = u64;
    type Node = Peer;
    type Term = u64;
    type LeaderId = LeaderId;
    type Vote = Vote;
    type Payload = Payload;
    type Entry = Entry;
    type AsyncRuntime = RT;
    type Responder<T>
        = openraft::impls::ProgressResponder<Self, T>
    where
        T: openraft::OptionalSend + 'static;
    type Batch<T>
        = openraft::impls::InlineBatch<T>
    where
        T: openraft::OptionalSend + 'static;
    type ErrorSource = openraft::impls::BoxedErrorSource;
}

// By hand: a derive would ask the same of the runtime, which is only named.
impl<RT> fmt::Debug for Types<RT> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Types")
    }
}

impl<RT> Clone for Types<RT> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<RT> Copy for Types<RT> {}

impl<RT> Default for Types<RT> {
    fn default() -> Self {
        Types(PhantomData)
    }
}

impl<RT> PartialEq for Types<RT> {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl<RT> Eq for Types<RT> {}

impl<RT> PartialOrd for Types<RT> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl<RT> Ord for Types<RT> {
    fn cmp(&self, _: &Self) -> std::cmp::Ordering {
        std::cmp::Ordering::Equal
    }
}
