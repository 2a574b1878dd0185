//! Nodes register, join and leave.

use super::{invalid, not_found, refuse_first};
use crate::check;
use crate::ids::{InstallationId, NodeId};
use crate::intent::{NodeRole, NodeSpec};
use crate::limits::MAX_NODES;
use crate::state::{Applied, Refusal, State};

pub(super) fn register(state: &mut State, id: NodeId, spec: &NodeSpec) -> Result<Applied, Refusal> {
    if id <= state.last_node && !state.nodes.contains_key(&id) {
        let allowed = "nodes that have not left: empty this one's data directory and let it join again";
        return Err(invalid("node".into(), id, allowed));
    }
    record(state, id, spec, "registered")
}

pub(super) fn admit(
    state: &mut State,
    installation: InstallationId,
    spec: &NodeSpec,
) -> Result<Applied, Refusal> {
    refuse_taken_address(state, installation, spec)?;
    let known = state.installations.iter().find(|(_, i)| **i == installation).map(|(id, _)| *id);
    let id = known.unwrap_or_else(|| NodeId(newest(state).get() + 1));
    let applied = record(state, id, spec, "admitted")?;
    state.last_node = state.last_node.max(id);
    state.installations.insert(id, installation);
    Ok(applied)
}

pub(super) fn drain(state: &mut State, id: NodeId, draining: bool) -> Result<Applied, Refusal> {
    let spec = state.nodes.get(&id).ok_or_else(|| not_found("node", id))?;
    if spec.role != NodeRole::Dataplane {
        let allowed = "data-plane nodes: a witness owns nothing";
        return Err(invalid("node".into(), &spec.name, allowed));
    }
    let (revision, object) = (state.revision, format!("node/{}", spec.name));
    let changed = if draining { state.draining.insert(id) } else { state.draining.remove(&id) };
    if !changed {
        return Ok(Applied::Unchanged { revision, lines: vec![format!("{object} unchanged")] });
    }
    let verb = if draining { "drained" } else { "undrained" };
    Ok(Applied::Changed { revision, lines: vec![format!("{object} {verb}")] })
}

pub(super) fn remove(state: &mut State, id: NodeId) -> Result<Applied, Refusal> {
    let name = state.nodes.get(&id).ok_or_else(|| not_found("node", id))?.name.clone();
    let owned = state.groups.values().find(|g| g.assignment.is_some_and(|a| a.node == id));
    if let Some(group) = owned {
        let allowed = "nodes that own nothing: `lockstep cluster leave` on the node itself hands over first";
        return Err(invalid(format!("node/{name}: owner of"), &group.spec.name, allowed));
    }
    state.last_node = newest(state);
    state.nodes.remove(&id);
    state.installations.remove(&id);
    state.draining.remove(&id);
    for group in state.groups.values_mut() {
        group.replicas.remove(&id);
    }
    Ok(Applied::Changed { revision: state.revision, lines: vec![format!("node/{name} removed")] })
}

/// The highest number ever given.
fn newest(state: &State) -> NodeId {
    state.nodes.last_key_value().map_or(state.last_node, |(id, _)| state.last_node.max(*id))
}

/// Two nodes behind one address would each be taken for the other.
fn refuse_taken_address(state: &State, mine: InstallationId, spec: &NodeSpec) -> Result<(), Refusal> {
    let others = state.nodes.iter().filter(|(id, _)| state.installations.get(id) != Some(&mine));
    for (id, other) in others {
        for (path, ours, theirs) in [
            ("cluster_address", spec.cluster_address, other.cluster_address),
            ("lease_address", spec.lease_address, other.lease_address),
        ] {
            if ours == theirs && other.name != spec.name {
                let allowed = format!("an address of its own: node {id} ({}) has this one", other.name);
                return Err(invalid(format!("node/{}: {path}", spec.name), ours, allowed));
            }
        }
    }
    Ok(())
}

fn record(state: &mut State, id: NodeId, spec: &NodeSpec, new: &str) -> Result<Applied, Refusal> {
    let object = format!("node/{}", spec.name);
    refuse_first(&object, check::node(spec))?;
    if let Some((other, _)) = state.node(&spec.name).filter(|(other, _)| *other != id) {
        let allowed = format!(
            "a name of its own: node {other} has this one (gone for good? `lockstep cluster leave {}` on another node, \
             then join again)",
            spec.name
        );
        return Err(invalid(format!("node/{id}: name"), &spec.name, allowed));
    }
    let known = state.nodes.get(&id);
    if known.is_none() && state.nodes.len() >= MAX_NODES {
        return Err(invalid("nodes".into(), state.nodes.len() + 1, format!("at most {MAX_NODES}")));
    }
    let revision = state.revision;
    if known == Some(spec) {
        return Ok(Applied::Unchanged { revision, lines: vec![format!("{object} unchanged")] });
    }
    let verb = if known.is_some() { "configured" } else { new };
    state.nodes.insert(id, spec.clone());
    Ok(Applied::Changed { revision, lines: vec![format!("{object} {verb}")] })
}
