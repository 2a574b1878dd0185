//! Which quotations have a tuple, and translation against full computation.

extern crate std;
use std::vec::Vec;

use lockstep_abi::checksum::{add, fold};
use proptest::prelude::*;

use super::*;
use crate::bytes::{put_address, put_half, put_word};
use crate::header::{Ipv4Header, Ipv6Header, ipv4, ipv6};
use crate::sum;

/// Sum over memory words.
fn total(bytes: &[u8]) -> u32 {
    bytes
        .chunks(2)
        .fold(0, |sum, pair| add(sum, u32::from(u16::from_ne_bytes([pair[0], *pair.get(1).unwrap_or(&0)]))))
}

fn right(sum: u32) -> bool {
    fold(sum) == 0xffff
}

fn host(octets: [u8; 4]) -> u32 {
    u32::from_ne_bytes(octets)
}

const PROTOCOLS: [u8; 4] = [TCP, UDP, SCTP, icmp::PROTOCOL];

/// A transport's first 8 bytes and more, with a tuple's ports, whose checksum is right if it is among the first 8.
fn transport(tuple: (u16, u16), protocol: u8, echo: Option<u8>, pseudo: u32, rest: &[u8]) -> Vec<u8> {
    let mut bytes = rest.to_vec();
    let at = if let Some(kind) = echo {
        bytes[0] = kind;
        bytes[4..6].copy_from_slice(&(tuple.0 | tuple.1).to_ne_bytes());
        2
    } else {
        bytes[0..2].copy_from_slice(&tuple.0.to_ne_bytes());
        bytes[2..4].copy_from_slice(&tuple.1.to_ne_bytes());
        if protocol != UDP {
            return bytes;
        }
        6
    };
    bytes[at..at + 2].copy_from_slice(&[0, 0]);
    let field = match sum::field(add(total(&bytes), pseudo)) {
        0 if protocol == UDP => 0xffff,
        field => field,
    };
    bytes[at..at + 2].copy_from_slice(&field.to_ne_bytes());
    bytes
}

/// The translated inner header, as the caller writes it.
fn write4(header: &[u8; 20], new: &Rewritten, to: &Tuple<u32>) -> [u8; 20] {
    let mut written = *header;
    put_half(&mut written, 10, new.header_checksum);
    put_word(&mut written, 12, to.source_be);
    put_word(&mut written, 16, to.destination_be);
    written
}

/// The same for IPv6.
fn write6(header: &[u8; 40], to: &Tuple<[u32; 4]>) -> [u8; 40] {
    let mut written = *header;
    put_address(&mut written, 8, to.source_be);
    put_address(&mut written, 24, to.destination_be);
    written
}

/// The sum that must be all ones, or nothing if there is no such checksum.
fn transport_right(protocol: u8, bytes: &[u8], pseudo: u32) -> bool {
    !matches!(protocol, UDP | icmp::PROTOCOL | icmp6::PROTOCOL) || right(add(total(bytes), pseudo))
}

fn as_echo(ports: (u16, u16), kind: Option<u8>, request: u8) -> (u16, u16) {
    match kind {
        Some(kind) if kind == request => (ports.0, 0),
        Some(_) => (0, ports.0),
        None => ports,
    }
}

proptest! {
    #[test]
    fn a_translated_ipv4_quotation_equals_a_full_computation(
        addresses: [[u32; 2]; 2], ports: [(u16, u16); 2], protocol in prop::sample::select(&PROTOCOLS[..]),
        request: bool, no_checksum: bool, rest in prop::collection::vec(any::<u8>(), 8..40), icmp_header: [u8; 8],
    ) {
        let kind = (protocol == icmp::PROTOCOL).then_some(if request { icmp::ECHO_REQUEST } else { icmp::ECHO_REPLY });
        let pseudo = |tuple: &Tuple<u32>| if kind.is_some() { 0 } else {
            let length = (rest.len() as u32).to_be();
            add(add(tuple.source_be, tuple.destination_be), add(length, u32::from(protocol).to_be()))
        };
        let tuple = |side: usize| {
            let (source_port_be, destination_port_be) = as_echo(ports[side], kind, icmp::ECHO_REQUEST);
            Tuple { source_be: addresses[side][0], destination_be: addresses[side][1], source_port_be, destination_port_be, protocol }
        };
        let (from, to) = (tuple(0), tuple(1));
        let header = ipv4(&Ipv4Header {
            source_be: from.source_be, destination_be: from.destination_be, protocol, ttl: 9, tos: 0, id_be: 7,
            dont_fragment: true, payload_bytes: rest.len() as u32,
        });
        let mut inner = transport((from.source_port_be, from.destination_port_be), protocol, kind, pseudo(&from), &rest);
        let absent = no_checksum && protocol == UDP;
        if absent {
            inner[6..8].copy_from_slice(&[0, 0]);
        }
        let first: [u8; 8] = inner[..8].try_into().unwrap();
        prop_assert_eq!(parse4(&header, &first), Some(from));

        let mut icmp_header = icmp_header;
        put_half(&mut icmp_header, 2, 0);
        let before = add(add(total(&icmp_header), total(&header)), total(&inner));
        let new = rewrite4(protocol, half(&header, 10), &first, sum::field(before), Change::of4(&from, &to), to.ports());
        let new_header = write4(&header, &new, &to);

        prop_assert_eq!(parse4(&new_header, &new.transport), Some(to));
        prop_assert!(right(total(&new_header)), "inner header");
        inner[..8].copy_from_slice(&new.transport);
        if absent {
            prop_assert_eq!(&inner[6..8], &[0, 0]);
        } else {
            prop_assert!(transport_right(protocol, &inner, pseudo(&to)), "inner transport");
        }
        put_half(&mut icmp_header, 2, new.icmp_checksum);
        prop_assert!(right(add(add(total(&icmp_header), total(&new_header)), total(&inner))), "error");
        // There and back is where it was.
        let back = rewrite4(protocol, new.header_checksum, &new.transport, new.icmp_checksum, Change::of4(&to, &from), from.ports());
        prop_assert_eq!(parse4(&write4(&new_header, &back, &from), &back.transport), Some(from));
    }

    #[test]
    fn a_translated_ipv6_quotation_equals_a_full_computation(
        addresses: [[[u32; 4]; 2]; 4], ports: [(u16, u16); 2], protocol in prop::sample::select(&[TCP, UDP, SCTP, icmp6::PROTOCOL][..]),
        request: bool, no_checksum: bool, rest in prop::collection::vec(any::<u8>(), 8..40), icmp_header: [u8; 8],
    ) {
        let kind = (protocol == icmp6::PROTOCOL).then_some(if request { icmp6::ECHO_REQUEST } else { icmp6::ECHO_REPLY });
        let length = rest.len() as u32;
        let pseudo = |tuple: &Tuple<[u32; 4]>| sum::pseudo6(&tuple.source_be, &tuple.destination_be, length, protocol);
        let tuple = |side: usize| {
            let (source_port_be, destination_port_be) = as_echo(ports[side], kind, icmp6::ECHO_REQUEST);
            Tuple { source_be: addresses[side][0], destination_be: addresses[side][1], source_port_be, destination_port_be, protocol }
        };
        let (from, to) = (tuple(0), tuple(1));
        let header = ipv6(&Ipv6Header {
            source_be: from.source_be, destination_be: from.destination_be, next_header: protocol, hop_limit: 9,
            traffic_class: 0, flow_label: 5, payload_bytes: length,
        });
        let mut inner = transport((from.source_port_be, from.destination_port_be), protocol, kind, pseudo(&from), &rest);
        let absent = no_checksum && protocol == UDP;
        if absent {
            inner[6..8].copy_from_slice(&[0, 0]);
        }
        let first: [u8; 8] = inner[..8].try_into().unwrap();
        prop_assert_eq!(parse6(&header, protocol, &first), Some(from));

        let (outer_from, outer_to) = (&addresses[2], &addresses[3]);
        let whole = |outer: &[[u32; 4]; 2], icmp_header: &[u8], header: &[u8], inner: &[u8]| {
            let sum = add(add(total(icmp_header), total(header)), total(inner));
            add(sum, sum::pseudo6(&outer[0], &outer[1], 48 + length, icmp6::PROTOCOL))
        };
        let mut icmp_header = icmp_header;
        put_half(&mut icmp_header, 2, 0);
        let field = sum::field(whole(outer_from, &icmp_header, &header, &inner));
        let outer = add(difference6(&outer_from[0], &outer_to[0]), difference6(&outer_from[1], &outer_to[1]));
        let new = rewrite6(protocol, &first, field, Change::of6(&from, &to), outer, to.ports());
        let new_header = write6(&header, &to);

        prop_assert_eq!(parse6(&new_header, protocol, &new.transport), Some(to));
        inner[..8].copy_from_slice(&new.transport);
        if absent {
            prop_assert_eq!(&inner[6..8], &[0, 0]);
        } else {
            prop_assert!(transport_right(protocol, &inner, pseudo(&to)), "inner transport");
        }
        put_half(&mut icmp_header, 2, new.icmp_checksum);
        prop_assert!(right(whole(outer_to, &icmp_header, &new_header, &inner)), "error");
    }

    #[test]
    fn the_change_of_a_quotation_is_that_of_its_flows_other_direction(from: [u32; 2], to: [u32; 2], ports: [(u16, u16); 2]) {
        let tuple = |addresses: [u32; 2], ports: (u16, u16)| Tuple {
            source_be: addresses[0], destination_be: addresses[1], source_port_be: ports.0,
            destination_port_be: ports.1, protocol: TCP,
        };
        let (from, to) = (tuple(from, ports[0]), tuple(to, ports[1]));
        let (quoted, entry) = (Change::of4(&from, &to), Change::of4(&from.reversed(), &to.reversed()));
        prop_assert_eq!(fold(quoted.addresses) % 0xffff, fold(entry.addresses) % 0xffff);
        prop_assert_eq!(fold(quoted.ports) % 0xffff, fold(entry.ports) % 0xffff);
    }

    #[test]
    fn a_tcp_checksum_further_in_may_be_changed_as_well(addresses: [[u32; 2]; 2], ports: [(u16, u16); 2], rest: [u8; 20]) {
        let tuple = |side: usize| Tuple {
            source_be: addresses[side][0], destination_be: addresses[side][1],
            source_port_be: ports[side].0, destination_port_be: ports[side].1, protocol: TCP,
        };
        let (from, to) = (tuple(0), tuple(1));
        let sum_of = |tuple: &Tuple<u32>, tcp: &[u8; 20]| add(add(tuple.source_be, tuple.destination_be), sum::bytes(tcp));
        let fill = |tcp: &mut [u8; 20], tuple: &Tuple<u32>| {
            put_half(tcp, 0, tuple.source_port_be);
            put_half(tcp, 2, tuple.destination_port_be);
        };
        let (mut old, mut new) = (rest, rest);
        fill(&mut old, &from);
        fill(&mut new, &to);
        put_half(&mut old, 16, 0);
        let field = sum::field(sum_of(&from, &old));
        put_half(&mut old, 16, field);
        let differences = differences4(TCP, Change::of4(&from, &to), true);
        put_half(&mut new, 16, lockstep_abi::checksum::apply(field, differences.transport));
        prop_assert!(right(sum_of(&to, &new)));
        // The error around it: addresses and header checksum cancel out, what is left is in these bytes.
        let change = add(sum::bytes(&new), !sum::bytes(&old));
        let addresses = add(add(to.source_be, to.destination_be), !add(from.source_be, from.destination_be));
        prop_assert_eq!(fold(add(change, 0)) % 0xffff, fold(differences.icmp) % 0xffff);
        prop_assert_eq!(fold(add(change, addresses)) % 0xffff, 0);
    }

    #[test]
    fn arbitrary_bytes_do_no_harm(header: [u8; 20], header6 in any::<([u8; 20], [u8; 20])>(), protocol: u8, transport: [u8; 8]) {
        if let Some(tuple) = parse4(&header, &transport) {
            prop_assert_eq!(tuple.reversed().reversed(), tuple);
            prop_assert!(header_length_bytes(header[0]).is_some_and(|length| (20..=60).contains(&length)));
        }
        let header6: [u8; 40] = [header6.0, header6.1].concat().try_into().unwrap();
        let _ = parse6(&header6, protocol, &transport);
    }
}

#[test]
fn what_shows_no_ports_has_no_tuple() {
    let plain = ipv4(&Ipv4Header {
        source_be: 1,
        destination_be: 2,
        protocol: UDP,
        ttl: 64,
        tos: 0,
        id_be: 0,
        dont_fragment: false,
        payload_bytes: 8,
    });
    assert!(parse4(&plain, &[1; 8]).is_some());
    let with = |at: usize, value: u8| {
        let mut header = plain;
        header[at] = value;
        parse4(&header, &[1; 8])
    };
    assert!(with(6, 0x20).is_some(), "a first fragment");
    assert!(with(0, 0x46).is_some(), "options, and the caller knows where the transport is");
    assert_eq!(with(7, 1), None, "a later fragment");
    assert_eq!(with(6, 0x01), None, "a later fragment");
    assert_eq!(with(0, 0x65), None, "IPv6");
    assert_eq!(with(0, 0x44), None, "a header too short");
    assert_eq!(with(9, 47), None, "GRE");
    assert_eq!(with(9, icmp::PROTOCOL), None, "an ICMP type without identifier");
}

#[test]
fn the_outer_source_is_translated_where_the_flows_is() {
    let [client, vip, endpoint, snat, router] =
        [[192, 0, 2, 1], [198, 51, 100, 10], [10, 0, 0, 11], [10, 0, 0, 1], [203, 0, 113, 5]].map(host);
    let tuple = |source_be, destination_be| Tuple { source_be, destination_be, ..Tuple::default() };
    // nat, from the endpoint or from a router on its side: the client hears it from the VIP.
    let reply = tuple(endpoint, client);
    let out = tuple(vip, client);
    assert_eq!(outer(endpoint, &reply, &out), (vip, client));
    assert_eq!(outer(router, &reply, &out), (vip, client));
    // nat, from a router on the client's side: the endpoint hears the router.
    let request = tuple(client, vip);
    let out = tuple(client, endpoint);
    assert_eq!(outer(router, &request, &out), (router, endpoint));
    // fullnat: it hears what it talks to.
    let out = tuple(snat, endpoint);
    assert_eq!(outer(router, &request, &out), (snat, endpoint));
    assert_eq!(outer(client, &request, &out), (snat, endpoint));
}

#[test]
fn a_whole_translation_of_an_error_from_an_endpoint() {
    let [client, vip, endpoint] = [[192, 0, 2, 1], [198, 51, 100, 10], [10, 0, 0, 11]].map(host);
    let mut header = [0x45, 0, 0, 36, 0, 1, 0, 0, 63, UDP, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    put_word(&mut header, 12, client);
    put_word(&mut header, 16, endpoint);
    let checksum = sum::field(sum::bytes(&header));
    put_half(&mut header, 10, checksum);
    let transport = [0x9c, 0x40, 0x1f, 0x90, 0, 16, 0x12, 0x34];
    let inner = parse4(&header, &transport).unwrap();
    // The reply entry's key, and its twin: the original key.
    let reply = inner.reversed();
    assert_eq!((reply.source_be, reply.source_port_be), (endpoint, 8080u16.to_be()));
    let twin = Tuple { destination_be: vip, destination_port_be: 80u16.to_be(), ..inner };
    let new = rewrite4(UDP, half(&header, 10), &transport, 0x5555, Change::of4(&inner, &twin), twin.ports());
    let new_header = write4(&header, &new, &twin);
    assert_eq!(parse4(&new_header, &new.transport), Some(twin));
    assert!(right(sum::bytes(&new_header)));
    assert_eq!(outer(endpoint, &reply, &twin.reversed()), (vip, client));
    let mut six = [0x60; 40];
    put_address(&mut six, 8, [client; 4]);
    assert_eq!(parse6(&six, UDP, &transport).unwrap().source_be, [client; 4]);
}
