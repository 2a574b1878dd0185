//! The replicated state, and `apply`.

mod addresses;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::command::Command;
use crate::health::Verdict;
use crate::ids::{EndpointId, Epoch, GroupId, InstallationId, LogIndex, NodeId, Revision, ServiceId};
use crate::intent::{
    ClusterSettings, EndpointSpec, EndpointState, GroupSpec, NodeRole, NodeSpec, ServiceSpec, SnatRuleSpec,
};

/// Everything the cluster has agreed on. Ordered maps only: iteration must be the same on every node.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct State {
    /// Log index of the last command that changed intent (not assignments or registrations).
    pub revision: Revision,
    /// Cluster settings.
    pub settings: ClusterSettings,
    /// Registered nodes.
    pub nodes: BTreeMap<NodeId, NodeSpec>,
    /// Groups by id.
    pub groups: BTreeMap<GroupId, Group>,
    /// Services by id.
    pub services: BTreeMap<ServiceId, Service>,
    /// Addresses that left a group and may not be served by another before the old owner's lease is over.
    /// At most [`crate::limits::MAX_RELEASED_ADDRESSES`], the latest.
    pub released: BTreeMap<IpAddr, Released>,
    /// Rules by id; ids are of the same kind as services', because flows name either.
    pub snat_rules: BTreeMap<ServiceId, SnatRule>,
    /// Addresses that flows leave with. Bit b: source ports b * 1024 to b * 1024 + 1023 belong to the group
    /// that owns the address (I8). Bit 0 is never set; some other bit is.
    pub port_blocks: BTreeMap<IpAddr, u64>,
    /// Nodes that shall own nothing, as an operator asked.
    pub draining: BTreeSet<NodeId>,
    /// Numbers up to here were given to nodes: who has one of them and is not in `nodes` has left. 0 until a
    /// node joins or leaves; those that `cluster init` numbers register in any order.
    pub last_node: NodeId,
    /// Of nodes that joined a cluster that existed.
    pub installations: BTreeMap<NodeId, InstallationId>,
}

/// A group and its ownership.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Group {
    /// Intent.
    pub spec: GroupSpec,
    /// Current assignment; `None` until the leader made one.
    pub assignment: Option<Assignment>,
    /// Who holds its flows, or is to: its owner and its standbys, each with the index of the log since when. Empty until they
    /// are named for the first time.
    pub replicas: BTreeMap<NodeId, LogIndex>,
    /// Revision of the last change.
    pub revision: Revision,
}

/// Who should own a group. The lease says who may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Assignment {
    /// Log index of the assignment.
    pub epoch: Epoch,
    /// The owner.
    pub node: NodeId,
}

/// A service with the ids its parts were given.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Service {
    /// Intent.
    pub spec: ServiceSpec,
    /// Ids of `spec.endpoints`, in the same order.
    pub endpoint_ids: Vec<EndpointId>,
    /// The group that `spec.group` names.
    pub group: GroupId,
    /// Revision of the last change; names the immutable version of I11.
    pub revision: Revision,
    /// Of the endpoints that are probed. One that is not named is up until it is judged.
    pub verdicts: BTreeMap<EndpointId, Verdict>,
}

impl Service {
    /// Whether the cluster has agreed that an endpoint is down.
    pub fn is_down(&self, endpoint: EndpointId) -> bool {
        self.verdicts.get(&endpoint).is_some_and(|verdict| !verdict.up)
    }

    /// The endpoints that are probed, with their ids: all but those that are disabled, if there is a check.
    pub fn probed(&self) -> impl Iterator<Item = (EndpointId, &EndpointSpec)> {
        let probed =
            |spec: &&EndpointSpec| self.spec.health.is_some() && spec.state != EndpointState::Disabled;
        let endpoints = self.endpoint_ids.iter().copied().zip(&self.spec.endpoints);
        endpoints.filter(move |(_, spec)| probed(spec))
    }
}

/// An SNAT rule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnatRule {
    /// Intent.
    pub spec: SnatRuleSpec,
    /// The group that `spec.group` names.
    pub group: GroupId,
    /// Revision of the last change.
    pub revision: Revision,
}

/// An address that a group gave up. It stays remembered while another group has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Released {
    /// Who had it.
    pub by: GroupId,
    /// When the group gave it up, or, later, when another group took it and the old group's epoch was raised
    /// for that. It is served elsewhere only MAX_LEASE after this index was applied locally.
    pub index: LogIndex,
}

/// What a command answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Applied {
    /// It changed something; the revision after it, and a line per object ("service/web created").
    Changed {
        /// Revision after the command.
        revision: Revision,
        /// One line per object.
        lines: Vec<String>,
    },
    /// Nothing to change: same as before, or an assignment that lost its race.
    Unchanged {
        /// Revision, unchanged.
        revision: Revision,
        /// One line per object.
        lines: Vec<String>,
    },
    /// Refused; the state is the same as before.
    Refused(Refusal),
}

/// Why a command was refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Refusal {
    /// A value is not allowed. Exit code 1, gRPC INVALID_ARGUMENT.
    #[error("{path}: {value}: allowed {allowed}")]
    Invalid {
        /// Where, e.g. `service/web: spec.group`.
        path: String,
        /// The value.
        value: String,
        /// What is allowed.
        allowed: String,
    },
    /// Nothing has that name. Exit code 4, gRPC NOT_FOUND.
    #[error("{kind} {name:?} does not exist")]
    NotFound {
        /// `group`, `service`, `snatrule`, `node`, `address`.
        kind: String,
        /// The name.
        name: String,
    },
    /// The state moved on. Exit code 5, gRPC ABORTED.
    #[error("expected revision {expected}, the cluster is at {current}: read again and retry")]
    Conflict {
        /// What the caller saw.
        expected: Revision,
        /// What is.
        current: Revision,
    },
}

/// Applies `command`, found at `index` of the log, to `state`. Pure and deterministic; a refused command
/// leaves the state untouched.
pub fn apply(state: &mut State, index: LogIndex, command: &Command) -> Applied {
    crate::apply::apply(state, index, command)
}

impl State {
    /// The group of that name.
    pub fn group(&self, name: &str) -> Option<(GroupId, &Group)> {
        self.groups.iter().find(|(_, g)| g.spec.name == name).map(|(id, g)| (*id, g))
    }

    /// The service of that name.
    pub fn service(&self, name: &str) -> Option<(ServiceId, &Service)> {
        self.services.iter().find(|(_, s)| s.spec.name == name).map(|(id, s)| (*id, s))
    }

    /// The SNAT rule of that name.
    pub fn snat_rule(&self, name: &str) -> Option<(ServiceId, &SnatRule)> {
        self.snat_rules.iter().find(|(_, r)| r.spec.name == name).map(|(id, r)| (*id, r))
    }

    /// The node of that name.
    pub fn node(&self, name: &str) -> Option<(NodeId, &NodeSpec)> {
        self.nodes.iter().find(|(_, n)| n.name == name).map(|(id, n)| (*id, n))
    }

    /// What a new cluster begins with that is made from this state: the intent. No node, and so no owner, goes with it;
    /// numbers that were given are not given again.
    pub fn refound(&mut self) {
        let newest = self.nodes.last_key_value().map_or(NodeId(0), |(id, _)| *id);
        self.last_node = self.last_node.max(newest);
        self.nodes.clear();
        self.draining.clear();
        self.installations.clear();
        for group in self.groups.values_mut() {
            group.assignment = None;
            group.replicas.clear();
        }
    }

    /// The nodes that may own `group`, the preferred first: those it names, or every data-plane node by id.
    pub fn candidates(&self, group: &GroupSpec) -> Vec<NodeId> {
        let carries = |node: &NodeSpec| node.role == NodeRole::Dataplane;
        if group.nodes.is_empty() {
            return self.nodes.iter().filter(|(_, n)| carries(n)).map(|(id, _)| *id).collect();
        }
        let named = group.nodes.iter().filter_map(|name| self.node(name));
        named.filter(|(_, n)| carries(n)).map(|(id, _)| id).collect()
    }
}
