//! Choices that clients keep.

use lockstep_abi::map;
use lockstep_abi::reason::Reason;
use lockstep_abi::service::{AFFINITY, AffinityKey, AffinityValue, LEAST_CONNECTIONS};

use crate::case::{ALL, Side, wide};
use crate::frame::{Packet, SYN};
use crate::pool::Size;
use crate::rig::*;

const KEPT_NS: u64 = 600_000_000_000;

fn keeping() -> Service {
    Service::default().with(|version| {
        version.flags = AFFINITY;
        version.affinity_mask = [u32::MAX; 4];
        version.affinity_ns = KEPT_NS;
    })
}

fn from(rig: &Rig, host: u8, port: u16) -> Packet {
    Packet { source: (rig.net.host(Side::Clients, host), port), ..rig.tcp(port, SYN) }
}

/// The endpoint of a new connection, and whether it was a kept one.
fn chosen(rig: &Rig, packet: &Packet) -> (u8, bool) {
    let sent = rig.client_sends(packet);
    let out = sent.forwarded(Reason::ForwardedSlow);
    (endpoint_of(out.destination.0), sent.count(Reason::AffinityHit) == 1)
}

fn kept(rig: &Rig, host: u8) -> AffinityKey {
    AffinityKey { service: SERVICE, client: wide(rig.net.host(Side::Clients, host)) }
}

fn last_used(rig: &Rig, host: u8, ago_ns: u64) {
    let choices = rig.table::<AffinityKey, AffinityValue>(map::AFFINITY);
    choices.change(&kept(rig, host), |choice| choice.seen_ns = now_ns().wrapping_sub(ago_ns));
}

#[test]
fn a_client_keeps_its_endpoint_whatever_its_port() {
    for_each(|rig| {
        rig.publish(&keeping());
        assert_eq!(chosen(rig, &from(rig, 50, 40000)), (1, false));
        assert_eq!(chosen(rig, &from(rig, 50, 40001)), (1, true));
        assert_eq!(chosen(rig, &from(rig, 51, 40000)), (2, false), "another client");
        assert_eq!(chosen(rig, &from(rig, 50, 40002)), (1, true));
    });
}

#[test]
fn a_choice_is_kept_when_the_service_changes_and_made_anew_when_the_endpoint_went() {
    for_each(|rig| {
        rig.publish(&keeping());
        assert_eq!(chosen(rig, &from(rig, 50, 40000)), (1, false));
        // Another version, algorithm and order of the endpoints.
        let other = Service { slot: 1, endpoints: vec![(3, 1), (2, 1), (1, 1)], ..keeping() };
        rig.publish(&other.with(|version| version.algorithm = LEAST_CONNECTIONS));
        assert_eq!(chosen(rig, &from(rig, 50, 40001)), (1, true));
        let without = Service { slot: 2, endpoints: vec![(2, 1), (3, 1)], ..keeping() };
        rig.publish(&without);
        assert_eq!(chosen(rig, &from(rig, 50, 40002)), (2, false));
        assert_eq!(chosen(rig, &from(rig, 50, 40003)), (2, true));
    });
}

#[test]
fn a_choice_that_was_not_used_for_its_time_is_made_anew() {
    for_each(|rig| {
        rig.publish(&keeping());
        assert_eq!(chosen(rig, &from(rig, 50, 40000)), (1, false));
        last_used(rig, 50, KEPT_NS / 2);
        assert_eq!(chosen(rig, &from(rig, 50, 40001)), (1, true));
        let choice = rig.table::<AffinityKey, AffinityValue>(map::AFFINITY).get(&kept(rig, 50)).unwrap();
        assert!(now_ns() - choice.seen_ns < KEPT_NS / 4, "its time begins again");
        last_used(rig, 50, KEPT_NS + 1_000_000_000);
        assert_eq!(chosen(rig, &from(rig, 50, 40002)), (2, false), "round robin went on");
        assert_eq!(chosen(rig, &from(rig, 50, 40003)), (2, true));
    });
}

#[test]
fn a_mask_makes_one_client_of_a_network() {
    for_each(|rig| {
        rig.publish(&keeping().with(|version| version.affinity_mask = wide(mask(rig))));
        assert_eq!(chosen(rig, &from(rig, 50, 40000)), (1, false));
        assert_eq!(chosen(rig, &from(rig, 51, 40000)), (1, true));
        let elsewhere = Packet { source: (rig.net.unreachable(), 40000), ..rig.tcp(40000, SYN) };
        assert_eq!(chosen(rig, &elsewhere), (2, false));
    });
}

fn mask(rig: &Rig) -> std::net::IpAddr {
    match rig.net {
        crate::case::Family::V4 => "255.255.255.0".parse().unwrap(),
        crate::case::Family::V6 => "ffff:ffff:ffff:ffff::".parse().unwrap(),
    }
}

#[test]
fn i13_a_full_table_keeps_no_more_and_serves_on() {
    for_cases_of(Size::SMALL, &ALL, |rig| {
        rig.publish(&keeping());
        for host in 50..52 {
            let sent = rig.client_sends(&from(rig, host, 40000));
            sent.forwarded(Reason::ForwardedSlow);
            assert_eq!(sent.count(Reason::AffinityFull), 0);
        }
        for port in [40000, 40001] {
            let sent = rig.client_sends(&from(rig, 52, port));
            sent.forwarded(Reason::ForwardedSlow);
            assert_eq!((sent.count(Reason::AffinityFull), sent.count(Reason::AffinityHit)), (1, 0));
        }
        assert_eq!(chosen(rig, &from(rig, 50, 40001)), (1, true), "those that there are stay");
    });
}
