//! SNAT rules are made, changed, deleted.

use super::change::{Draft, Verb};
use super::{invalid, not_found, or_none, refuse_first};
use crate::check;
use crate::ids::ServiceId;
use crate::intent::{PortRange, SnatAction, SnatRuleSpec};
use crate::limits::MAX_SNAT_RULES_OF_A_SOURCE;
use crate::state::{Refusal, SnatRule, State};

pub(super) fn upsert(draft: &mut Draft, spec: &SnatRuleSpec) -> Result<Verb, Refusal> {
    refuse_first(&format!("snatrule/{}", spec.name), check::snat_rule(spec))?;
    let Some((group, _)) = draft.state.group(&spec.group) else {
        let names = draft.state.groups.values().map(|g| g.spec.name.as_str()).collect();
        let allowed = format!("an existing group: {}", or_none(names));
        return Err(invalid(format!("snatrule/{}: spec.group", spec.name), &spec.group, allowed));
    };
    let known = draft.state.snat_rule(&spec.name).map(|(id, rule)| (id, rule.clone()));
    if known.as_ref().is_some_and(|(_, old)| old.spec == *spec && old.group == group) {
        return Ok(Verb::Unchanged);
    }
    let revision = draft.revision();
    let (id, verb) = match known {
        Some((id, _)) => (id, Verb::Configured),
        None => (ServiceId(draft.next_id()), Verb::Created),
    };
    draft.state.snat_rules.insert(id, SnatRule { spec: spec.clone(), group, revision });
    Ok(verb)
}

pub(super) fn delete(draft: &mut Draft, name: &str) -> Result<Verb, Refusal> {
    let (id, _) = draft.state.snat_rule(name).ok_or_else(|| not_found("snatrule", name))?;
    draft.state.snat_rules.remove(&id);
    Ok(Verb::Deleted)
}

/// What must hold between rules, and between a rule and the services.
pub(super) fn check(state: &State) -> Result<(), Refusal> {
    check_sources(state)?;
    check_static(state)
}

/// A packet is compared with every rule whose source contains its own, one after the other: I13 bounds them.
fn check_sources(state: &State) -> Result<(), Refusal> {
    for rule in state.snat_rules.values().map(|rule| &rule.spec) {
        let covering = state.snat_rules.values().filter(|other| other.spec.source.covers(&rule.source));
        let names: Vec<&str> = covering.map(|other| other.spec.name.as_str()).collect();
        if names.len() > MAX_SNAT_RULES_OF_A_SOURCE {
            let path = format!("snatrule/{}: spec.match.source", rule.name);
            let allowed = format!(
                "a source that at most {MAX_SNAT_RULES_OF_A_SOURCE} rules apply to; these {} do: {}",
                names.len(),
                names.join(", ")
            );
            return Err(invalid(path, rule.source, allowed));
        }
    }
    Ok(())
}

/// What comes to a static address goes to one host, unless it is for a service of some ports.
fn check_static(state: &State) -> Result<(), Refusal> {
    let rules = || state.snat_rules.iter().map(|(id, rule)| (id, &rule.spec));
    for (id, rule) in rules() {
        let SnatAction::Static(to) = rule.action else { continue };
        let path = || format!("snatrule/{}: spec.action.to[0]", rule.name);
        let twin = rules().find(|(other, spec)| *other > id && spec.action == SnatAction::Static(to));
        if let Some((_, other)) = twin {
            let allowed = format!("an address that no other static rule has: snatrule/{} has it", other.name);
            return Err(invalid(path(), to, allowed));
        }
        let wildcard = |service: &&crate::state::Service| {
            service.spec.port == PortRange::ANY && state.vips(service).contains(&to)
        };
        if let Some(service) = state.services.values().find(wildcard) {
            let name = &service.spec.name;
            let allowed = format!("an address that no service has every port of: service/{name} has");
            return Err(invalid(path(), to, allowed));
        }
    }
    Ok(())
}
