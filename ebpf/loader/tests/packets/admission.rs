//! Who may connect, how many, and how often.

use aya::maps::lpm_trie::Key;
use lockstep_abi::map;
use lockstep_abi::reason::Reason;
use lockstep_abi::service::{SOURCES, ServiceLoad, SourceKey};

use crate::case::{Side, wide};
use crate::frame::{ACK, Packet, RST, SYN, UDP};
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
