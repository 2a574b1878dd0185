//! `kind: Service`.
//!
//! Fields of the interface that this version does not act on are refused, unless they say what this version
//! does anyway: silently ignoring a limit or a probe would be worse.

use std::net::SocketAddr;
use std::num::NonZeroU16;

use super::reader::{Fields, Node};
use crate::intent::{Algorithm, EndpointSpec, EndpointState, ServiceSpec, SyncPolicy};
use crate::limits::MAX_WEIGHT;
use crate::protocol::Protocol;

pub(super) const PROTOCOL: &[(&str, Protocol)] = &[("tcp", Protocol::Tcp), ("udp", Protocol::Udp)];
pub(super) const ALGORITHM: &[(&str, Algorithm)] =
    &[("maglev", Algorithm::Maglev), ("round-robin", Algorithm::RoundRobin)];
pub(super) const SYNC: &[(&str, SyncPolicy)] =
    &[("immediate", SyncPolicy::Immediate), ("none", SyncPolicy::None)];
pub(super) const STATE: &[(&str, EndpointState)] = &[
    ("active", EndpointState::Active),
    ("drain", EndpointState::Drain),
    ("disabled", EndpointState::Disabled),
];

const FIELDS: &[&str] = &[
    "group",
    "vip",
    "port",
    "protocol",
    "algorithm",
    "affinity",
    "mode",
    "timeouts",
    "sync",
    "on_miss",
    "sources",
    "limits",
    "health",
    "endpoints",
];
const DEFAULT_WEIGHT: u16 = 100;

pub(super) fn read(document: &Fields<'_>) -> Option<ServiceSpec> {
    let name = document.required("name", "a name").and_then(|v| v.text());
    let spec = document.required("spec", "a mapping of fields")?.object()?;
    spec.only(FIELDS);
    refuse_later(&spec);
    let group = spec.required("group", "the name of a group").and_then(|v| v.text());
    let vip = spec.required("vip", "a list of IPv4 addresses").and_then(|v| v.list_of(|a| a.address()));
    let port = spec.required("port", "1-65535").and_then(|v| service_port(&v));
    let protocol = spec
        .required("protocol", "a list of tcp, udp")
        .and_then(|v| v.list_of(|p| p.word(PROTOCOL, "sctp and icmp are")));
    let algorithm = spec.or("algorithm", Algorithm::default(), |v| {
        v.word(ALGORITHM, "weighted-round-robin, source-hash and least-connections are")
    });
    let sync = spec.or("sync", SyncPolicy::default(), |v| v.word(SYNC, "established and after:… are"));
    let endpoints = spec.or("endpoints", Vec::new(), |v| v.list_of(endpoint));
    Some(ServiceSpec {
        name: name?.to_owned(),
        group: group?.to_owned(),
        vip: vip?,
        port: port?,
        protocol: protocol?,
        algorithm: algorithm?,
        sync: sync?,
        endpoints: endpoints?,
    })
}

fn port(value: &Node<'_>) -> Option<NonZeroU16> {
    value.integer(1, u16::MAX).and_then(NonZeroU16::new)
}

fn service_port(value: &Node<'_>) -> Option<NonZeroU16> {
    if value.is_text() {
        value.refuse("1-65535 (ranges and * are not in this version)");
        return None;
    }
    port(value)
}

fn endpoint(value: &Node<'_>) -> Option<EndpointSpec> {
    let fields = value.object()?;
    fields.only(&["address", "port", "weight", "state", "backup"]);
    let address = fields.required("address", "an IPv4 address").and_then(|v| v.address());
    let port = fields.required("port", "1-65535").and_then(|v| port(&v));
    let weight = fields.or("weight", DEFAULT_WEIGHT, |v| v.integer(0, MAX_WEIGHT));
    let state = fields.or("state", EndpointState::default(), |v| v.word(STATE, ""));
    if let Some(backup) = fields.get("backup").filter(|v| v.boolean() == Some(true)) {
        backup.refuse("false (true is not in this version)");
    }
    Some(EndpointSpec { address: SocketAddr::new(address?, port?.get()), weight: weight?, state: state? })
}

fn refuse_later(spec: &Fields<'_>) {
    for name in ["affinity", "timeouts", "limits"] {
        if let Some(value) = spec.get(name) {
            value.refuse("nothing: this field is not in this version");
        }
    }
    if let Some(mode) = spec.get("mode") {
        mode.word(&[("nat", ())], "fullnat, one-arm, host-one-arm, dsr-l2, dsr-ipip and dsr-gue are");
    }
    if let Some(on_miss) = spec.get("on_miss") {
        on_miss.word(&[("drop", ())], "recover and reset are");
    }
    for source in spec.get("sources").and_then(|v| v.list()).unwrap_or_default() {
        source.word(&[("0.0.0.0/0", ())], "other prefixes are");
    }
    if let Some(health) = spec.get("health").and_then(|v| v.object()) {
        health.only(&["type"]);
        if let Some(kind) = health.required("type", "none") {
            kind.word(&[("none", ())], "probes are");
        }
    }
}
