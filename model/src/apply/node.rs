//! A node registers.

use super::{invalid, refuse_first};
use crate::check;
use crate::ids::NodeId;
use crate::intent::NodeSpec;
use crate::limits::MAX_NODES;
use crate::state::{Applied, Refusal, State};

pub(super) fn register(state: &mut State, id: NodeId, spec: &NodeSpec) -> Result<Applied, Refusal> {
    let object = format!("node/{}", spec.name);
    refuse_first(&object, check::node(spec))?;
    if let Some((other, _)) = state.node(&spec.name).filter(|(other, _)| *other != id) {
        let allowed = format!("a name of its own: node {other} has this one");
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
    let verb = if known.is_some() { "configured" } else { "registered" };
    state.nodes.insert(id, spec.clone());
    Ok(Applied::Changed { revision, lines: vec![format!("{object} {verb}")] })
}
