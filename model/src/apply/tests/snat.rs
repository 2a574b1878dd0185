//! SNAT rules among themselves, and beside services.

use super::{accepted, change, group, refused, service, serving};
use crate::command::Change;
use crate::ids::{GroupId, NodeId};
use crate::image::desired;
use crate::intent::{PortRange, Prefix, SnatAction, SnatRuleSpec};
use crate::limits::{MAX_SNAT_RULES, MAX_SNAT_RULES_OF_A_SOURCE};
use crate::protocol::Family;

pub(super) fn rule(name: &str, source: &str, action: SnatAction) -> SnatRuleSpec {
    SnatRuleSpec {
        name: name.into(),
        group: "edge".into(),
        priority: 100,
        source: source.parse().unwrap(),
        destination: Prefix::any(Family::V4),
        protocol: None,
        ports: PortRange::ANY,
        action,
    }
}

pub(super) fn snat(to: &[&str]) -> SnatAction {
    SnatAction::Snat(to.iter().map(|address| address.parse().unwrap()).collect())
}

fn to_one(to: &str) -> SnatAction {
    SnatAction::Static(to.parse().unwrap())
}

fn upsert(rule: SnatRuleSpec) -> Vec<Change> {
    vec![Change::UpsertSnatRule(rule)]
}

#[test]
fn a_rule_is_made_changed_and_deleted_by_name() {
    let (mut state, edge) = serving();
    let egress = rule("egress", "10.0.0.0/24", snat(&["192.0.2.20"]));
    assert_eq!(accepted(change(&mut state, 6, upsert(egress.clone()))), ["snatrule/egress created"]);
    let (id, made) = state.snat_rule("egress").unwrap();
    assert_eq!((made.group, made.revision.get()), (edge, 6));
    assert_eq!(state.addresses()[&"192.0.2.20".parse().unwrap()], edge, "named is taken");

    let first = SnatRuleSpec { priority: 1, ..egress };
    assert_eq!(accepted(change(&mut state, 7, upsert(first.clone()))), ["snatrule/egress configured"]);
    assert_eq!(state.snat_rule("egress").unwrap().0, id, "flows name it by its id");
    let before = state.clone();
    assert!(matches!(change(&mut state, 8, upsert(first)), crate::state::Applied::Unchanged { .. }));
    assert_eq!(state, before);

    let used =
        refused(&mut state, 8, vec![Change::DeleteService("web".into()), Change::DeleteGroup("edge".into())]);
    assert!(used.contains("once no snatrule names it; these do: egress"), "{used}");
    let absent = refused(&mut state, 8, vec![Change::DeleteSnatRule("nope".into())]);
    assert_eq!(absent, "snatrule \"nope\" does not exist");
    accepted(change(&mut state, 9, vec![Change::DeleteSnatRule("egress".into())]));
    assert!(!state.addresses().contains_key(&"192.0.2.20".parse().unwrap()));
}

#[test]
fn rules_that_do_not_fit_are_refused_by_name() {
    let (mut state, _) = serving();
    let mut wrong = rule("x", "10.0.0.0/24", snat(&["192.0.2.20"]));
    wrong.group = "nope".into();
    let missing = refused(&mut state, 6, upsert(wrong));
    assert_eq!(missing, "snatrule/x: spec.group: nope: allowed an existing group: edge");

    let net = refused(&mut state, 6, upsert(rule("x", "10.0.0.0/24", to_one("192.0.2.20"))));
    assert!(net.contains("spec.match.source: 10.0.0.0/24: allowed one host (/32)"), "{net}");
    let family = refused(&mut state, 6, upsert(rule("x", "10.0.0.0/24", snat(&["2001:db8::1"]))));
    assert!(family.contains("spec.action.to[0]: 2001:db8::1: allowed an IPv4 address"), "{family}");
    let none = refused(&mut state, 6, upsert(rule("x", "10.0.0.0/24", snat(&[]))));
    assert!(none.contains("spec.action.to: 0 elements: allowed 1-16 elements"), "{none}");
    let ports = SnatRuleSpec { ports: PortRange::single(25), ..rule("x", "10.0.0.0/24", SnatAction::None) };
    let ports = refused(&mut state, 6, upsert(ports));
    assert!(ports.contains("spec.match.ports: 25: allowed \"*\": only with protocol tcp"), "{ports}");
    let mut part = rule("x", "10.0.0.11/32", to_one("192.0.2.20"));
    part.destination = "203.0.113.0/24".parse().unwrap();
    let part = refused(&mut state, 6, upsert(part));
    assert!(part.contains("spec.match: 203.0.113.0/24 any: allowed every destination"), "{part}");

    accepted(change(&mut state, 6, vec![Change::UpsertGroup(group("core", &["192.0.2.30"]))]));
    let taken = refused(&mut state, 7, upsert(rule("x", "10.0.0.0/24", snat(&["192.0.2.30"]))));
    assert!(
        taken.contains("spec.action.to[0]: 192.0.2.30") && taken.contains("group/core has this one"),
        "{taken}"
    );
}

#[test]
fn what_comes_to_a_static_address_goes_to_one_host() {
    let (mut state, _) = serving();
    accepted(change(&mut state, 6, upsert(rule("one", "10.0.0.11/32", to_one("192.0.2.20")))));
    let twice = refused(&mut state, 7, upsert(rule("two", "10.0.0.12/32", to_one("192.0.2.20"))));
    assert!(twice.contains("no other static rule has: snatrule/two has it"), "{twice}");

    // Some ports of a static address may be a service's, all may not.
    accepted(change(&mut state, 7, vec![Change::UpsertService(service("part", "edge", "192.0.2.20", 443))]));
    let mut all = service("all", "edge", "192.0.2.20", 1);
    all.protocol = vec![crate::protocol::Protocol::Udp];
    all.port = PortRange::ANY;
    let all = refused(&mut state, 8, vec![Change::UpsertService(all)]);
    assert!(all.contains("spec.action.to[0]: 192.0.2.20") && all.contains("service/all has"), "{all}");

    let image = desired(&state, NodeId(1));
    let address = image.groups[0]
        .addresses
        .iter()
        .find(|a| a.address == "192.0.2.20".parse::<std::net::IpAddr>().unwrap());
    let address = address.unwrap();
    assert_eq!(address.static_host, Some("10.0.0.11".parse().unwrap()));
    assert!(address.vip && !address.floating);
}

#[test]
fn i13_a_packet_is_compared_with_a_bounded_number_of_rules() {
    let (mut state, _) = serving();
    let name = |n: usize| format!("r{n:03}");
    let nested = |n: usize| {
        let length = 8 + n as u8;
        Change::UpsertSnatRule(rule(&name(n), &format!("10.0.0.0/{length}"), SnatAction::None))
    };
    accepted(change(&mut state, 6, (0..MAX_SNAT_RULES_OF_A_SOURCE).map(nested).collect()));
    let beside = rule("beside", "11.0.0.0/24", SnatAction::None);
    accepted(change(&mut state, 7, upsert(beside)));
    // The same wherever in the nest it is: it is the innermost source that has too many.
    for source in ["10.0.0.0/24", "0.0.0.0/0", "10.0.0.0/8", "10.0.0.7/32"] {
        let over = refused(&mut state, 8, upsert(rule("over", source, SnatAction::None)));
        assert!(over.contains("at most 16 rules apply to; these 17 do: r000, r001"), "{over}");
    }
    accepted(change(&mut state, 8, upsert(rule("other", "10.0.128.0/17", SnatAction::None))));
}

#[test]
fn i13_a_cluster_has_a_bounded_number_of_rules() {
    let (mut state, _) = serving();
    let one = |n: usize| {
        Change::UpsertSnatRule(rule(
            &format!("r{n}"),
            &format!("10.{}.{}.0/24", n / 256, n % 256),
            SnatAction::None,
        ))
    };
    accepted(change(&mut state, 6, (0..MAX_SNAT_RULES).map(one).collect()));
    let over = refused(&mut state, 7, vec![one(MAX_SNAT_RULES)]);
    assert_eq!(over, "snat rules: 257: allowed at most 256");
}

#[test]
fn rules_are_tried_by_priority_then_by_age() {
    let (mut state, edge) = serving();
    for (index, name, priority) in [(6, "late", 200), (7, "old", 100), (8, "young", 100), (9, "first", 0)] {
        let rule = SnatRuleSpec { priority, ..rule(name, "10.0.0.0/24", SnatAction::None) };
        accepted(change(&mut state, index, upsert(rule)));
    }
    let image = desired(&state, NodeId(2));
    let names: Vec<&str> = image.snat_rules.iter().map(|rule| rule.name.as_str()).collect();
    assert_eq!(names, ["first", "old", "young", "late"]);
    assert!(image.snat_rules.iter().all(|rule| rule.group == edge && rule.group != GroupId(0)));
    assert!(desired(&state, NodeId(3)).snat_rules.is_empty(), "a witness has none");
}
