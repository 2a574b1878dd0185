//! Transport headers behind IPv4 options and IPv6 extension headers.

use lockstep_abi::reason::Reason;

use crate::case::{BOTH_FAMILIES_TC, BOTH_FAMILIES_XDP, BOTH_HOOKS_V4, Case, Side, endpoint_mac};
use crate::frame::{ACK, Header, Packet, SYN, TCP, UDP, ip};
use crate::message::{Datagram, echo_types};
use crate::rig::*;

const V6: [Case; 2] = [BOTH_FAMILIES_TC[1], BOTH_FAMILIES_XDP[1]];

/// Behind eight bytes of options, or an extension header without meaning.
fn behind(packet: &Packet) -> Vec<u8> {
    packet.bytes_with(Header { options: 8, ..packet.header() })
}

#[test]
fn tcp_and_udp_behind_options_are_translated_both_ways() {
    for_each(|rig| {
        for (protocol, ack) in [(TCP, SYN | ACK), (UDP, 0)] {
            let question = rig.request(protocol, 40000, SYN);
            let sent = rig.send(rig.client_side, &behind(&question));
            assert_eq!((sent.action, sent.count(Reason::ForwardedSlow)), (Action::Redirect, 1), "{sent:?}");
            let out = Packet { ttl: 63, to: sent.frame[..6].try_into().unwrap(), ..question.clone() };
            let n = out.to[5] - 10;
            let expected = Packet {
                from: Side::Endpoints.own_mac(),
                destination: rig.net.endpoint(n),
                to: endpoint_mac(n),
                ..out
            };
            assert_eq!(
                sent.frame,
                behind(&expected),
                "only addresses, ports, checksums and time to live change"
            );
            let answer = rig.reply(protocol, n, 40000, ack);
            let sent = rig.send(rig.endpoint_side, &behind(&answer));
            let expected = Packet {
                to: Side::Clients.mac(50),
                from: Side::Clients.own_mac(),
                source: (rig.net.vip(), 80),
                ttl: 63,
                ..answer
            };
            assert_eq!(sent.frame, behind(&expected));
        }
        // The same flow without.
        rig.client_sends(&rig.request(UDP, 40000, 0)).forwarded(Reason::ForwardedFast);
        assert_eq!(rig.flow_entries(), 4);
    });
}

#[test]
fn state_and_flags_count_behind_options_too() {
    for_each(|rig| {
        rig.send(rig.client_side, &behind(&rig.tcp(40000, ACK))).dropped(Reason::Miss);
        rig.send(rig.client_side, &behind(&rig.tcp(40000, SYN | 1))).dropped(Reason::TcpFlags);
        rig.drop_lease();
        rig.send(rig.client_side, &behind(&rig.tcp(40000, SYN))).dropped(Reason::NoLease);
        rig.hold_lease();
        let leaked = rig.reply(TCP, 1, 40000, ACK);
        rig.send(rig.endpoint_side, &behind(&leaked)).dropped(Reason::ReplyWithoutFlow);
        let local = Packet { destination: (rig.net.node(Side::Clients), 22), ..rig.tcp(40000, SYN) };
        rig.send(rig.client_side, &behind(&local)).passed(Reason::PassLocal);
    });
}

#[test]
fn a_truncated_transport_is_malformed() {
    for_each(|rig| {
        let syn = rig.tcp(40000, SYN);
        let header = Header { options: 8, ..syn.header() };
        let frame = ip(syn.to, syn.from, header, &syn.segment()[..19]);
        rig.send(rig.client_side, &frame).dropped(Reason::Malformed);
        let datagram = Packet { protocol: UDP, ..syn };
        let frame = ip(datagram.to, datagram.from, Header { protocol: UDP, ..header }, &[0; 7]);
        rig.send(rig.client_side, &frame).dropped(Reason::Malformed);
    });
}

#[test]
fn source_routes_are_refused_and_other_options_are_not() {
    for_cases(&BOTH_HOOKS_V4, |rig| {
        let with = |options: &[u8], packet: &Packet| {
            let mut frame = packet.bytes_with(Header { options: options.len(), ..packet.header() });
            frame[34..34 + options.len()].copy_from_slice(options);
            frame[24..26].fill(0);
            let sum = crate::frame::fold(crate::frame::ones(&frame[14..34 + options.len()]));
            frame[24..26].copy_from_slice(&sum.to_be_bytes());
            frame
        };
        let syn = rig.tcp(40000, SYN);
        for route in [131, 137] {
            let frame = with(&[1, route, 7, 4, 192, 0, 2, 77], &syn);
            rig.send(rig.client_side, &frame).dropped(Reason::IpOptions);
        }
        // An option without length would be looked at for ever.
        rig.send(rig.client_side, &with(&[7, 0, 0, 0], &syn)).dropped(Reason::IpOptions);
        assert_eq!(rig.flow_entries(), 0);
        // Router alert; record route; the end of the list and what looks like a route behind it.
        for options in [&[148, 4, 0, 0][..], &[7, 7, 4, 0, 0, 0, 0, 0], &[0, 131, 7, 4]] {
            let sent = rig.send(rig.client_side, &with(options, &syn));
            assert_eq!(sent.count(Reason::ForwardedSlow), 1, "{options:?} {sent:?}");
            assert_eq!(sent.frame[34..34 + options.len()], *options);
        }
        let local = Packet { destination: (rig.net.node(Side::Clients), 22), ..syn };
        let frame = with(&[131, 7, 4, 192, 0, 2, 77, 0], &local);
        rig.send(rig.client_side, &frame).passed(Reason::PassLocal);
    });
}

/// Behind headers of these types, each eight bytes long.
fn chain(packet: &Packet, kinds: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    for position in 0..kinds.len() {
        let next = kinds.get(position + 1).copied().unwrap_or(packet.protocol);
        // Authentication counts in words, less two: eight bytes are 0 as well.
        let units = 0;
        body.extend([next, units, 0, 0, 0, 0, 0, 0]);
    }
    body.extend(packet.segment());
    let header = Header { protocol: kinds[0], ..packet.header() };
    ip(packet.to, packet.from, header, &body)
}

#[test]
fn a_few_extension_headers_are_followed_and_no_more() {
    for_cases(&V6, |rig| {
        let syn = rig.tcp(40000, SYN);
        for kinds in [&[0][..], &[60], &[0, 60, 43, 60], &[51]] {
            let sent = rig.send(rig.client_side, &chain(&syn, kinds));
            assert_eq!(sent.count(Reason::ForwardedSlow), 1, "{kinds:?} {sent:?}");
            let at = 54 + 8 * kinds.len();
            assert_eq!(sent.frame[at + 2..at + 4], 8080u16.to_be_bytes());
        }
        assert_eq!(rig.flow_entries(), 2);
        for kinds in [&[60, 60, 60, 60, 60][..], &[60, 0], &[0, 60, 43, 60, 51]] {
            rig.send(rig.client_side, &chain(&syn, kinds)).dropped(Reason::ExtensionHeaders);
        }
        // A route that has still to be followed.
        let mut routed = chain(&syn, &[43]);
        routed[54 + 3] = 1;
        rig.send(rig.client_side, &routed).dropped(Reason::ExtensionHeaders);
        let leaked = rig.reply(TCP, 1, 50000, ACK);
        let sent = rig.send(rig.endpoint_side, &chain(&leaked, &[60, 60, 60, 60, 60]));
        sent.dropped(Reason::ExtensionHeaders);
        let local = Packet { destination: (rig.net.node(Side::Clients), 22), ..syn };
        rig.send(rig.client_side, &chain(&local, &[60; 5])).passed(Reason::PassLocal);
    });
}

#[test]
fn a_ping_behind_options_is_not_answered() {
    for_each(|rig| {
        let ends = (rig.net.client(), rig.net.vip());
        let ping = rig.message(Side::Clients, ends, (echo_types(rig.net).0, 0), &[0, 1, 0, 1]);
        let frame = ip(ping.to, ping.from, Header { options: 8, ..ping.header() }, &ping.body);
        rig.send(rig.client_side, &frame).dropped(Reason::NoService);
        let sent = rig.send_datagram(Side::Clients, &Datagram { ttl: 64, ..ping });
        assert_eq!(sent.count(Reason::PingAnswered), 1);
    });
}
