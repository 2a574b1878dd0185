//! What the machines need of the agreed state.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use lockstep_model::ids::{GroupId, LogIndex, NodeId};
use lockstep_model::intent::NodeRole;
use lockstep_model::state::{Assignment, State};

/// A digest of the applied state.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct View {
    /// How much of the log is applied.
    pub applied: LogIndex,
    /// The lease's duration.
    pub lease: Duration,
    /// Every group.
    pub groups: BTreeMap<GroupId, GroupView>,
    /// Which group has an address, or gave it up last.
    pub holders: BTreeMap<IpAddr, GroupId>,
    /// Every registered node.
    pub nodes: BTreeMap<NodeId, NodeRole>,
    /// Those that an operator wants to own nothing.
    pub draining: BTreeSet<NodeId>,
}

/// A group's part.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct GroupView {
    /// What intent calls it.
    pub name: String,
    /// Who should own it.
    pub assignment: Option<Assignment>,
    /// Who holds its flows, or is to: its owner and its standbys, each with the index of the log since when.
    pub replicas: BTreeMap<NodeId, LogIndex>,
    /// How many standbys it is to have.
    pub standbys: usize,
    /// Who may own it, most preferred first; empty: any data-plane node.
    pub preference: Vec<NodeId>,
    /// Whether `preference` names anybody at all. Names that belong to nobody (yet) do not open the group to
    /// everybody.
    pub restricted: bool,
    /// Whether it goes back to a more preferred node when one can serve it again.
    pub failback: bool,
}

impl View {
    /// The digest of `state`, applied up to `applied`.
    pub fn of(applied: LogIndex, state: &State) -> Self {
        let groups = state
            .groups
            .iter()
            .map(|(id, group)| {
                let preference = group
                    .spec
                    .nodes
                    .iter()
                    .filter_map(|name| state.nodes.iter().find(|(_, n)| &n.name == name).map(|(id, _)| *id))
                    .collect();
                let restricted = !group.spec.nodes.is_empty();
                let name = group.spec.name.clone();
                let (assignment, failback) = (group.assignment, group.spec.failback);
                let (replicas, standbys) = (group.replicas.clone(), group.spec.standbys.into());
                (*id, GroupView { name, assignment, replicas, standbys, preference, restricted, failback })
            })
            .collect();
        let mut holders: BTreeMap<_, _> = state.released.iter().map(|(a, r)| (*a, r.by)).collect();
        holders.extend(state.addresses());
        View {
            applied,
            holders,
            lease: state.settings.lease.duration(),
            groups,
            nodes: state.nodes.iter().map(|(id, n)| (*id, n.role)).collect(),
            draining: state.draining.clone(),
        }
    }

    /// The current assignment of a group.
    pub fn assignment(&self, group: GroupId) -> Option<Assignment> {
        self.groups.get(&group).and_then(|g| g.assignment)
    }

    /// How many groups a node should own.
    pub fn load(&self, node: NodeId) -> usize {
        self.groups.values().filter(|g| g.assignment.is_some_and(|a| a.node == node)).count()
    }
}
