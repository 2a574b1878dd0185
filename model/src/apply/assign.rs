//! A group gets an owner.

use super::{invalid, not_found, or_none};
use crate::ids::{Epoch, GroupId, LogIndex, NodeId};
use crate::state::{Applied, Assignment, Refusal, State};

pub(super) fn assign(
    state: &mut State,
    index: LogIndex,
    id: GroupId,
    replaces: Epoch,
    node: NodeId,
) -> Result<Applied, Refusal> {
    let group = state.groups.get(&id).ok_or_else(|| not_found("group", id))?;
    let name = group.spec.name.clone();
    let current = group.assignment.map(|a| a.epoch).unwrap_or_default();
    if replaces != current {
        let line = format!("group/{name} unchanged: it is at epoch {current}, not {replaces}");
        return Ok(Applied::Unchanged { revision: state.revision, lines: vec![line] });
    }
    let owner = state.nodes.get(&node).ok_or_else(|| not_found("node", node))?.name.clone();
    let candidates = state.candidates(&group.spec);
    if !candidates.contains(&node) {
        let names = candidates.iter().filter_map(|c| state.nodes.get(c)).map(|n| n.name.as_str());
        return Err(invalid(format!("group/{name}: owner"), owner, or_none(names.collect())));
    }
    let epoch = Epoch(index.get());
    let line = format!("group/{name} assigned to {owner}, epoch {epoch}");
    let group = state.groups.get_mut(&id).expect("it was found above");
    group.assignment = Some(Assignment { epoch, node });
    // Of a group that no replicas were named for, each node that knows it must go on knowing the same.
    if !group.replicas.is_empty() {
        group.replicas.entry(node).or_insert(index);
    }
    Ok(Applied::Changed { revision: state.revision, lines: vec![line] })
}
