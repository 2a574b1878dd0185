//! `kind: Service`.

use std::net::SocketAddr;

use super::health;
use super::reader::{Fields, Node};
use crate::intent::{
    Affinity, Algorithm, EndpointSpec, EndpointState, Limits, Mode, OnMiss, PortRange, ServiceSpec,
    SyncPolicy, Timeouts,
};
use crate::limits::{MAX_NEW_PER_SECOND, MAX_WEIGHT};
use crate::protocol::{Family, Protocol};

pub(super) const PROTOCOL: &[(&str, Protocol)] =
    &[("tcp", Protocol::Tcp), ("udp", Protocol::Udp), ("sctp", Protocol::Sctp), ("icmp", Protocol::Icmp)];
pub(super) const ALGORITHM: &[(&str, Algorithm)] = &[
    ("maglev", Algorithm::Maglev),
    ("round-robin", Algorithm::RoundRobin),
    ("weighted-round-robin", Algorithm::WeightedRoundRobin),
    ("source-hash", Algorithm::SourceHash),
    ("least-connections", Algorithm::LeastConnections),
];
pub(super) const MODE: &[(&str, Mode)] = &[
    ("nat", Mode::Nat),
    ("fullnat", Mode::Fullnat),
    ("one-arm", Mode::OneArm),
    ("host-one-arm", Mode::HostOneArm),
    ("dsr-l2", Mode::DsrL2),
    ("dsr-ipip", Mode::DsrIpip),
    ("dsr-gue", Mode::DsrGue),
];
pub(super) const ON_MISS: &[(&str, OnMiss)] =
    &[("recover", OnMiss::Recover), ("drop", OnMiss::Drop), ("reset", OnMiss::Reset)];
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
    "snat_pool",
    "timeouts",
    "sync",
    "on_miss",
    "sources",
    "limits",
    "health",
    "slow_start",
    "endpoints",
];
const DEFAULT_WEIGHT: u16 = 100;

pub(super) fn read(document: &Fields<'_>) -> Option<ServiceSpec> {
    let name = document.required("name", "a name").and_then(|v| v.text());
    let spec = document.required("spec", "a mapping of fields")?.object()?;
    spec.only(FIELDS);
    let group = spec.required("group", "the name of a group").and_then(|v| v.text());
    let mode = spec.or("mode", Mode::default(), |v| v.word(MODE, ""));
    let vip = match (spec.get("vip"), mode) {
        (None, Some(Mode::HostOneArm)) => Some(Vec::new()),
        _ => spec.required("vip", "a list of addresses").and_then(|v| v.list_of(|a| a.address())),
    };
    let protocol = spec
        .required("protocol", "a list of tcp, udp, sctp, icmp")
        .and_then(|v| v.list_of(|p| p.word(PROTOCOL, "")));
    let port = port(&spec, protocol.as_deref().unwrap_or_default());
    let algorithm = spec.or("algorithm", Algorithm::default(), |v| v.word(ALGORITHM, ""));
    let affinity = spec.or("affinity", None, |v| affinity(v).map(Some));
    let snat_pool = spec.or("snat_pool", Vec::new(), |v| v.list_of(|a| a.address()));
    let timeouts = spec.or("timeouts", Timeouts::default(), timeouts);
    let sync = spec.or("sync", SyncPolicy::default(), |v| v.parsed(SyncPolicy::FORMS));
    let default = OnMiss::default_of(algorithm.unwrap_or_default(), mode.unwrap_or_default());
    let on_miss = spec.or("on_miss", default, |v| v.word(ON_MISS, ""));
    let sources = spec.or("sources", Vec::new(), |v| v.list_of(|p| p.prefix()));
    let limits = spec.or("limits", Limits::default(), limits);
    let slow_start = spec.or("slow_start", None, |v| v.duration().map(Some));
    let health = spec.or("health", None, health::read);
    let endpoints = spec.or("endpoints", Vec::new(), |v| v.list_of(endpoint));
    Some(ServiceSpec {
        name: name?.to_owned(),
        group: group?.to_owned(),
        vip: vip?,
        port: port?,
        protocol: protocol?,
        algorithm: algorithm?,
        affinity: affinity?,
        mode: mode?,
        snat_pool: snat_pool?,
        timeouts: timeouts?,
        sync: sync?,
        on_miss: on_miss?,
        sources: sources?,
        limits: limits?,
        slow_start: slow_start?.filter(|time| !time.is_zero()),
        health: health?.map(Box::new),
        endpoints: endpoints?,
    })
}

/// Where ICMP echo is among the protocols, the port may be absent, and may be `*` only: `check` says so.
fn port(spec: &Fields<'_>, protocols: &[Protocol]) -> Option<PortRange> {
    let echo_only = !protocols.is_empty() && protocols.iter().all(|p| *p == Protocol::Icmp);
    let any = if echo_only { PortRange::NONE } else { PortRange::ANY };
    if spec.get("port").is_none() && protocols.contains(&Protocol::Icmp) {
        return Some(any);
    }
    let ports = spec.required("port", PortRange::FORMS)?.ports()?;
    Some(if ports == PortRange::ANY { any } else { ports })
}

fn affinity(value: &Node<'_>) -> Option<Affinity> {
    let fields = value.object()?;
    fields.only(&["by", "prefix4", "prefix6", "timeout"]);
    let by = fields.required("by", "source").and_then(|v| v.word(&[("source", ())], ""));
    let default = Affinity::default();
    let length = |name, family: Family, default: u8| {
        fields.or(name, default.into(), |v| v.integer(0, family.bits().into()))
    };
    let prefix4 = length("prefix4", Family::V4, default.prefix4);
    let prefix6 = length("prefix6", Family::V6, default.prefix6);
    let timeout = fields.or("timeout", default.timeout, |v| v.duration());
    by?;
    let byte = |length: u16| u8::try_from(length).expect("at most 128");
    Some(Affinity { prefix4: byte(prefix4?), prefix6: byte(prefix6?), timeout: timeout? })
}

fn timeouts(value: &Node<'_>) -> Option<Timeouts> {
    let fields = value.object()?;
    fields.only(&["established", "syn", "fin", "udp", "udp_stream"]);
    let default = Timeouts::default();
    let established = fields.or("established", default.established, |v| v.duration());
    let syn = fields.or("syn", default.syn, |v| v.duration());
    let fin = fields.or("fin", default.fin, |v| v.duration());
    let udp = fields.or("udp", default.udp, |v| v.duration());
    let udp_stream = fields.or("udp_stream", default.udp_stream, |v| v.duration());
    Some(Timeouts { established: established?, syn: syn?, fin: fin?, udp: udp?, udp_stream: udp_stream? })
}

fn limits(value: &Node<'_>) -> Option<Limits> {
    let fields = value.object()?;
    fields.only(&["connections", "new_per_second"]);
    let connections = fields.or("connections", None, |v| v.number(1, u32::MAX).map(Some));
    let new_per_second = fields.or("new_per_second", None, |v| v.number(1, MAX_NEW_PER_SECOND).map(Some));
    Some(Limits { connections: connections?, new_per_second: new_per_second? })
}

fn endpoint(value: &Node<'_>) -> Option<EndpointSpec> {
    let fields = value.object()?;
    fields.only(&["address", "port", "weight", "state", "backup"]);
    let address = fields.required("address", "an IPv4 or IPv6 address").and_then(|v| v.address());
    let port = fields.or("port", 0, |v| v.integer(1, u16::MAX));
    let weight = fields.or("weight", DEFAULT_WEIGHT, |v| v.integer(0, MAX_WEIGHT));
    let state = fields.or("state", EndpointState::default(), |v| v.word(STATE, ""));
    let backup = fields.or("backup", false, |v| v.boolean());
    Some(EndpointSpec {
        address: SocketAddr::new(address?, port?),
        weight: weight?,
        state: state?,
        backup: backup?,
    })
}
