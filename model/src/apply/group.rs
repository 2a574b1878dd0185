//! Groups are made, changed, deleted.

use std::collections::BTreeMap;

use super::change::{Draft, Verb};
use super::{invalid, not_found, or_none, refuse_first};
use crate::check;
use crate::ids::GroupId;
use crate::intent::{GroupSpec, NodeRole};
use crate::state::{Group, Refusal, State};

pub(super) fn upsert(draft: &mut Draft, spec: &GroupSpec) -> Result<Verb, Refusal> {
    refuse_first(&format!("group/{}", spec.name), check::group(spec))?;
    let revision = draft.revision();
    let known = draft.state.group(&spec.name).map(|(id, group)| (id, group.spec == *spec));
    match known {
        // Not checked again: applying what the cluster already has must never fail.
        Some((_, true)) => Ok(Verb::Unchanged),
        Some((id, false)) => {
            check_nodes(&draft.state, spec)?;
            let group = draft.state.groups.get_mut(&id).expect("it was found above");
            group.spec = spec.clone();
            group.revision = revision;
            Ok(Verb::Configured)
        }
        None => {
            check_nodes(&draft.state, spec)?;
            let id = GroupId(draft.next_id());
            draft.state.groups.insert(
                id,
                Group { spec: spec.clone(), assignment: None, replicas: BTreeMap::new(), revision },
            );
            Ok(Verb::Created)
        }
    }
}

pub(super) fn delete(draft: &mut Draft, name: &str) -> Result<Verb, Refusal> {
    let (id, _) = draft.state.group(name).ok_or_else(|| not_found("group", name))?;
    let services = draft.state.services.values().filter(|s| s.group == id);
    let users: Vec<&str> = services.map(|s| s.spec.name.as_str()).collect();
    if !users.is_empty() {
        let allowed = format!("once no service names it; these do: {}", users.join(", "));
        return Err(invalid(format!("group/{name}"), "delete", allowed));
    }
    let rules = draft.state.snat_rules.values().filter(|r| r.group == id);
    let users: Vec<&str> = rules.map(|r| r.spec.name.as_str()).collect();
    if !users.is_empty() {
        let allowed = format!("once no snatrule names it; these do: {}", users.join(", "));
        return Err(invalid(format!("group/{name}"), "delete", allowed));
    }
    draft.state.groups.remove(&id);
    Ok(Verb::Deleted)
}

fn check_nodes(state: &State, spec: &GroupSpec) -> Result<(), Refusal> {
    for (i, name) in spec.nodes.iter().enumerate() {
        if !state.node(name).is_some_and(|(_, node)| node.role == NodeRole::Dataplane) {
            let carriers = state.nodes.values().filter(|n| n.role == NodeRole::Dataplane);
            let names = carriers.map(|n| n.name.as_str()).collect();
            let allowed = format!("the data-plane nodes: {}", or_none(names));
            return Err(invalid(format!("group/{}: spec.nodes[{i}]", spec.name), name, allowed));
        }
    }
    Ok(())
}
