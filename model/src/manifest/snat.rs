//! `kind: SnatRule`.

use super::reader::{Fields, Node};
use super::service::PROTOCOL;
use crate::intent::{PortRange, Prefix, SnatAction, SnatRuleSpec};
use crate::protocol::{Family, Protocol};

const DEFAULT_PRIORITY: u16 = 100;

/// What the rule does, without the addresses.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Snat,
    Static,
    None,
}

const KIND: &[(&str, Kind)] = &[("snat", Kind::Snat), ("static", Kind::Static), ("none", Kind::None)];

struct Match {
    source: Prefix,
    destination: Prefix,
    protocol: Option<Protocol>,
    ports: PortRange,
}

pub(super) fn read(document: &Fields<'_>) -> Option<SnatRuleSpec> {
    let name = document.required("name", "a name").and_then(|v| v.text());
    let spec = document.required("spec", "a mapping of fields")?.object()?;
    spec.only(&["group", "priority", "match", "action"]);
    let group = spec.required("group", "the name of a group").and_then(|v| v.text());
    let priority = spec.or("priority", DEFAULT_PRIORITY, |v| v.integer(0, u16::MAX));
    let matching = spec.required("match", "a mapping of fields").and_then(|v| matching(&v));
    let action = spec.required("action", "a mapping of fields").and_then(|v| action(&v));
    let matching = matching?;
    Some(SnatRuleSpec {
        name: name?.to_owned(),
        group: group?.to_owned(),
        priority: priority?,
        source: matching.source,
        destination: matching.destination,
        protocol: matching.protocol,
        ports: matching.ports,
        action: action?,
    })
}

fn matching(value: &Node<'_>) -> Option<Match> {
    let fields = value.object()?;
    fields.only(&["source", "destination", "protocol", "ports"]);
    let source = fields.required("source", Prefix::FORMS).and_then(|v| v.prefix());
    let family = source.map_or(Family::V4, |prefix| prefix.family());
    let destination = fields.or("destination", Prefix::any(family), |v| v.prefix());
    let protocol = fields.or("protocol", None, |v| v.word(&protocols(), ""));
    let ports = fields.or("ports", PortRange::ANY, |v| v.ports());
    Some(Match { source: source?, destination: destination?, protocol: protocol?, ports: ports? })
}

/// Those of services, and any.
fn protocols() -> Vec<(&'static str, Option<Protocol>)> {
    let known = PROTOCOL.iter().map(|(word, protocol)| (*word, Some(*protocol)));
    std::iter::once(("any", None)).chain(known).collect()
}

fn action(value: &Node<'_>) -> Option<SnatAction> {
    let fields = value.object()?;
    fields.only(&["type", "to"]);
    let kind = fields.required("type", "snat, static, none")?.word(KIND, "")?;
    if kind == Kind::None {
        if let Some(to) = fields.get("to").filter(|v| v.list().is_none_or(|list| !list.is_empty())) {
            to.refuse("nothing: action none translates to no address");
        }
        return Some(SnatAction::None);
    }
    let node = fields.required("to", "a list of addresses")?;
    let to = node.list_of(|a| a.address())?;
    match (kind, &to[..]) {
        (Kind::Static, [one]) => Some(SnatAction::Static(*one)),
        (Kind::Static, _) => {
            node.refuse("exactly one address: action static is 1:1");
            None
        }
        _ => Some(SnatAction::Snat(to)),
    }
}
