//! Services.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use super::{Problem, address, count, health, name, unique};
use crate::duration;
use crate::intent::{EndpointSpec, Mode, OnMiss, PortRange, ServiceSpec};
use crate::limits::{
    MAX_ENDPOINTS, MAX_NEW_PER_SECOND, MAX_OWN_ADDRESSES, MAX_SLOW_START, MAX_SNAT_ADDRESSES, MAX_SOURCES,
    MAX_TIMEOUT, MAX_WEIGHT, MIN_TIMEOUT,
};
use crate::protocol::{Family, Protocol};

/// Everything wrong with a service by itself.
pub fn service(spec: &ServiceSpec) -> Vec<Problem> {
    let mut problems = Vec::new();
    name("name", &spec.name, &mut problems);
    // Such a service may take every address of its group.
    let least = usize::from(spec.mode != Mode::HostOneArm);
    count("spec.vip", spec.vip.len(), least, MAX_OWN_ADDRESSES, &mut problems);
    for (i, vip) in spec.vip.iter().enumerate() {
        address(&format!("spec.vip[{i}]"), *vip, &mut problems);
    }
    unique("spec.vip", &spec.vip, &mut problems);
    protocols(spec, &mut problems);
    choice(spec, &mut problems);
    pool(spec, &mut problems);
    times(spec, &mut problems);
    bounds(spec, &mut problems);
    endpoints(spec, &mut problems);
    health::check(spec, &mut problems);
    problems
}

fn protocols(spec: &ServiceSpec, problems: &mut Vec<Problem>) {
    if spec.protocol.is_empty() {
        problems.push(Problem::new("spec.protocol", "[]", "one or more of tcp, udp, sctp, icmp"));
    }
    unique("spec.protocol", &spec.protocol, problems);
    let with_ports = spec.protocol.iter().any(|p| p.has_ports());
    let with_echo = spec.protocol.contains(&Protocol::Icmp);
    let (fits, allowed) = match (with_ports, with_echo) {
        (false, true) => (spec.port == PortRange::NONE, "no port, or \"*\": the protocol is icmp"),
        (true, true) => (spec.port == PortRange::ANY, "\"*\": one of the protocols is icmp"),
        _ => (spec.port.is_valid() && spec.port != PortRange::NONE, PortRange::FORMS),
    };
    if !fits {
        problems.push(Problem::new("spec.port", spec.port, allowed));
    }
}

fn choice(spec: &ServiceSpec, problems: &mut Vec<Problem>) {
    if spec.on_miss == OnMiss::Recover && !spec.algorithm.is_hash() {
        let allowed = "drop, reset (recover needs algorithm maglev or source-hash: with others a node cannot \
                       know which endpoint a flow had)";
        problems.push(Problem::new("spec.on_miss", "recover", allowed));
    }
    if let Some(affinity) = &spec.affinity {
        let families = [(Family::V4, "prefix4", affinity.prefix4), (Family::V6, "prefix6", affinity.prefix6)];
        for (family, field, length) in families {
            if length > family.bits() {
                let allowed = format!("0-{}", family.bits());
                problems.push(Problem::new(format!("spec.affinity.{field}"), length, allowed));
            }
        }
        time("spec.affinity.timeout", affinity.timeout, MIN_TIMEOUT, MAX_TIMEOUT, problems);
    }
}

fn pool(spec: &ServiceSpec, problems: &mut Vec<Problem>) {
    if spec.snat_pool.is_empty() {
        return;
    }
    if spec.mode != Mode::Fullnat {
        let value = format!("{} elements", spec.snat_pool.len());
        problems.push(Problem::new("spec.snat_pool", value, "nothing: only mode fullnat has a pool"));
        return;
    }
    count("spec.snat_pool", spec.snat_pool.len(), 0, MAX_SNAT_ADDRESSES, problems);
    for (i, address) in spec.snat_pool.iter().enumerate() {
        self::address(&format!("spec.snat_pool[{i}]"), *address, problems);
    }
    unique("spec.snat_pool", &spec.snat_pool, problems);
    let has = |family| spec.snat_pool.iter().any(|address| Family::of(*address) == family);
    let lacking = spec.endpoints.iter().map(|e| Family::of(e.address.ip())).find(|family| !has(*family));
    if let Some(family) = lacking {
        let value = format!("{} elements", spec.snat_pool.len());
        let allowed = format!("at least one {family} address: there are {family} endpoints");
        problems.push(Problem::new("spec.snat_pool", value, allowed));
    }
}

fn times(spec: &ServiceSpec, problems: &mut Vec<Problem>) {
    let all = &spec.timeouts;
    for (field, value) in [
        ("established", all.established),
        ("syn", all.syn),
        ("fin", all.fin),
        ("udp", all.udp),
        ("udp_stream", all.udp_stream),
    ] {
        time(&format!("spec.timeouts.{field}"), value, MIN_TIMEOUT, MAX_TIMEOUT, problems);
    }
    if let Some(value) = spec.slow_start {
        // None at all is what the field's absence says.
        time("spec.slow_start", value, duration::RESOLUTION, MAX_SLOW_START, problems);
    }
}

/// What is finer than the resolution could not be written down, nor sent.
pub(super) fn time(
    path: &str,
    value: Duration,
    least: Duration,
    most: Duration,
    problems: &mut Vec<Problem>,
) {
    if !(least..=most).contains(&value) || !duration::is_exact(value) {
        let allowed = format!("{}-{}", duration::show(least), duration::show(most));
        problems.push(Problem::new(path, duration::show(value), allowed));
    }
}

fn bounds(spec: &ServiceSpec, problems: &mut Vec<Problem>) {
    count("spec.sources", spec.sources.len(), 0, MAX_SOURCES, problems);
    for (i, prefix) in spec.sources.iter().enumerate().filter(|(_, prefix)| !prefix.is_valid()) {
        problems.push(Problem::new(format!("spec.sources[{i}]"), prefix, crate::intent::Prefix::FORMS));
    }
    unique("spec.sources", &spec.sources, problems);
    if spec.limits.connections == Some(0) {
        problems.push(Problem::new("spec.limits.connections", 0, format!("1-{}", u32::MAX)));
    }
    if let Some(most) = spec.limits.new_per_second.filter(|n| !(1..=MAX_NEW_PER_SECOND).contains(n)) {
        let allowed = format!("1-{MAX_NEW_PER_SECOND}");
        problems.push(Problem::new("spec.limits.new_per_second", most, allowed));
    }
}

fn endpoints(spec: &ServiceSpec, problems: &mut Vec<Problem>) {
    count("spec.endpoints", spec.endpoints.len(), 0, MAX_ENDPOINTS, problems);
    let mut seen = BTreeSet::new();
    for (i, endpoint) in spec.endpoints.iter().enumerate() {
        let path = format!("spec.endpoints[{i}]");
        self::endpoint(&path, spec, endpoint, problems);
        if !seen.insert(destination(spec.port, endpoint.address)) {
            problems.push(Problem::new(path, endpoint.address, "each address and port once"));
        }
    }
}

/// Where its packets go; the port stays 0 where it depends on the client.
fn destination(ports: PortRange, address: SocketAddr) -> SocketAddr {
    let port = if address.port() == 0 && ports.is_single() { ports.first } else { address.port() };
    SocketAddr::new(address.ip(), port)
}

fn endpoint(path: &str, service: &ServiceSpec, spec: &EndpointSpec, problems: &mut Vec<Problem>) {
    let address_path = format!("{path}.address");
    address(&address_path, spec.address.ip(), problems);
    let family = Family::of(spec.address.ip());
    let served = |vip: &std::net::IpAddr| service.mode.carries(Family::of(*vip), family);
    if !service.vip.is_empty() && !service.vip.iter().any(served) {
        let allowed = match service.mode {
            Mode::DsrIpip | Mode::DsrGue => "an address of the family of a VIP, or IPv6 for an IPv4 VIP",
            _ => "an address of the family of a VIP",
        };
        problems.push(Problem::new(address_path, spec.address.ip(), allowed));
    }
    let port = spec.address.port();
    let allowed = if service.protocol.contains(&Protocol::Icmp) {
        (port == 0).then_some(()).ok_or("no port: one of the service's protocols is icmp")
    } else if service.mode.is_dsr() {
        let same = port == 0 || (service.port.is_single() && port == service.port.first);
        same.then_some(()).ok_or("no port, or the service's one: in dsr modes packets keep theirs")
    } else {
        Ok(())
    };
    if let Err(allowed) = allowed {
        problems.push(Problem::new(format!("{path}.port"), port, allowed));
    }
    if spec.weight > MAX_WEIGHT {
        problems.push(Problem::new(format!("{path}.weight"), spec.weight, format!("0-{MAX_WEIGHT}")));
    }
}
