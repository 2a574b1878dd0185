//! Errors and resets of our own about packets that are not forwarded.

use std::net::IpAddr;

use lockstep_abi::reason::Reason;
use lockstep_abi::service::MISS_RESET;

use crate::case::Family;
use crate::frame::{ACK, FIN, Header, Packet, RST, SYN, TCP, UDP, fold, ip, l4_sum, ones};
use crate::message::{Datagram, Error, icmp_of};
use crate::rig::*;

/// The most that an error is long, IP header and all.
fn limit(rig: &Rig) -> usize {
    if rig.net == Family::V4 { 576 } else { 1280 }
}

/// What an error quotes, verified to be one of ours to the sender of the packet in this frame.
fn answered(rig: &Rig, sent: &Sent, about: &Packet, error: Error, source: IpAddr, mtu: u32) -> Vec<u8> {
    assert_eq!(sent.action, Action::Redirect, "{sent:?}");
    let (dropped, answered) = match error {
        Error::TooBig => (Reason::FragNeeded, Reason::SentTooBig),
        _ => (Reason::TtlExceeded, Reason::SentTimeExceeded),
    };
    assert_eq!((sent.count(dropped), sent.count(answered)), (1, 1), "{sent:?}");
    let out = Datagram::read(&sent.frame).verified();
    assert_eq!((out.to, out.from), (about.from, about.to));
    assert_eq!((out.source, out.destination, out.ttl), (source, about.source.0, 64));
    assert_eq!(out.protocol, icmp_of(rig.net));
    assert_eq!((out.body[0], out.body[1]), error.number(rig.net));
    assert_eq!(out.body[4..8], mtu.to_be_bytes());
    out.body[8..].to_vec()
}

/// What is quoted of a frame: as much as fits, in whole words.
fn quoted(rig: &Rig, frame: &[u8]) -> Vec<u8> {
    let most = limit(rig) - (rig.net.transport() - 14) - 8;
    frame[14..14 + (frame.len() - 14).min(most) / 4 * 4].to_vec()
}

/// A packet whose IP length is this.
fn of_length(rig: &Rig, packet: Packet, length: usize) -> Packet {
    let header = rig.net.transport() - 14 + if packet.protocol == TCP { 20 } else { 8 };
    Packet { payload: (0..=250).cycle().take(length - header).collect(), ..packet }
}

#[test]
fn what_is_too_big_is_answered_by_the_vip() {
    for_each(|rig| {
        rig.connect(40000);
        rig.client_sends(&rig.request(UDP, 5000, 0)).forwarded(Reason::ForwardedSlow);
        for protocol in [TCP, UDP] {
            let port = if protocol == TCP { 40000 } else { 5000 };
            let fits = of_length(rig, rig.request(protocol, port, ACK), MTU as usize);
            assert_eq!(rig.client_sends(&fits).action, Action::Redirect);
            for length in [1501, 1502, 1503, 1504, 1600] {
                let large = of_length(rig, fits.clone(), length);
                let frame = large.bytes();
                let sent = rig.client_sends(&large);
                let text = answered(rig, &sent, &large, Error::TooBig, rig.net.vip(), MTU);
                assert_eq!(text, quoted(rig, &frame), "{length}");
                assert!(!sent.by_xdp, "tc answers");
            }
        }
    });
}

#[test]
fn what_an_endpoint_sends_too_big_is_answered_by_the_vip_too() {
    for_each(|rig| {
        let n = rig.connect(40000);
        crate::rig::ip("link set client0 mtu 1400");
        rig.change_hop(rig.net.client(), |hop| hop.mtu = 1400);
        let large = of_length(rig, rig.reply(TCP, n, 40000, ACK), 1401);
        let sent = rig.endpoint_sends(&large);
        let text = answered(rig, &sent, &large, Error::TooBig, rig.net.vip(), 1400);
        assert_eq!(text, quoted(rig, &large.bytes()));
    });
}

#[test]
fn i14_what_is_larger_than_its_route_takes_is_answered_though_the_device_would_take_it() {
    for_each(|rig| {
        let (client, bits) = (rig.net.client(), rig.net.bits());
        crate::rig::ip(&format!("route add {client}/{bits} dev client0 mtu lock 1400"));
        let n = rig.connect(40000);
        // The flow has had time to keep its next hop.
        for _ in 0..2 {
            let fits = of_length(rig, rig.reply(TCP, n, 40000, ACK), 1400);
            let out = rig.endpoint_sends(&fits).forwarded(Reason::ForwardedSlow);
            assert_eq!(out.to, crate::case::Side::Clients.mac(50));
            let large = of_length(rig, rig.reply(TCP, n, 40000, ACK), 1401);
            let sent = rig.endpoint_sends(&large);
            let text = answered(rig, &sent, &large, Error::TooBig, rig.net.vip(), 1400);
            assert_eq!(text, quoted(rig, &large.bytes()));
        }
        // The other direction's route takes what its device does.
        rig.client_sends(&rig.tcp(40000, ACK)).forwarded(Reason::ForwardedFast);
    });
}

#[test]
fn i14_what_is_too_big_is_answered_before_the_neighbour_is_asked_for() {
    for_each(|rig| {
        // Nobody knows its MAC.
        let stranger = rig.net.host(crate::case::Side::Clients, 99);
        let question =
            |length| of_length(rig, Packet { source: (stranger, 5000), ..rig.request(UDP, 5000, 0) }, length);
        let out = rig.client_sends(&question(100)).forwarded(Reason::ForwardedSlow);
        let answer = Packet { payload: vec![7; 2000], ..out.answer(0) };
        for length in [1500, 1501] {
            let answer = of_length(rig, answer.clone(), length);
            let sent = rig.endpoint_sends(&answer);
            if length <= MTU as usize {
                assert_eq!((sent.action, sent.count(Reason::ForwardedUnresolved)), (Action::Redirect, 1));
            } else {
                let text = answered(rig, &sent, &answer, Error::TooBig, rig.net.vip(), MTU);
                assert_eq!(text, quoted(rig, &answer.bytes()));
            }
        }
    });
}

#[test]
fn a_new_flow_with_a_packet_too_big_is_told() {
    for_each(|rig| {
        let large = of_length(rig, rig.request(UDP, 5000, 0), 1501);
        let sent = rig.client_sends(&large);
        answered(rig, &sent, &large, Error::TooBig, rig.net.vip(), MTU);
    });
}

#[test]
fn a_packet_that_may_be_fragmented_is_answered_as_well() {
    for_cases(&crate::case::BOTH_HOOKS_V4, |rig| {
        let large = of_length(rig, rig.request(UDP, 5000, 0), 1501);
        let frame = large.bytes_with(Header { fragment: 0, ..large.header() });
        let sent = rig.send(rig.client_side, &frame);
        let text = answered(rig, &sent, &large, Error::TooBig, rig.net.vip(), MTU);
        assert_eq!(text, quoted(rig, &frame));
    });
}

#[test]
fn what_has_lived_too_long_is_answered() {
    for_each(|rig| {
        let n = rig.connect(40000);
        for length in [60, 61, 62, 63, 700, 1400] {
            let old = Packet { ttl: 1, ..of_length(rig, rig.tcp(40000, ACK), length) };
            let text = answered(rig, &rig.client_sends(&old), &old, Error::TimeExceeded, rig.net.vip(), 0);
            assert_eq!(text, quoted(rig, &old.bytes()), "{length}");
            let old = Packet { ttl: 1, ..of_length(rig, rig.reply(TCP, n, 40000, ACK), length) };
            let text = answered(rig, &rig.endpoint_sends(&old), &old, Error::TimeExceeded, rig.net.vip(), 0);
            assert_eq!(text, quoted(rig, &old.bytes()), "{length}");
        }
    });
}

#[test]
fn behind_options_the_answer_is_the_same() {
    for_each(|rig| {
        let old = Packet { ttl: 1, ..rig.request(UDP, 5000, 0) };
        let frame = old.bytes_with(Header { options: 8, ..old.header() });
        let sent = rig.send(rig.client_side, &frame);
        let text = answered(rig, &sent, &old, Error::TimeExceeded, rig.net.vip(), 0);
        assert_eq!(text, quoted(rig, &frame));
    });
}

#[test]
fn only_what_may_be_answered_is() {
    for_each(|rig| {
        // A later fragment.
        let question = rig.request(UDP, 5000, 0);
        let header = Header { ttl: 1, ..question.header() };
        let first = question.bytes_with(Header { fragment: 0x2000, ttl: 64, ..header });
        assert_eq!(rig.send(rig.client_side, &first).action, Action::Redirect);
        let later = ip(question.to, question.from, Header { fragment: 2, ..header }, b"the rest");
        let sent = rig.send(rig.client_side, &later);
        sent.dropped(Reason::TtlExceeded);
        assert_eq!(sent.count(Reason::SentTimeExceeded), 0);
        // From no host, with which no flow begins, or from a reserved address.
        let (nobody, reason) = match rig.net {
            Family::V4 => ("240.0.0.1", Reason::TtlExceeded),
            Family::V6 => ("::", Reason::SourceStaysOnLink),
        };
        let odd = Packet { source: (nobody.parse().unwrap(), 7), ttl: 1, ..question };
        let sent = rig.client_sends(&odd);
        sent.dropped(reason);
        assert_eq!(sent.count(Reason::SentTimeExceeded), 0);
    });
}

#[test]
fn answers_are_limited_in_rate() {
    for_each(|rig| {
        let old = Packet { ttl: 1, ..rig.request(UDP, 5000, 0) };
        rig.client_sends(&old);
        // The next answer is due far ahead.
        rig.table::<u32, u64>("COMPLAINTS").put(&0, &(now_ns() + 10_000_000_000));
        let sent = rig.client_sends(&old);
        assert_eq!(sent.action, Action::Drop);
        assert_eq!((sent.count(Reason::TtlExceeded), sent.count(Reason::IcmpLimited)), (1, 1));
        rig.table::<u32, u64>("COMPLAINTS").put(&0, &(now_ns() - 1));
        answered(rig, &rig.client_sends(&old), &old, Error::TimeExceeded, rig.net.vip(), 0);
    });
}

/// A frame as one that a device is to complete: the checksum is the sum of the pseudo header.
fn to_be_completed(rig: &Rig, packet: &Packet) -> Vec<u8> {
    let mut frame = packet.bytes();
    let field = rig.net.transport() + if packet.protocol == TCP { 16 } else { 6 };
    let length = frame.len() - rig.net.transport();
    // A segment of zeros adds nothing to its pseudo header.
    let zeros = vec![0; length];
    let sum = !l4_sum(packet.source.0, packet.destination.0, packet.protocol, &zeros);
    frame[field..field + 2].copy_from_slice(&sum.to_be_bytes());
    frame
}

#[test]
fn an_answer_is_right_whether_or_not_a_device_completes_what_it_quotes() {
    for_each(|rig| {
        rig.connect(40000);
        rig.client_sends(&rig.request(UDP, 5000, 0)).forwarded(Reason::ForwardedSlow);
        for (protocol, port) in [(TCP, 40000), (UDP, 5000)] {
            for length in [1501, 1502, 1555] {
                let large = of_length(rig, rig.request(protocol, port, ACK), length);
                let frame = to_be_completed(rig, &large);
                let sent = rig.send(rig.client_side, &frame);
                let text = answered(rig, &sent, &large, Error::TooBig, rig.net.vip(), MTU);
                // Where the kernel keeps that the checksum is to be made, and where.
                let start = rig.net.transport() - 14;
                let field = start + if protocol == TCP { 16 } else { 6 };
                let mut expected = quoted(rig, &frame);
                assert_ne!(text, expected);
                expected[field..field + 2].copy_from_slice(&text[field..field + 2]);
                assert_eq!(text, expected, "nothing else changes");
                let completed = fold(ones(&text[start..]));
                let there = u16::from_be_bytes([text[field], text[field + 1]]);
                assert_eq!(completed % 0xffff, there % 0xffff, "what a device would write stands there");
            }
        }
    });
}

/// The RST that answers a packet, with any window.
fn reset(about: &Packet, flags: u8, sequence: u32, acknowledgement: u32, out: &Datagram) -> Datagram {
    let mut segment = [about.destination.1.to_be_bytes(), about.source.1.to_be_bytes()].concat();
    segment.extend(sequence.to_be_bytes());
    segment.extend(acknowledgement.to_be_bytes());
    segment.extend([5 << 4, flags]);
    segment.extend(&out.body[14..18]);
    segment.extend([0, 0]);
    Datagram {
        to: about.from,
        from: about.to,
        source: about.destination.0,
        destination: about.source.0,
        protocol: TCP,
        ttl: 64,
        body: segment,
    }
}

#[test]
fn a_connection_that_nobody_knows_is_reset_where_that_is_wanted() {
    for_each(|rig| {
        rig.publish(&Service::over(&[1]).with(|version| version.on_miss = MISS_RESET));
        // The frame's numbers: sequence 1, acknowledgement 2.
        for (flags, expected) in [
            (ACK, (RST, 2, 0)),
            (ACK | FIN, (RST, 2, 0)),
            (ACK | SYN, (RST, 2, 0)),
            (0, (RST | ACK, 0, 1 + 8)),
            (FIN, (RST | ACK, 0, 1 + 8 + 1)),
        ] {
            let lost = rig.tcp(40000, flags);
            let sent = rig.client_sends(&lost);
            assert_eq!((sent.action, sent.count(Reason::MissReset)), (Action::Redirect, 1), "{sent:?}");
            let out = Datagram::read(&sent.frame).verified();
            assert_eq!(out, reset(&lost, expected.0, expected.1, expected.2, &out), "{flags}");
            // A device that is to complete the checksum finds what it wants, and makes what is there.
            let there = u16::from_be_bytes([out.body[16], out.body[17]]);
            assert_eq!(fold(ones(&out.body)) % 0xffff, there % 0xffff);
        }
        let rst = rig.client_sends(&rig.tcp(40000, RST));
        rst.dropped(Reason::Miss);
        assert_eq!(rig.flow_entries(), 0);
    });
}

#[test]
fn resets_are_limited_and_not_sent_after_a_takeover() {
    for_each(|rig| {
        rig.publish(&Service::over(&[1]).with(|version| version.on_miss = MISS_RESET));
        let lost = rig.tcp(40000, ACK);
        rig.table::<u32, u64>("COMPLAINTS").put(&0, &(now_ns() + 10_000_000_000));
        let sent = rig.client_sends(&lost);
        sent.dropped(Reason::Miss);
        assert_eq!((sent.count(Reason::IcmpLimited), sent.count(Reason::MissReset)), (1, 0));
        rig.table::<u32, u64>("COMPLAINTS").put(&0, &0);
        rig.change_lease(|lease| lease.since_ns = now_ns());
        rig.client_sends(&lost).dropped(Reason::Miss);
        rig.drop_lease();
        rig.client_sends(&lost).dropped(Reason::NoLease);
    });
}
