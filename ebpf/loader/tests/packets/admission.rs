//! Who may connect, how many, and how often.

use std::net::IpAddr;

use aya::maps::lpm_trie::Key;
use lockstep_abi::address::STATIC;
use lockstep_abi::map;
use lockstep_abi::reason::Reason;
use lockstep_abi::service::{SOURCES, ServiceLoad, ServiceVersion, SourceKey};
use lockstep_abi::snat::SNAT;

use crate::case::{Family, Side, wide};
use crate::frame::{ACK, Packet, RST, SYN, TCP, UDP};
use crate::rig::*;

fn from(rig: &Rig, host: u8) -> Packet {
    Packet { source: (rig.net.host(Side::Clients, host), 40000), ..rig.tcp(40000, SYN) }
}

#[test]
fn only_sources_that_are_named_may_connect() {
    for_each(|rig| {
        let named = |slot: u32, host: u8, bits: u32| {
            let address = wide(rig.net.host(Side::Clients, host));
            let key = Key::new(u32::BITS + bits, SourceKey { version_slot: slot, address });
            rig.table(map::SOURCES).put(&key, &1u32);
        };
        rig.client_sends(&from(rig, 70)).forwarded(Reason::ForwardedSlow);
        // 64 to 71, of this version; everybody, of another.
        named(VERSION, 64, rig.net.bits() - 3);
        named(VERSION + 1, 0, 0);
        rig.publish(&Service::default().with(|version| version.flags = SOURCES));
        for host in [64, 71] {
            rig.client_sends(&from(rig, host)).forwarded(Reason::ForwardedSlow);
        }
        for host in [63, 72] {
            rig.client_sends(&from(rig, host)).dropped(Reason::SourceNotAllowed);
        }
        assert_eq!(rig.flow_entries(), 6);
        let stays = Packet { flags: ACK, ..from(rig, 70) };
        rig.client_sends(&stays).forwarded(Reason::ForwardedSlow);
    });
}

#[test]
fn a_service_has_no_more_flows_than_its_limit() {
    for_each(|rig| {
        rig.publish(&Service::over(&[1]).with(|version| version.connection_limit = 2));
        rig.connect(40000);
        rig.connect(40001);
        rig.client_sends(&rig.tcp(40002, SYN)).dropped(Reason::ConnectionLimit);
        rig.client_sends(&rig.request(UDP, 40002, 0)).dropped(Reason::ConnectionLimit);
        rig.client_sends(&rig.tcp(40000, ACK)).forwarded(Reason::ForwardedFast);
        assert_eq!(rig.flow_entries(), 4);
        // One that is over makes room for its follower.
        rig.client_sends(&rig.tcp(40001, RST));
        rig.client_sends(&rig.tcp(40001, SYN)).forwarded(Reason::ForwardedSlow);
        rig.client_sends(&rig.tcp(40002, SYN)).dropped(Reason::ConnectionLimit);
        let name = key(&rig.tcp(40000, 0));
        assert_eq!(rig.age(&[name], lockstep_abi::age::FORCE)[0].outcome, lockstep_abi::age::MARKED);
        rig.client_sends(&rig.tcp(40002, SYN)).forwarded(Reason::ForwardedSlow);
    });
}

#[test]
fn new_flows_come_no_faster_than_the_rate() {
    for_each(|rig| {
        const HOUR_NS: u64 = 3_600_000_000_000;
        // One an hour, and up to three at once.
        rig.publish(&Service::over(&[1]).with(|version| {
            version.rate_interval_ns = HOUR_NS;
            version.rate_burst_ns = 2 * HOUR_NS;
        }));
        for port in 40000..40003 {
            rig.client_sends(&rig.tcp(port, SYN)).forwarded(Reason::ForwardedSlow);
        }
        for port in 40003..40006 {
            rig.client_sends(&rig.tcp(port, SYN)).dropped(Reason::RateLimit);
        }
        assert_eq!(rig.flow_entries(), 6);
        rig.client_sends(&rig.tcp(40000, SYN)).forwarded(Reason::ForwardedSlow);
        // An hour later there is room for one.
        let loads = rig.table::<u32, ServiceLoad>(map::SERVICE_LOADS);
        loads.change(&SERVICE_SLOT, |load| load.arrival_ns -= HOUR_NS);
        rig.client_sends(&rig.tcp(40003, SYN)).forwarded(Reason::ForwardedSlow);
        rig.client_sends(&rig.tcp(40004, SYN)).dropped(Reason::RateLimit);
    });
}

/// From an address that no router may pass on.
fn strangers(rig: &Rig) -> Vec<IpAddr> {
    let addresses: &[&str] = match rig.net {
        Family::V4 => &["0.0.0.0", "0.1.2.3", "127.0.0.1", "224.0.0.1", "239.1.2.3", "255.255.255.255"],
        Family::V6 => &["::", "::1", "fe80::50", "febf::1", "ff02::1", "ff0e::5"],
    };
    addresses.iter().map(|address| address.parse().unwrap()).collect()
}

#[test]
fn i13_what_no_router_may_pass_on_begins_no_flow() {
    for_each(|rig| {
        let outside = crate::rules::outside(rig);
        for stranger in strangers(rig) {
            // At a service, whose limits it does not use up.
            let version = |version: &mut ServiceVersion| {
                version.rate_interval_ns = u64::MAX >> 2;
                version.rate_burst_ns = 0;
            };
            rig.table(map::SERVICE_LOADS).put(&SERVICE_SLOT, &ServiceLoad::default());
            rig.publish(&Service::over(&[1]).with(version));
            for protocol in [TCP, UDP] {
                let packet = Packet { source: (stranger, 40000), ..rig.request(protocol, 40000, SYN) };
                rig.client_sends(&packet).dropped(Reason::SourceStaysOnLink);
            }
            rig.client_sends(&rig.tcp(40000, SYN)).forwarded(Reason::ForwardedSlow);
            for (name, _) in rig.flows() {
                rig.remove_flow(&name);
            }
            // At a rule for everybody.
            crate::rules::rules(rig, &[crate::rules::any(SNAT, &[crate::rules::OUTSIDE_INDEX])]);
            rig.put_prefix(map::SNAT_SOURCES4, map::SNAT_SOURCES6, stranger, 0, &3u32);
            rig.transit(stranger, 0, &[SLOT]);
            let outward = Packet {
                to: Side::Endpoints.own_mac(),
                source: (stranger, 33000),
                destination: (rig.net.client(), 443),
                ..rig.request(UDP, 33000, 0)
            };
            let sent = rig.endpoint_sends(&outward);
            if rig.net == Family::V6 && sent.action == Action::Pass {
                // The kernel routes nothing from some of them, and keeps it.
                sent.passed(Reason::PassLocal);
            } else {
                sent.dropped(Reason::SourceStaysOnLink);
            }
            // At a host's own address.
            rig.address(14, outside, STATIC, 0);
            rig.change_address(14, |address| address.static_host = wide(rig.net.insider()));
            let inward = Packet {
                source: (stranger, 40000),
                destination: (outside, 22),
                ..rig.request(UDP, 40000, 0)
            };
            rig.client_sends(&inward).dropped(Reason::SourceStaysOnLink);
            assert_eq!(rig.flow_entries(), 0, "{stranger}");
            rig.drop_lease();
            rig.client_sends(&inward).dropped(Reason::NoLease);
            rig.hold_lease();
        }
    });
}
