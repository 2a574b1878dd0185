//! SNAT rules.

use super::{Problem, address, count, name, unique};
use crate::intent::{PortRange, Prefix, SnatAction, SnatRuleSpec};
use crate::limits::MAX_SNAT_ADDRESSES;
use crate::protocol::Family;

/// Everything wrong with an SNAT rule by itself.
pub fn snat_rule(spec: &SnatRuleSpec) -> Vec<Problem> {
    let mut problems = Vec::new();
    name("name", &spec.name, &mut problems);
    matching(spec, &mut problems);
    action(spec, &mut problems);
    problems
}

fn matching(spec: &SnatRuleSpec, problems: &mut Vec<Problem>) {
    for (field, prefix) in [("source", spec.source), ("destination", spec.destination)] {
        if !prefix.is_valid() {
            problems.push(Problem::new(format!("spec.match.{field}"), prefix, Prefix::FORMS));
        }
    }
    if spec.destination.family() != spec.family() {
        let allowed = format!("an {} prefix, as the source is", spec.family());
        problems.push(Problem::new("spec.match.destination", spec.destination, allowed));
    }
    if !spec.ports.is_valid() || spec.ports == PortRange::NONE {
        problems.push(Problem::new("spec.match.ports", spec.ports, PortRange::FORMS));
    }
    if spec.ports != PortRange::ANY && !spec.protocol.is_some_and(|p| p.has_ports()) {
        let allowed = "\"*\": only with protocol tcp, udp or sctp are there other ports";
        problems.push(Problem::new("spec.match.ports", spec.ports, allowed));
    }
}

fn action(spec: &SnatRuleSpec, problems: &mut Vec<Problem>) {
    let to = spec.action.addresses();
    if let SnatAction::Snat(to) = &spec.action {
        count("spec.action.to", to.len(), 1, MAX_SNAT_ADDRESSES, problems);
        unique("spec.action.to", to, problems);
    }
    for (i, target) in to.iter().enumerate() {
        let path = format!("spec.action.to[{i}]");
        address(&path, *target, problems);
        if Family::of(*target) != spec.family() {
            problems.push(Problem::new(
                path,
                target,
                format!("an {} address, as the source is", spec.family()),
            ));
        }
    }
    if let SnatAction::Static(_) = spec.action {
        if !spec.source.is_host() {
            let allowed = format!("one host (/{}): action static is 1:1", spec.family().bits());
            problems.push(Problem::new("spec.match.source", spec.source, allowed));
        }
        // What comes in is not matched by anything but the address: a rule that says otherwise would lie.
        let open = spec.destination == Prefix::any(spec.family()) && spec.protocol.is_none();
        if !open {
            let value = format!("{} {}", spec.destination, shown(spec));
            let allowed = "every destination and protocol: action static is 1:1 in both directions";
            problems.push(Problem::new("spec.match", value, allowed));
        }
    }
}

fn shown(spec: &SnatRuleSpec) -> String {
    spec.protocol.map_or("any".to_owned(), |protocol| protocol.to_string())
}
