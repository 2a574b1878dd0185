use std::time::Duration;

use proptest::prelude::*;

use super::{Document, changes, export_cluster, export_group, export_service, export_snat_rule, parse};
use crate::arbitrary;
use crate::command::Command;
use crate::intent::{Affinity, Algorithm, Limits, Mode, OnMiss, PortRange, SnatAction, SyncPolicy, Timeouts};
use crate::protocol::Protocol;
use crate::state::{Applied, State, apply};

const EXAMPLE: &str = r#"
apiVersion: lockstep/v1
kind: Cluster
spec: {lease: fast, on_quorum_loss: fence}
---
apiVersion: lockstep/v1
kind: Group
name: edge
spec:
  addresses: [10.0.0.1]          # the endpoints' gateway
  interfaces: []
  nodes: [a, b]
  standbys: 1
  failback: false
status: {owner: a}
---
apiVersion: lockstep/v1
kind: Service
name: web
spec:
  group: edge
  vip: [192.0.2.10]
  port: 443
  protocol: [tcp]
  mode: nat
  sync: immediate
  on_miss: drop
  sources: [0.0.0.0/0]
  health: {type: none}
  endpoints:
    - {address: 10.0.0.11, port: 8443}
    - {address: 10.0.0.12, port: 8443, weight: 0, state: drain, backup: false}
"#;

fn service_with(line: &str) -> String {
    format!(
        "apiVersion: lockstep/v1\nkind: Service\nname: web\nspec:\n  group: edge\n  vip: [192.0.2.10]\n  \
         protocol: [tcp]\n  {line}\n"
    )
}

#[track_caller]
fn wrong(text: &str) -> Vec<String> {
    parse(text).expect_err("this is not allowed").iter().map(ToString::to_string).collect()
}

#[test]
fn the_example_is_read() {
    let documents = parse(EXAMPLE).unwrap();
    let [Document::Cluster(_), Document::Group(group), Document::Service(service)] = &documents[..] else {
        panic!("{documents:?}")
    };
    assert_eq!(group.nodes, ["a", "b"]);
    assert_eq!(service.endpoints[0].weight, 100);
    assert_eq!(service.endpoints[1].weight, 0);
    assert_eq!(service.endpoints[1].address, "10.0.0.12:8443".parse().unwrap());
}

#[test]
fn json_is_read_and_an_array_is_several_documents() {
    let one = export_cluster(&Default::default());
    assert_eq!(parse(&one.to_string()).unwrap(), [Document::Cluster(Default::default())]);
    let two = serde_json::json!([one, one]);
    assert_eq!(parse(&two.to_string()).unwrap().len(), 2);
}

#[test]
fn what_is_wrong_is_named_with_what_is_allowed() {
    let cases = [
        (
            "port: 70000",
            "document 1: spec.port: 70000: allowed 1-65535, a range such as \"1000-1999\", or \"*\"",
        ),
        ("port: -1", "document 1: spec.port: -1: allowed 1-65535"),
        ("port: 0", "document 1: spec.port: 0: allowed 1-65535"),
        ("port: 20-10", "document 1: spec.port: 20-10: allowed 1-65535"),
        ("sync: none", "document 1: spec.port: missing: allowed 1-65535"),
        (
            "colour: red\n  port: 1",
            "document 1: spec.colour: unknown field (red): allowed the fields group, ",
        ),
        (
            "port: 1\n  on_miss: recover\n  algorithm: round-robin",
            "document 1: spec.on_miss: recover: allowed drop, reset (recover needs algorithm maglev or source-hash",
        ),
        (
            "port: 1\n  mode: dsr",
            "document 1: spec.mode: dsr: allowed nat, fullnat, one-arm, host-one-arm, dsr-l2",
        ),
        (
            "port: 1\n  sync: after:99ms",
            "document 1: spec.sync: after:99ms: allowed immediate, established, none, after:100ms to after:1m",
        ),
        (
            "port: 1\n  sync: later",
            "document 1: spec.sync: later: allowed immediate, established, none, after:100ms to after:1m",
        ),
        (
            "port: 1\n  limits: {connections: 0}",
            "document 1: spec.limits.connections: 0: allowed 1-4294967295",
        ),
        (
            "port: 1\n  limits: {new_per_second: 10000001}",
            "document 1: spec.limits.new_per_second: 10000001: allowed 1-10000000",
        ),
        (
            "port: 1\n  algorithm: random",
            "document 1: spec.algorithm: random: allowed maglev, round-robin, weighted-round-robin, source-hash, ",
        ),
        ("port: 1\n  affinity: {by: cookie}", "document 1: spec.affinity.by: cookie: allowed source"),
        (
            "port: 1\n  affinity: {by: source, prefix4: 33}",
            "document 1: spec.affinity.prefix4: 33: allowed 0-32",
        ),
        (
            "port: 1\n  affinity: {by: source, timeout: 31d}",
            "document 1: spec.affinity.timeout: 31d: allowed 1s-30d",
        ),
        (
            "port: 1\n  timeouts: {syn: 10}",
            "document 1: spec.timeouts.syn: 10: allowed a number with ms, s, m, h",
        ),
        ("port: 1\n  timeouts: {syn: 500ms}", "document 1: spec.timeouts.syn: 500ms: allowed 1s-30d"),
        ("port: 1\n  slow_start: 16m", "document 1: spec.slow_start: 16m: allowed 1ms-15m"),
        (
            "port: 1\n  sources: [10.0.0.1/8]",
            "document 1: spec.sources[0]: 10.0.0.1/8: allowed a prefix such as 10.0.0.0/8",
        ),
        (
            "port: 1\n  snat_pool: [192.0.2.11]",
            "document 1: spec.snat_pool: 1 elements: allowed nothing: only mode fullnat has a pool",
        ),
        (
            "port: 1\n  endpoints: [{address: 10.0.0.11, port: 1, weight: -1}]",
            "document 1: spec.endpoints[0].weight: -1: allowed 0-1000",
        ),
        (
            "port: 1\n  endpoints: [{address: 10.0.0.11, port: 1}, {address: 10.0.0.11, port: 1}]",
            "document 1: spec.endpoints[1]: 10.0.0.11:1: allowed each address and port once",
        ),
        (
            "port: 7\n  endpoints: [{address: 10.0.0.11}, {address: 10.0.0.11, port: 7}]",
            "document 1: spec.endpoints[1]: 10.0.0.11:7: allowed each address and port once",
        ),
        (
            "port: 1\n  endpoints: [{address: \"2001:db8::1\", port: 1}]",
            "document 1: spec.endpoints[0].address: 2001:db8::1: allowed an address of the family of a VIP",
        ),
        (
            "port: 1\n  mode: dsr-l2\n  endpoints: [{address: \"2001:db8::1\"}]",
            "document 1: spec.endpoints[0].address: 2001:db8::1: allowed an address of the family of a VIP",
        ),
        (
            "port: 1\n  mode: dsr-gue\n  endpoints: [{address: \"2001:db8::1\", port: 2}]",
            "document 1: spec.endpoints[0].port: 2: allowed no port, or the service's one",
        ),
        (
            "port: 1\n  endpoints: [{address: fe80::1, port: 1}]\n  mode: dsr-ipip",
            "document 1: spec.endpoints[0].address: fe80::1: allowed a unicast IPv6 address beyond the link",
        ),
    ];
    for (line, expected) in cases {
        let errors = wrong(&service_with(line));
        assert_eq!(errors.len(), 1, "{errors:?}");
        assert!(errors[0].starts_with(expected), "{line}: {}", errors[0]);
    }
}

#[test]
fn a_service_is_read_with_all_it_can_say() {
    let text = r#"
apiVersion: lockstep/v1
kind: Service
name: all
spec:
  group: edge
  vip: [192.0.2.10, "2001:db8::10"]
  port: "1000-1999"
  protocol: [tcp, sctp]
  algorithm: source-hash
  affinity: {by: source, prefix6: 64, timeout: 90m}
  mode: fullnat
  snat_pool: [10.0.0.1, "fd00::1"]
  timeouts: {established: 2d, udp: 1500ms}
  sync: established
  on_miss: reset
  sources: [198.51.100.0/24, "2001:db8:7::/48"]
  limits: {connections: 100000, new_per_second: 10000}
  slow_start: 30s
  endpoints:
    - {address: 10.0.0.11}
    - {address: "fd00::11", port: 8443, backup: true}
"#;
    let Ok([Document::Service(spec)]) = parse(text).map(|d| <[Document; 1]>::try_from(d).unwrap()) else {
        panic!("it is a service: {:?}", parse(text))
    };
    assert_eq!(spec.port, PortRange { first: 1000, last: 1999 });
    assert_eq!(spec.protocol, [Protocol::Tcp, Protocol::Sctp]);
    assert_eq!((spec.algorithm, spec.mode), (Algorithm::SourceHash, Mode::Fullnat));
    let timeout = Duration::from_secs(90 * 60);
    assert_eq!(spec.affinity, Some(Affinity { prefix4: 32, prefix6: 64, timeout }));
    assert_eq!(spec.timeouts.established, Duration::from_secs(2 * 86_400));
    assert_eq!(spec.timeouts.udp, Duration::from_millis(1500));
    assert_eq!(spec.timeouts.syn, Timeouts::default().syn);
    assert_eq!((spec.sync, spec.on_miss), (SyncPolicy::Established, OnMiss::Reset));
    assert_eq!(spec.sources[1].to_string(), "2001:db8:7::/48");
    assert_eq!((spec.limits.connections, spec.limits.new_per_second), (Some(100_000), Some(10_000)));
    assert_eq!(spec.slow_start, Some(Duration::from_secs(30)));
    assert_eq!(spec.endpoints[0].address, "10.0.0.11:0".parse().unwrap());
    assert!(spec.endpoints[1].backup && !spec.endpoints[0].backup);
}

#[test]
fn what_is_not_said_has_a_default() {
    let read = |line: &str| match parse(&service_with(line)).unwrap().remove(0) {
        Document::Service(spec) => spec,
        other => panic!("it is a service: {other:?}"),
    };
    let plain = read("port: 1");
    assert_eq!((plain.mode, plain.on_miss), (Mode::Nat, OnMiss::Recover));
    assert_eq!((plain.timeouts, plain.limits), (Timeouts::default(), Limits::default()));
    assert_eq!(plain.timeouts.established, Duration::from_secs(3600));
    for (line, expected) in [
        ("algorithm: source-hash\n  mode: dsr-ipip", OnMiss::Recover),
        ("algorithm: least-connections", OnMiss::Drop),
        ("mode: fullnat", OnMiss::Drop),
        ("mode: one-arm", OnMiss::Drop),
        ("mode: fullnat\n  on_miss: recover", OnMiss::Recover),
    ] {
        assert_eq!(read(&format!("port: 1\n  {line}")).on_miss, expected, "{line}");
    }
    assert_eq!(read("port: \"*\"").port, PortRange::ANY);
    assert_eq!(read("port: \"8-8\"").port, PortRange::single(8));
    assert_eq!(read("port: 1\n  slow_start: 0s").slow_start, None);
}

#[test]
fn icmp_has_no_ports() {
    let icmp = |protocols: &str, line: &str| {
        let text = service_with(line).replace("protocol: [tcp]", &format!("protocol: [{protocols}]"));
        parse(&text).map(|mut documents| match documents.remove(0) {
            Document::Service(spec) => spec.port,
            other => panic!("it is a service: {other:?}"),
        })
    };
    assert_eq!(icmp("icmp", "sync: none"), Ok(PortRange::NONE));
    assert_eq!(icmp("icmp", "port: \"*\""), Ok(PortRange::NONE));
    assert_eq!(icmp("tcp, icmp", "sync: none"), Ok(PortRange::ANY));
    let refused = |protocols, line| icmp(protocols, line).unwrap_err()[0].to_string();
    assert!(refused("icmp", "port: 7").contains("spec.port: 7: allowed no port, or \"*\""));
    assert!(
        refused("tcp, icmp", "port: 7").contains("spec.port: 7: allowed \"*\": one of the protocols is icmp")
    );
    let port = refused("icmp", "endpoints: [{address: 10.0.0.11, port: 7}]");
    assert!(port.contains("spec.endpoints[0].port: 7: allowed no port"), "{port}");
}

#[test]
fn rules_are_read_and_what_is_wrong_with_them_is_named() {
    let rule = |matching: &str, action: &str| {
        format!(
            "apiVersion: lockstep/v1\nkind: SnatRule\nname: egress\nspec:\n  group: edge\n  \
             match: {{{matching}}}\n  action: {{{action}}}\n"
        )
    };
    let documents = parse(&rule("source: 10.0.0.0/24", "type: snat, to: [192.0.2.10]")).unwrap();
    let Document::SnatRule(spec) = &documents[0] else { panic!("{documents:?}") };
    assert_eq!((spec.priority, spec.protocol, spec.ports), (100, None, PortRange::ANY));
    assert_eq!(spec.destination.to_string(), "0.0.0.0/0");
    assert_eq!(spec.action, SnatAction::Snat(vec!["192.0.2.10".parse().unwrap()]));
    let six = parse(&rule("source: \"fd00::/64\", protocol: any, ports: \"*\"", "type: none")).unwrap();
    assert!(matches!(&six[0], Document::SnatRule(spec) if spec.destination.to_string() == "::/0"));

    let source = "source: 10.0.0.11/32";
    let cases = [
        (
            rule("destination: 0.0.0.0/0", "type: none"),
            "spec.match.source: missing: allowed a prefix such as",
        ),
        (
            rule("source: 10.0.0.1/24", "type: none"),
            "spec.match.source: 10.0.0.1/24: allowed a prefix such as",
        ),
        (
            rule("source: 10.0.0.0/24, protocol: gre", "type: none"),
            "spec.match.protocol: gre: allowed any, tcp, udp",
        ),
        (
            rule("source: 10.0.0.0/24, destination: \"::/0\"", "type: none"),
            "spec.match.destination: ::/0: allowed an IPv4",
        ),
        (rule(source, "type: masquerade"), "spec.action.type: masquerade: allowed snat, static, none"),
        (rule(source, "type: snat"), "spec.action.to: missing: allowed a list of addresses"),
        (rule(source, "type: snat, to: []"), "spec.action.to: 0 elements: allowed 1-16 elements"),
        (
            rule(source, "type: none, to: [192.0.2.1]"),
            "spec.action.to: [\"192.0.2.1\"]: allowed nothing: action none",
        ),
        (
            rule(source, "type: static, to: [192.0.2.1, 192.0.2.2]"),
            "spec.action.to: [\"192.0.2.1\",\"192.0.2.2\"]: allowed exactly one",
        ),
        (rule(source, "type: snat, to: [224.0.0.1]"), "spec.action.to[0]: 224.0.0.1: allowed a unicast IPv4"),
    ];
    for (text, expected) in cases {
        let errors = wrong(&text);
        assert_eq!(errors.len(), 1, "{errors:?}");
        assert!(errors[0].starts_with(&format!("document 1: {expected}")), "{}", errors[0]);
    }
}

#[test]
fn every_mistake_is_named_at_once() {
    let bad = format!("{EXAMPLE}\n---\n{}", service_with("port: 0\n  sync: never\n  color: 1"));
    let errors = wrong(&bad);
    assert_eq!(errors.len(), 3, "{errors:?}");
    assert!(errors.iter().all(|e| e.starts_with("document 4: spec.")), "{errors:?}");
}

#[test]
fn documents_that_are_no_documents_are_refused() {
    assert!(wrong("")[0].contains("0 documents"));
    assert!(wrong("just text")[0].contains("a mapping of fields"));
    assert!(wrong("kind: Group\nname: x\nspec: {}")[0].contains("apiVersion: missing: allowed lockstep/v1"));
    assert!(
        wrong("apiVersion: v1\nkind: Cluster\nspec: {}")[0].contains("apiVersion: v1: allowed lockstep/v1")
    );
    assert!(wrong("apiVersion: lockstep/v1\nkind: Route")[0].contains("Cluster, Group, Service or SnatRule"));
    assert!(wrong("apiVersion: lockstep/v1\nkind: Group\nspec: {}")[0].contains("name: missing"));
    assert!(wrong("{\"apiVersion\": ")[0].contains("manifest: "));
    assert!(wrong("a: [1\nb: 2")[0].contains("YAML documents or JSON"));
    let name = "apiVersion: lockstep/v1\nkind: Group\nname: Edge\nspec: {failback: true, standbys: 0}";
    let errors = wrong(name);
    assert!(errors.iter().any(|e| e.contains("spec.standbys: 0: allowed 1-63")), "{errors:?}");
    let upper = wrong("apiVersion: lockstep/v1\nkind: Group\nname: Edge\nspec: {failback: true}");
    assert!(upper[0].contains("name: \"Edge\": allowed 1-63 characters"), "{upper:?}");
    assert!(upper[1].contains("spec.failback: true: allowed false, as spec.nodes names none"), "{upper:?}");
    let cluster = wrong("apiVersion: lockstep/v1\nkind: Cluster\nspec: {lease: quick, on_quorum_loss: keep}");
    assert!(cluster[0].contains("spec.lease: quick: allowed fast, lan, wan"), "{cluster:?}");
    assert!(cluster[1].contains("allowed fence (keep is not in this version)"), "{cluster:?}");
}

#[test]
fn a_name_that_yaml_1_1_takes_for_a_boolean_is_a_name() {
    let text = "apiVersion: lockstep/v1\nkind: Group\nname: no\nspec: {nodes: [on, y]}";
    let documents = parse(text).unwrap();
    assert!(matches!(&documents[0], Document::Group(g) if g.name == "no" && g.nodes == ["on", "y"]));
}

/// Every object, as the command prints it.
fn exported(state: &State, yaml: bool) -> String {
    let groups = state.groups.values().map(|g| export_group(&g.spec));
    let services = state.services.values().map(|s| export_service(&s.spec));
    let rules = state.snat_rules.values().map(|r| export_snat_rule(&r.spec));
    let documents =
        std::iter::once(export_cluster(&state.settings)).chain(groups).chain(services).chain(rules);
    let documents: Vec<serde_json::Value> = documents
        .map(|mut document| {
            document["status"] = serde_json::json!({"owner": "a", "epoch": 7});
            document
        })
        .collect();
    if !yaml {
        return serde_json::Value::Array(documents).to_string();
    }
    let texts: Vec<String> = documents.iter().map(|d| serde_saphyr::to_string(d).unwrap()).collect();
    texts.join("---\n")
}

proptest! {
    /// `get -o json | apply -f -` changes nothing, whatever is observed besides; nor does `get -o yaml`.
    #[test]
    fn applying_what_was_exported_changes_nothing((mut state, index) in arbitrary::state(), yaml: bool) {
        let text = exported(&state, yaml);
        let changes = changes(parse(&text).unwrap());
        let before = state.clone();
        let applied = apply(&mut state, index, &Command::Change { expected: None, changes });
        let unchanged = matches!(applied, Applied::Unchanged { .. });
        prop_assert!(unchanged, "{:?}", applied);
        prop_assert_eq!(state, before);
    }

    #[test]
    fn no_text_makes_the_parser_panic(text in "\\PC{0,80}") {
        let _ = parse(&text);
    }
}
