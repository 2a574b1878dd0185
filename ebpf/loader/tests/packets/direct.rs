//! Direct server return: the packet goes to the endpoint as it is, in an outer header or without one.

use std::net::IpAddr;

use lockstep_abi::map;
use lockstep_abi::reason::Reason;
use lockstep_abi::service::{DSR_GUE, DSR_IPIP, DSR_L2, TargetValue};

use crate::case::{Family, Hook, Side, endpoint_mac, wide};
use crate::frame::{ACK, Packet, SYN, TCP, UDP};
use crate::message::{Datagram, Error, icmp_of};
use crate::rig::*;

const GUE_PORT: u16 = 6080;

fn other(family: Family) -> Family {
    if family == Family::V4 { Family::V6 } else { Family::V4 }
}

/// Publishes the demo service over endpoint 1, reached over `outer`.
fn publish(rig: &Rig, mode: u32, outer: Family) {
    rig.publish(&Service::over(&[1]).with(|version| version.mode = mode));
    if outer == rig.net {
        return;
    }
    // An outer source of that family, and the endpoint's address in it.
    let (source, index) = (outer.floating(), FLOATING_INDEX + 1);
    let value = lockstep_abi::address::AddressValue {
        stamp: FIRST_STAMP + index,
        lease_slot: SLOT,
        family: outer.number(),
        address: wide(source),
        group: GROUP,
        ..Default::default()
    };
    rig.table(map::ADDRESSES).put(&index, &value);
    match outer {
        Family::V4 => rig.table(map::ADDRESS_INDEX4).put(&wide(source)[0], &index),
        Family::V6 => rig.table(map::ADDRESS_INDEX6).put(&wide(source), &index),
    }
    rig.table::<u32, TargetValue>(map::TARGETS).change(&target(1), |target| {
        target.family = outer.number();
        target.address = wide(outer.endpoint(1).0);
        target.outer_source = index;
    });
}

/// What was encapsulated, verified to be in the right outer header.
fn opened(rig: &Rig, sent: &Sent, mode: u32, outer: Family) -> Vec<u8> {
    assert_eq!((sent.action, sent.count(Reason::ForwardedSlow)), (Action::Redirect, 1), "{sent:?}");
    assert!(!sent.by_xdp, "tc encapsulates");
    let out = Datagram::read(&sent.frame);
    assert_eq!((out.to, out.from), (endpoint_mac(1), Side::Endpoints.own_mac()));
    assert_eq!((out.source, out.destination, out.ttl), (outer.floating(), outer.endpoint(1).0, 64));
    let inside = if rig.net == Family::V4 { 4 } else { 41 };
    if mode == DSR_IPIP {
        assert_eq!(out.protocol, inside);
        return out.body;
    }
    assert_eq!(out.protocol, UDP);
    let port = |at: usize| u16::from_be_bytes([out.body[at], out.body[at + 1]]);
    assert!(port(0) >= 0xc000, "{}", port(0));
    assert_eq!((port(2), usize::from(port(4)), port(6)), (GUE_PORT, out.body.len(), 0));
    assert_eq!(out.body[8..12], [0, inside, 0, 0]);
    out.body[12..].to_vec()
}

fn overhead(mode: u32, outer: Family) -> u32 {
    (if outer == Family::V4 { 20 } else { 40 }) + if mode == DSR_GUE { 12 } else { 0 }
}

/// Every way to encapsulate. IPv6 in IPv4 is none of IP in IP's modes, but works the same.
fn ways(rig: &Rig) -> [(u32, Family); 4] {
    [DSR_IPIP, DSR_GUE].map(|mode| [(mode, rig.net), (mode, other(rig.net))]).concat().try_into().unwrap()
}

#[test]
fn packets_arrive_in_an_outer_header() {
    for_each(|rig| {
        for (i, (mode, outer)) in (0u16..).zip(ways(rig)) {
            publish(rig, mode, outer);
            for (protocol, flags) in [(TCP, SYN), (TCP, ACK), (TCP, ACK), (UDP, 0), (UDP, 0)] {
                let packet = rig.request(protocol, 40000 + i, flags);
                let sent = rig.client_sends(&packet);
                let inner = opened(rig, &sent, mode, outer);
                let expected = Packet { ttl: 63, ..packet };
                assert_eq!(
                    inner,
                    expected.bytes()[14..],
                    "{mode} {outer:?}: but for the time to live as it was"
                );
            }
        }
        assert_eq!(rig.flow_entries(), 8, "one entry a flow");
    });
}

#[test]
fn the_outer_header_takes_class_and_dont_fragment_from_the_inner() {
    for_cases(&crate::case::BOTH_HOOKS_V4, |rig| {
        publish(rig, DSR_IPIP, Family::V4);
        for (tos, fragment) in [(0xb9, 0x40), (0, 0)] {
            let syn = rig.tcp(40000, SYN);
            let mut frame = syn.bytes();
            (frame[15], frame[20]) = (tos, fragment);
            frame[24..26].fill(0);
            let sum = crate::frame::fold(crate::frame::ones(&frame[14..34]));
            frame[24..26].copy_from_slice(&sum.to_be_bytes());
            let sent = rig.send(rig.client_side, &frame);
            opened(rig, &sent, DSR_IPIP, Family::V4);
            assert_eq!((sent.frame[15], sent.frame[20]), (tos, fragment));
        }
    });
}

#[test]
fn a_later_fragment_and_echo_go_the_same_way() {
    for_each(|rig| {
        publish(rig, DSR_IPIP, rig.net);
        let question = rig.request(UDP, 5000, 0);
        let header = question.header();
        let first = crate::frame::Header { fragment: 0x2000, ..header };
        let sent = rig.send(rig.client_side, &question.bytes_with(first));
        opened(rig, &sent, DSR_IPIP, rig.net);
        let later = crate::frame::Header { fragment: 2, ..header };
        let frame = crate::frame::ip(question.to, question.from, later, b"the rest");
        let inner = opened(rig, &rig.send(rig.client_side, &frame), DSR_IPIP, rig.net);
        assert_eq!(inner[inner.len() - 8..], *b"the rest");
        rig.name(0, icmp_of(rig.net), VERSION);
        let ends = (rig.net.client(), rig.net.vip());
        let ping =
            rig.message(Side::Clients, ends, (crate::message::echo_types(rig.net).0, 0), &[0, 1, 0, 1]);
        let inner = opened(rig, &rig.send_datagram(Side::Clients, &ping), DSR_IPIP, rig.net);
        assert_eq!(inner, Datagram { ttl: 63, ..ping }.bytes()[14..]);
    });
}

#[test]
fn what_does_not_fit_with_its_outer_header_is_told_what_does() {
    for_each(|rig| {
        for (mode, outer) in ways(rig) {
            publish(rig, mode, outer);
            let header = rig.net.transport() - 14 + 20;
            let room = (MTU - overhead(mode, outer)) as usize - header;
            let fits = Packet { payload: vec![1; room], ..rig.tcp(40000, SYN) };
            let sent = rig.client_sends(&fits);
            assert_eq!(sent.frame.len(), 14 + MTU as usize);
            opened(rig, &sent, mode, outer);
            let large = Packet { payload: vec![1; room + 1], flags: ACK, ..fits };
            let sent = rig.client_sends(&large);
            assert_eq!((sent.action, sent.count(Reason::SentTooBig)), (Action::Redirect, 1), "{sent:?}");
            let out = Datagram::read(&sent.frame).verified();
            assert_eq!((out.source, out.destination), (rig.net.vip(), rig.net.client()));
            assert_eq!(out.body[4..8], (MTU - overhead(mode, outer)).to_be_bytes(), "{mode} {outer:?}");
            rig.remove_flow(&key(&rig.tcp(40000, 0)));
        }
    });
}

#[test]
fn a_router_on_the_way_to_the_endpoint_is_heard_by_the_client() {
    for_each(|rig| {
        for (mode, outer) in ways(rig) {
            publish(rig, mode, outer);
            let packet = Packet { payload: vec![9; 200], ..rig.tcp(40000, SYN) };
            let sent = rig.client_sends(&packet);
            let quoted = &sent.frame[14..sent.frame.len().min(14 + 120)];
            let router = outer.host(Side::Endpoints, 60);
            let about = error(outer, (router, outer.floating()), Error::TooBig, 1400, quoted);
            let heard = rig.send_datagram(Side::Endpoints, &about);
            assert_eq!(
                (heard.action, heard.count(Reason::IcmpErrorForwarded)),
                (Action::Redirect, 1),
                "{mode} {outer:?} {heard:?}"
            );
            let out = Datagram::read(&heard.frame).verified();
            assert_eq!((out.source, out.destination), (rig.net.vip(), rig.net.client()));
            assert_eq!((out.to, out.from), (Side::Clients.mac(50), Side::Clients.own_mac()));
            assert_eq!((out.body[0], out.body[1]), Error::TooBig.number(rig.net));
            assert_eq!(out.body[4..8], (1400 - overhead(mode, outer)).to_be_bytes());
            let left = (120 - overhead(mode, outer) as usize) / 4 * 4;
            let as_sent = Packet { ttl: 63, ..packet };
            assert_eq!(out.body[8..], as_sent.bytes()[14..14 + left]);
            // Not under another's lease, not from an endpoint that it was not sent to, and no other error.
            rig.drop_lease();
            rig.send_datagram(Side::Endpoints, &about).dropped(Reason::NoLease);
            rig.hold_lease();
            let unreachable = error(outer, (router, outer.floating()), Error::Unreachable, 0, quoted);
            let lost = rig.send_datagram(Side::Endpoints, &unreachable);
            assert_eq!(
                (lost.action, lost.count(Reason::IcmpErrorWithoutFlow)),
                (Action::Drop, 1),
                "{lost:?}"
            );
            rig.table::<u32, TargetValue>(map::TARGETS).change(&target(1), |target| target.address[0] ^= 1);
            let lost = rig.send_datagram(Side::Endpoints, &about);
            assert_eq!(
                (lost.action, lost.count(Reason::IcmpErrorWithoutFlow)),
                (Action::Drop, 1),
                "{lost:?}"
            );
            rig.remove_flow(&key(&rig.tcp(40000, 0)));
        }
    });
}

/// An error of a family that need not be the case's.
fn error(
    family: Family,
    (source, destination): (IpAddr, IpAddr),
    error: Error,
    mtu: u32,
    quoted: &[u8],
) -> Datagram {
    let rest = [&mtu.to_be_bytes()[..], quoted].concat();
    let (kind, code) = error.number(family);
    let body = match family {
        Family::V4 => crate::frame::icmp(kind, code, &rest),
        Family::V6 => crate::frame::icmp6(source, destination, kind, code, &rest),
    };
    Datagram {
        to: Side::Endpoints.own_mac(),
        from: Side::Endpoints.mac(60),
        source,
        destination,
        protocol: icmp_of(family),
        ttl: 64,
        body,
    }
}

#[test]
fn without_an_address_to_encapsulate_from_a_packet_is_dropped() {
    for_each(|rig| {
        publish(rig, DSR_IPIP, rig.net);
        let syn = rig.tcp(40000, SYN);
        for outer_source in [u32::MAX, 40] {
            rig.table::<u32, TargetValue>(map::TARGETS)
                .change(&target(1), |target| target.outer_source = outer_source);
            rig.client_sends(&syn).dropped(Reason::TargetGone);
        }
        // One of the other family is none.
        publish(rig, DSR_IPIP, other(rig.net));
        let index = FLOATING_INDEX;
        rig.table::<u32, TargetValue>(map::TARGETS).change(&target(1), |target| target.outer_source = index);
        rig.client_sends(&syn).dropped(Reason::TargetGone);
    });
}

#[test]
fn i4_nothing_is_encapsulated_without_the_lease() {
    for_each(|rig| {
        publish(rig, DSR_GUE, rig.net);
        let syn = rig.tcp(40000, SYN);
        opened(rig, &rig.client_sends(&syn), DSR_GUE, rig.net);
        rig.drop_lease();
        rig.client_sends(&syn).dropped(Reason::NoLease);
    });
}

#[test]
fn on_the_endpoints_own_network_only_the_mac_changes() {
    for_each(|rig| {
        publish(rig, DSR_L2, rig.net);
        for (protocol, flags) in [(TCP, SYN), (TCP, ACK), (UDP, 0)] {
            let packet = rig.request(protocol, 40000, flags);
            let sent = rig.client_sends(&packet);
            assert_eq!((sent.action, sent.count(Reason::ForwardedSlow)), (Action::Redirect, 1), "{sent:?}");
            let expected = Packet { to: endpoint_mac(1), from: Side::Endpoints.own_mac(), ..packet.clone() };
            assert_eq!(sent.frame, expected.bytes());
            assert_eq!(sent.by_xdp, rig.case.hook == Hook::Xdp);
            let old = rig.client_sends(&Packet { ttl: 1, ..packet });
            assert_eq!(old.count(Reason::TtlExceeded), 1);
        }
    });
}
