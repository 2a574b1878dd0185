//! A group's flows get other holders.

use std::collections::BTreeSet;

use super::{invalid, not_found, or_none};
use crate::ids::{Epoch, GroupId, LogIndex, NodeId};
use crate::state::{Applied, Refusal, State};

pub(super) fn set(
    state: &mut State,
    index: LogIndex,
    id: GroupId,
    epoch: Epoch,
    replaces: &BTreeSet<NodeId>,
    nodes: &BTreeSet<NodeId>,
) -> Result<Applied, Refusal> {
    let group = state.groups.get(&id).ok_or_else(|| not_found("group", id))?;
    let object = format!("group/{}", group.spec.name);
    let Some(owner) = group.assignment.filter(|owner| owner.epoch == epoch) else {
        let line = format!("{object} unchanged: it is not at epoch {epoch}");
        return Ok(Applied::Unchanged { revision: state.revision, lines: vec![line] });
    };
    if !group.replicas.keys().eq(replaces) || group.replicas.keys().eq(nodes) {
        let line =
            format!("{object} unchanged: its flows are held by {}", names(state, group.replicas.keys()));
        return Ok(Applied::Unchanged { revision: state.revision, lines: vec![line] });
    }
    let path = || format!("{object}: replicas");
    if !nodes.contains(&owner.node) {
        let value = names(state, nodes);
        return Err(invalid(path(), value, format!("its owner, node {}, among them", owner.node)));
    }
    let candidates = state.candidates(&group.spec);
    let added = || nodes.iter().filter(|node| !group.replicas.contains_key(node));
    if let Some(stranger) = added().find(|node| **node != owner.node && !candidates.contains(node)) {
        let allowed = candidates.iter().filter_map(|c| state.nodes.get(c)).map(|n| n.name.as_str()).collect();
        return Err(invalid(path(), names(state, [stranger]), or_none(allowed)));
    }
    let line = format!("{object} held by {}", names(state, nodes));
    let group = state.groups.get_mut(&id).expect("it was found above");
    group.replicas.retain(|node, _| nodes.contains(node));
    for node in nodes {
        group.replicas.entry(*node).or_insert(index);
    }
    Ok(Applied::Changed { revision: state.revision, lines: vec![line] })
}

fn names<'a>(state: &State, nodes: impl IntoIterator<Item = &'a NodeId>) -> String {
    let name = |id: &NodeId| state.nodes.get(id).map_or_else(|| id.to_string(), |node| node.name.clone());
    let names: Vec<_> = nodes.into_iter().map(name).collect();
    if names.is_empty() { "nobody".to_owned() } else { names.join(", ") }
}
