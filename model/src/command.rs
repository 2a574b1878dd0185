//! What can be written to the Raft log. One command is one revision; applying it is a pure function of
//! state, log index and command.

use std::collections::BTreeSet;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::health::Judgement;
use crate::ids::{Epoch, GroupId, InstallationId, NodeId, Revision};
use crate::intent::{ClusterSettings, GroupSpec, NodeSpec, ServiceSpec, SnatRuleSpec};

/// A command of the Raft log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Command {
    /// Several intent changes that apply together or not at all (`apply -f`). `expected`: refuse with a
    /// conflict when the state's revision is another.
    Change {
        /// Optimistic concurrency.
        expected: Option<Revision>,
        /// At most [`crate::limits::MAX_CHANGES`].
        changes: Vec<Change>,
    },
    /// A node registers itself, or changes its addresses.
    RegisterNode {
        /// Its number, from the cluster's membership.
        id: NodeId,
        /// What it says of itself.
        spec: NodeSpec,
    },
    /// A group gets a (new) owner. A no-op when `replaces` is not the group's current epoch.
    Assign {
        /// The group.
        group: GroupId,
        /// The epoch this replaces (0 for the first).
        replaces: Epoch,
        /// The next owner. The epoch is the log index of this command.
        node: NodeId,
    },
    /// A group's flows are held by these nodes, its owner among them. A no-op when `epoch` is not the group's current one,
    /// or others hold its flows than `replaces`.
    SetReplicas {
        /// The group.
        group: GroupId,
        /// Its epoch.
        epoch: Epoch,
        /// Who held them when this was proposed.
        replaces: BTreeSet<NodeId>,
        /// Who is to.
        nodes: BTreeSet<NodeId>,
    },
    /// An address that flows leave with gets more source ports. A no-op where there are no more.
    AllocatePortBlocks {
        /// The address.
        address: IpAddr,
        /// How many blocks, 1-63: the lowest free ones.
        count: u8,
    },
    /// An address gives up source ports that no flow has. A no-op where it would keep none.
    ReleasePortBlocks {
        /// The address.
        address: IpAddr,
        /// Bit b: block b.
        blocks: u64,
    },
    /// Endpoints are up or down, as a majority of the nodes that probe them say. What is so already, or is about
    /// a service that has changed since, is a no-op.
    Judge {
        /// The leader's wall clock, in milliseconds since 1970. For people only.
        at_unix_ms: u64,
        /// At most [`crate::limits::MAX_JUDGEMENTS`].
        judgements: Vec<Judgement>,
    },
    /// A node joins a cluster that exists: it is given the next number, and registered. The same installation
    /// gets the same number again.
    AdmitNode {
        /// Whose data directory it is.
        installation: InstallationId,
        /// What the node says of itself.
        spec: NodeSpec,
    },
    /// An operator wants a node to own nothing, or allows it again. It stays so over restarts.
    DrainNode {
        /// Its number.
        id: NodeId,
        /// Whether it shall own nothing.
        draining: bool,
    },
    /// A node has left. Refused while it owns a group. Its number is never given again.
    RemoveNode {
        /// Its number.
        id: NodeId,
    },
}

/// One change of intent.
#[expect(clippy::large_enum_variant, reason = "changes come one at a time, and most are of services")]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Change {
    /// Create or replace.
    UpsertGroup(GroupSpec),
    /// Refused while services or rules name the group.
    DeleteGroup(String),
    /// Create or replace. Endpoints with the same address and port keep their id.
    UpsertService(ServiceSpec),
    /// Live flows of the service end with it.
    DeleteService(String),
    /// Create or replace.
    UpsertSnatRule(SnatRuleSpec),
    /// Live flows of the rule end with it.
    DeleteSnatRule(String),
    /// Lease profile and quorum-loss behaviour.
    SetCluster(ClusterSettings),
}
