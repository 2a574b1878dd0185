//! Services beside each other, and within their group.

use std::net::SocketAddr;

use super::{accepted, change, group, refused, service, serving};
use crate::command::Change;
use crate::ids::NodeId;
use crate::image::{Frontend, desired};
use crate::intent::{EndpointSpec, Mode, PortRange, ServiceSpec};
use crate::protocol::{Family, Protocol};

fn upsert(spec: ServiceSpec) -> Vec<Change> {
    vec![Change::UpsertService(spec)]
}

fn with_ports(name: &str, ports: &str) -> ServiceSpec {
    ServiceSpec { port: ports.parse().unwrap(), ..service(name, "edge", "192.0.2.10", 1) }
}

fn endpoint(address: &str) -> EndpointSpec {
    let address: SocketAddr = address.parse().unwrap();
    EndpointSpec { address, weight: 1, state: Default::default(), backup: false }
}

#[test]
fn services_share_a_vip_as_long_as_their_ports_do_not_overlap() {
    let (mut state, _) = serving();
    accepted(change(&mut state, 6, upsert(with_ports("low", "1-442"))));
    accepted(change(&mut state, 7, upsert(with_ports("high", "444-1000"))));
    for ports in ["443", "400-443", "1-65535", "*", "1000-2000", "500", "442-444"] {
        let taken = refused(&mut state, 8, upsert(with_ports("x", ports)));
        assert!(taken.contains("spec.vip[0]: 192.0.2.10 port"), "{ports}: {taken}");
        assert!(taken.contains("a frontend of its own: service/"), "{ports}: {taken}");
    }
    accepted(change(&mut state, 8, upsert(with_ports("rest", "1001-65535"))));
    let udp = ServiceSpec { protocol: vec![Protocol::Udp], ..with_ports("udp", "*") };
    accepted(change(&mut state, 9, upsert(udp)));

    // Echo has no ports: one service of a VIP has it.
    let echo = |name, protocol: &[Protocol]| ServiceSpec {
        protocol: protocol.to_vec(),
        port: if protocol.len() == 1 { PortRange::NONE } else { PortRange::ANY },
        endpoints: vec![endpoint("10.0.0.11:0")],
        ..service(name, "edge", "192.0.2.10", 1)
    };
    accepted(change(&mut state, 10, upsert(echo("echo", &[Protocol::Icmp]))));
    let taken = refused(&mut state, 11, upsert(echo("x", &[Protocol::Sctp, Protocol::Icmp])));
    assert!(
        taken.contains("spec.vip[0]: 192.0.2.10 icmp: allowed a frontend of its own: service/echo"),
        "{taken}"
    );
}

#[test]
fn host_one_arm_without_vips_matches_every_address_of_its_group() {
    let (mut state, _) = serving();
    let mut host = service("host", "edge", "192.0.2.99", 22);
    host.vip.clear();
    host.mode = Mode::HostOneArm;
    accepted(change(&mut state, 6, upsert(host.clone())));
    let image = desired(&state, NodeId(1));
    let found = image.services.iter().find(|s| s.name == "host").unwrap();
    let frontend = |vip: &str| Frontend { vip: vip.parse().unwrap(), ports: PortRange::single(22) };
    assert_eq!(found.frontends, [frontend("10.0.0.1"), frontend("192.0.2.10")]);
    assert_eq!(found.snat, ["10.0.0.1".parse::<std::net::IpAddr>().unwrap()]);
    assert!(image.groups[0].addresses.iter().all(|a| a.vip));

    host.port = PortRange::ANY;
    let web = refused(&mut state, 7, upsert(host));
    assert!(web.contains("service/host: spec.vip: 192.0.2.10 port *"), "{web}");
    let nat = ServiceSpec { vip: Vec::new(), ..service("x", "edge", "192.0.2.10", 1) };
    let nat = refused(&mut state, 7, upsert(nat));
    assert_eq!(nat, "service/x: spec.vip: 0 elements: allowed 1-64 elements");
}

#[test]
fn one_arm_needs_a_floating_address_of_the_endpoints_family() {
    let (mut state, _) = serving();
    let mut arm = service("arm", "edge", "2001:db8::10", 80);
    arm.mode = Mode::OneArm;
    arm.endpoints = vec![endpoint("[fd00::11]:80")];
    let lacks = refused(&mut state, 6, upsert(arm.clone()));
    assert!(lacks.starts_with("service/arm: spec.endpoints[0].address: fd00::11: allowed"), "{lacks}");
    assert!(lacks.contains("floating address of group/edge") && lacks.contains("no IPv6 one"), "{lacks}");

    let both = group("edge", &["10.0.0.1", "fd00::1"]);
    accepted(change(&mut state, 6, vec![Change::UpsertGroup(both), Change::UpsertService(arm)]));
    let image = desired(&state, NodeId(1));
    let found = image.services.iter().find(|s| s.name == "arm").unwrap();
    assert_eq!(found.snat, ["fd00::1".parse::<std::net::IpAddr>().unwrap()]);
    let gone = refused(&mut state, 7, vec![Change::UpsertGroup(group("edge", &["10.0.0.1"]))]);
    assert!(gone.contains("service/arm: spec.endpoints[0].address"), "{gone}");
}

#[test]
fn a_pool_is_of_the_services_group() {
    let (mut state, _) = serving();
    let mut full = service("full", "edge", "192.0.2.11", 80);
    full.mode = Mode::Fullnat;
    accepted(change(&mut state, 6, upsert(full.clone())));
    let snat = |state: &_| {
        desired(state, NodeId(1)).services.iter().find(|s| s.name == "full").unwrap().snat.clone()
    };
    assert_eq!(snat(&state), full.vip, "the VIP, where there is no pool");

    full.snat_pool = vec!["10.0.0.1".parse().unwrap(), "192.0.2.10".parse().unwrap()];
    accepted(change(&mut state, 7, upsert(full.clone())));
    assert_eq!(snat(&state), full.snat_pool);
    full.snat_pool.push("192.0.2.77".parse().unwrap());
    let strange = refused(&mut state, 8, upsert(full));
    assert!(
        strange.starts_with("service/full: spec.snat_pool[2]: 192.0.2.77: allowed VIPs and floating"),
        "{strange}"
    );
}

#[test]
fn each_family_has_its_own_primaries_and_backups() {
    let (mut state, _) = serving();
    let mut both = service("both", "edge", "192.0.2.11", 80);
    both.vip.push("2001:db8::11".parse().unwrap());
    both.endpoints = ["10.0.0.11:1", "10.0.0.12:1", "[fd00::11]:1", "[fd00::12]:1"].map(endpoint).to_vec();
    both.endpoints[1].backup = true;
    both.endpoints[2].weight = 0;
    both.endpoints[3].backup = true;
    accepted(change(&mut state, 6, upsert(both.clone())));
    let eligible = |state: &_, family| {
        let image = desired(state, NodeId(1));
        let service = image.services.iter().find(|s| s.name == "both").unwrap();
        service.eligible_for(family).iter().map(|e| e.address.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(eligible(&state, Family::V4), ["10.0.0.11:1"]);
    assert_eq!(eligible(&state, Family::V6), ["[fd00::12]:1"], "no primary of this family takes flows");
    let image = desired(&state, NodeId(1));
    let service = image.services.iter().find(|s| s.name == "both").unwrap();
    assert_eq!(service.eligible().len(), 1, "of all families there is a primary");

    // Tunnels carry IPv4 to IPv6 endpoints, not the other way round.
    both.mode = Mode::DsrGue;
    both.endpoints.iter_mut().for_each(|e| e.address.set_port(0));
    both.endpoints[2].weight = 1;
    accepted(change(&mut state, 7, upsert(both)));
    assert_eq!(eligible(&state, Family::V4), ["10.0.0.11:0", "[fd00::11]:0"]);
    assert_eq!(eligible(&state, Family::V6), ["[fd00::11]:0"]);
}

#[test]
fn a_list_of_all_sources_is_no_list() {
    let (mut state, _) = serving();
    let sources = |state: &_| desired(state, NodeId(1)).services[0].sources.len();
    let mut web = service("web", "edge", "192.0.2.10", 443);
    web.sources = vec!["198.51.100.0/24".parse().unwrap(), "0.0.0.0/0".parse().unwrap()];
    accepted(change(&mut state, 6, upsert(web.clone())));
    assert_eq!(sources(&state), 0);
    // It says nothing of IPv6: nobody may connect by that.
    web.vip.push("2001:db8::10".parse().unwrap());
    accepted(change(&mut state, 7, upsert(web.clone())));
    assert_eq!(sources(&state), 2);
    web.sources.push("::/0".parse().unwrap());
    accepted(change(&mut state, 8, upsert(web)));
    assert_eq!(sources(&state), 0);
}
