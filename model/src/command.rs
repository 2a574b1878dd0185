//! What can be written to the Raft log. One command is one revision; applying it is a pure function of
//! state, log index and command.

use serde::{Deserialize, Serialize};

use crate::ids::{Epoch, GroupId, NodeId, Revision};
use crate::intent::{ClusterSettings, GroupSpec, NodeSpec, ServiceSpec};

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
}

/// One change of intent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Change {
    /// Create or replace.
    UpsertGroup(GroupSpec),
    /// Refused while services name the group.
    DeleteGroup(String),
    /// Create or replace. Endpoints with the same address and port keep their id.
    UpsertService(ServiceSpec),
    /// Live flows of the service end with it.
    DeleteService(String),
    /// Lease profile and quorum-loss behaviour.
    SetCluster(ClusterSettings),
}
