//! Fragments follow their first.

use std::net::IpAddr;

use lockstep_abi::reason::Reason;
use lockstep_packet::fragment::{FOLLOWED_NS, FragmentKey4, FragmentKey6, FragmentValue};

use crate::case::{Family, Side, endpoint_mac, wide};
use crate::frame::{ACK, Header, Packet, SYN, TCP, UDP, ip, l4_sum};
use crate::message::{Datagram, SCTP, sealed};
use crate::rig::*;

const MORE: u16 = 0x2000;

/// A piece of a packet: where it begins, and whether it is the last.
#[derive(Clone, Copy)]
struct Piece {
    from: usize,
    to: usize,
    last: bool,
}

fn cut(length: usize, at: &[usize]) -> Vec<Piece> {
    let ends = at.iter().copied().chain([length]);
    let begins = [0].into_iter().chain(at.iter().copied());
    begins.zip(ends).map(|(from, to)| Piece { from, to, last: to == length }).collect()
}

fn frame(packet: &Packet, segment: &[u8], piece: Piece) -> Vec<u8> {
    let header =
        Header { fragment: (piece.from / 8) as u16 | if piece.last { 0 } else { MORE }, ..packet.header() };
    ip(packet.to, packet.from, header, &segment[piece.from..piece.to])
}

/// What a fragment that left holds, and its addresses; verified.
fn held(rig: &Rig, sent: &Sent, piece: Piece) -> (IpAddr, IpAddr, Vec<u8>) {
    assert_eq!((sent.action, sent.count(Reason::ForwardedSlow)), (Action::Redirect, 1), "{sent:?}");
    let out = Datagram::read(&sent.frame);
    assert_eq!(out.ttl, 63);
    let word = (piece.from / 8) as u16 | if piece.last { 0 } else { MORE };
    let body = match rig.net {
        Family::V4 => {
            assert_eq!(sent.frame[20..22], word.to_be_bytes(), "the place stays");
            assert_eq!(sent.frame[18..20], [0x12, 0x34], "the identification stays");
            out.body
        }
        Family::V6 => {
            assert_eq!(out.protocol, 44);
            let word = (piece.from as u16) | u16::from(!piece.last);
            assert_eq!(out.body[2..8], [&word.to_be_bytes()[..], &[0, 0, 0x12, 0x34]].concat());
            out.body[8..].to_vec()
        }
    };
    (out.source, out.destination, body)
}

fn large(packet: Packet) -> Packet {
    Packet { payload: (0..=254).cycle().take(2800).collect(), ..packet }
}

#[test]
fn fragments_are_translated_as_one_packet_both_ways() {
    for_each(|rig| {
        let question = large(rig.request(UDP, 5000, 0));
        let answer = large(rig.reply(UDP, 1, 5000, 0));
        let (client, vip, endpoint) = (rig.net.client(), rig.net.vip(), rig.net.endpoint(1).0);
        for (side, packet, source, destination) in
            [(Side::Clients, question, client, endpoint), (Side::Endpoints, answer, vip, client)]
        {
            let segment = packet.segment();
            let mut whole = Vec::new();
            for piece in cut(segment.len(), &[1400, 2400]) {
                let sent = rig.send(rig.ifindex(side), &frame(&packet, &segment, piece));
                let (from, to, body) = held(rig, &sent, piece);
                assert_eq!((from, to), (source, destination));
                whole.extend(body);
            }
            assert_eq!(l4_sum(source, destination, UDP, &whole), 0, "the reassembled packet's checksum");
            assert_eq!(whole[8..], packet.payload);
            let port = |at: usize| u16::from_be_bytes([whole[at], whole[at + 1]]);
            let expected = if side == Side::Clients { (5000, 8080) } else { (80, 5000) };
            assert_eq!((port(0), port(2)), expected);
        }
        assert_eq!(rig.flow_entries(), 2);
    });
}

#[test]
fn a_later_fragment_before_its_first_is_dropped_and_counted() {
    for_each(|rig| {
        let question = large(rig.request(UDP, 5000, 0));
        let segment = question.segment();
        let [first, second, third] = cut(segment.len(), &[1400, 2400])[..] else { panic!() };
        let send = |piece| rig.send(rig.client_side, &frame(&question, &segment, piece));
        send(third).dropped(Reason::FragmentWithoutFirst);
        held(rig, &send(first), first);
        held(rig, &send(third), third);
        held(rig, &send(second), second);
        // Another client's.
        let other = Packet { source: (rig.net.neighbour(), 5000), ..question.clone() };
        let sent = rig.send(rig.client_side, &frame(&other, &segment, second));
        sent.dropped(Reason::FragmentWithoutFirst);
    });
}

#[test]
fn a_fragment_is_not_followed_for_ever() {
    for_each(|rig| {
        let question = large(rig.request(UDP, 5000, 0));
        let segment = question.segment();
        let [first, second] = cut(segment.len(), &[1400])[..] else { panic!() };
        rig.send(rig.client_side, &frame(&question, &segment, first));
        let age = |value: &mut FragmentValue| {
            assert!(now_ns() - value.seen_ns < 1_000_000_000);
            value.seen_ns = now_ns() - FOLLOWED_NS;
        };
        let (source, destination) = (wide(rig.net.client()), wide(rig.net.vip()));
        match rig.net {
            Family::V4 => {
                let key = FragmentKey4 {
                    source_be: source[0],
                    destination_be: destination[0],
                    id_be: 0x1234u16.to_be(),
                    protocol: UDP,
                    pad: 0,
                };
                rig.table::<[u8; 12], FragmentBytes>("FRAGMENTS4").change(&bytes4(&key), |b| aged(b, age));
            }
            Family::V6 => {
                let key =
                    FragmentKey6 { source_be: source, destination_be: destination, id_be: 0x1234u32.to_be() };
                rig.table::<[u8; 36], FragmentBytes>("FRAGMENTS6").change(&bytes6(&key), |b| aged(b, age));
            }
        }
        let sent = rig.send(rig.client_side, &frame(&question, &segment, second));
        sent.dropped(Reason::FragmentWithoutFirst);
    });
}

type FragmentBytes = [u8; 16];

fn aged(bytes: &mut FragmentBytes, change: impl FnOnce(&mut FragmentValue)) {
    let mut value = FragmentValue {
        seen_ns: u64::from_ne_bytes(bytes[..8].try_into().unwrap()),
        ..FragmentValue::default()
    };
    change(&mut value);
    bytes[..8].copy_from_slice(&value.seen_ns.to_ne_bytes());
}

fn bytes4(key: &FragmentKey4) -> [u8; 12] {
    let words = [key.source_be.to_ne_bytes(), key.destination_be.to_ne_bytes()].concat();
    [&words[..], &key.id_be.to_ne_bytes(), &[key.protocol, key.pad]].concat().try_into().unwrap()
}

fn bytes6(key: &FragmentKey6) -> [u8; 36] {
    let words = [&key.source_be[..], &key.destination_be, &[key.id_be]].concat();
    words.iter().flat_map(|word| word.to_ne_bytes()).collect::<Vec<_>>().try_into().unwrap()
}

#[test]
fn pieces_that_could_undo_the_translation_are_dropped() {
    for_each(|rig| {
        let syn = Packet { payload: vec![7; 100], ..rig.tcp(40000, SYN) };
        let segment = syn.segment();
        let send =
            |from, to, last| rig.send(rig.client_side, &frame(&syn, &segment, Piece { from, to, last }));
        // Not the whole header; over the header; no whole number of words.
        send(0, 16, false).dropped(Reason::Fragment);
        send(8, 64, false).dropped(Reason::Fragment);
        send(16, 64, true).dropped(Reason::Fragment);
        send(0, 61, false).dropped(Reason::Fragment);
        assert_eq!(rig.flow_entries(), 0);
        let piece = Piece { from: 0, to: 64, last: false };
        held(rig, &send(0, 64, false), piece);
        assert_eq!(rig.flow_entries(), 2);
        held(rig, &send(64, segment.len(), true), Piece { from: 64, to: segment.len(), last: true });
    });
}

#[test]
fn an_endpoints_fragments_without_a_flow_do_not_leave_untranslated() {
    for_each(|rig| {
        let answer = large(rig.reply(UDP, 1, 5000, 0));
        let segment = answer.segment();
        let [first, second] = cut(segment.len(), &[1400])[..] else { panic!() };
        let send = |piece| rig.send(rig.endpoint_side, &frame(&answer, &segment, piece));
        send(second).dropped(Reason::FragmentWithoutFirst);
        send(first).dropped(Reason::ReplyWithoutFlow);
        send(second).dropped(Reason::FragmentWithoutFirst);
    });
}

#[test]
fn fragments_that_are_nobodys_business_pass() {
    for_each(|rig| {
        let local =
            Packet { destination: (rig.net.node(Side::Clients), 53), ..large(rig.request(UDP, 5000, 0)) };
        let segment = local.segment();
        for piece in cut(segment.len(), &[1400]).into_iter().rev() {
            let sent = rig.send(rig.client_side, &frame(&local, &segment, piece));
            sent.passed(Reason::PassLocal);
        }
        assert_eq!(rig.flow_entries(), 0);
    });
}

#[test]
fn i4_later_fragments_need_the_lease_too() {
    for_each(|rig| {
        let question = large(rig.request(UDP, 5000, 0));
        let segment = question.segment();
        let [first, second] = cut(segment.len(), &[1400])[..] else { panic!() };
        held(rig, &rig.send(rig.client_side, &frame(&question, &segment, first)), first);
        rig.drop_lease();
        rig.send(rig.client_side, &frame(&question, &segment, second)).dropped(Reason::NoLease);
        rig.hold_lease();
        let sent = rig.send(rig.client_side, &frame(&question, &segment, second));
        assert_eq!(Datagram::read(&sent.frame).to, endpoint_mac(1));
    });
}

#[test]
fn a_fragment_that_is_the_whole_is_one() {
    // RFC 6946; only IPv6 can say so.
    for_cases(&[crate::case::BOTH_FAMILIES_TC[1], crate::case::BOTH_FAMILIES_XDP[1]], |rig| {
        let question = rig.request(UDP, 5000, 0);
        let body = [&[UDP, 0, 0, 0, 0, 0, 0x12, 0x34][..], &question.segment()].concat();
        let sent = rig.send(
            rig.client_side,
            &ip(question.to, question.from, Header { protocol: 44, ..question.header() }, &body),
        );
        let (_, to, whole) = held(rig, &sent, Piece { from: 0, to: 0, last: true });
        assert_eq!((to, l4_sum(rig.net.client(), to, UDP, &whole)), (rig.net.endpoint(1).0, 0));
    });
}

#[test]
fn sctps_checksum_over_a_fragmented_packet_forbids_other_ports() {
    for_each(|rig| {
        rig.name(80, SCTP, VERSION);
        let init = [&[0x9c, 0x40, 0, 80, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 52][..], &[7; 48]].concat();
        let segment = sealed(init);
        let packet = Packet { protocol: SCTP, ..rig.tcp(40000, 0) };
        let [first, second] = cut(segment.len(), &[32])[..] else { panic!() };
        rig.send(rig.client_side, &frame(&packet, &segment, first)).dropped(Reason::Fragment);
        // Where the ports stay, addresses alone change nothing in it.
        rig.write_version(&Service { keep_port: true, ..Service::over(&[2]) });
        let packet = Packet { source: (rig.net.neighbour(), 40000), ..packet };
        let mut whole = Vec::new();
        for piece in [first, second] {
            let sent = rig.send(rig.client_side, &frame(&packet, &segment, piece));
            let (_, to, body) = held(rig, &sent, piece);
            assert_eq!(to, rig.net.endpoint(2).0);
            whole.extend(body);
        }
        assert_eq!(whole, segment);
    });
}

#[test]
fn a_tcp_connection_in_fragments_is_established() {
    for_each(|rig| {
        rig.connect(40000);
        let data = large(rig.tcp(40000, ACK));
        let segment = data.segment();
        let mut whole = Vec::new();
        for piece in cut(segment.len(), &[1400, 2400]) {
            let sent = rig.send(rig.client_side, &frame(&data, &segment, piece));
            whole.extend(held(rig, &sent, piece).2);
        }
        assert_eq!(l4_sum(rig.net.client(), rig.net.endpoint(1).0, TCP, &whole), 0);
        rig.client_sends(&rig.tcp(40000, ACK)).forwarded(Reason::ForwardedFast);
    });
}
