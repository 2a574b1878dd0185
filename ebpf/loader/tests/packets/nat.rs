//! Translation in both directions, on both paths.

use lockstep_abi::reason::Reason;

use crate::case::{Hook, Side, endpoint_mac};
use crate::frame::{ACK, Packet, SYN, TCP, UDP, fold, ones};
use crate::rig::*;

#[test]
fn a_syn_makes_a_flow_and_goes_to_an_endpoint() {
    for_each(|rig| {
        let syn = rig.tcp(40000, SYN);
        let sent = rig.client_sends(&syn);
        let out = sent.forwarded(Reason::ForwardedSlow);
        assert_eq!(sent.by_xdp, rig.case.hook == Hook::Xdp);
        assert_eq!(sent.count(Reason::FlowCreated), 1);
        assert_eq!(
            out,
            Packet {
                to: endpoint_mac(1),
                from: Side::Endpoints.own_mac(),
                destination: rig.net.endpoint(1),
                ttl: 63,
                ..syn.clone()
            },
            "only MACs, destination and time to live change"
        );
        assert_eq!(rig.flow_entries(), 2);
        let flow = rig.flow(&syn).unwrap();
        assert_eq!((flow.service, flow.endpoint, flow.epoch), (SERVICE, 101, EPOCH));
    });
}

#[test]
fn a_reply_comes_from_the_vip() {
    for_each(|rig| {
        rig.client_sends(&rig.tcp(40000, SYN));
        let answer = rig.reply(TCP, 1, 40000, SYN | ACK);
        let out = rig.endpoint_sends(&answer).forwarded(Reason::ForwardedSlow);
        assert_eq!(
            out,
            Packet {
                to: Side::Clients.mac(50),
                from: Side::Clients.own_mac(),
                source: (rig.net.vip(), 80),
                ttl: 63,
                ..answer.clone()
            }
        );
    });
}

#[test]
fn an_established_flow_takes_the_fast_path_both_ways() {
    for_each(|rig| {
        let n = rig.connect(40000);
        for _ in 0..3 {
            let sent = rig.client_sends(&rig.tcp(40000, ACK));
            assert_eq!(sent.forwarded(Reason::ForwardedFast).destination, rig.net.endpoint(n));
            assert_eq!((sent.reasons.len(), sent.by_xdp), (1, rig.case.hook == Hook::Xdp), "{sent:?}");
            let sent = rig.endpoint_sends(&rig.reply(TCP, n, 40000, ACK));
            assert_eq!(sent.forwarded(Reason::ForwardedFast).source, (rig.net.vip(), 80));
            assert_eq!((sent.reasons.len(), sent.by_xdp), (1, rig.case.hook == Hook::Xdp), "{sent:?}");
        }
    });
}

#[test]
fn udp_is_translated_both_ways() {
    for_each(|rig| {
        let question = rig.request(UDP, 5000, 0);
        let out = rig.client_sends(&question).forwarded(Reason::ForwardedSlow);
        assert_eq!(
            out,
            Packet {
                to: endpoint_mac(1),
                from: Side::Endpoints.own_mac(),
                destination: rig.net.endpoint(1),
                ttl: 63,
                ..question.clone()
            }
        );
        let answer = rig.reply(UDP, 1, 5000, 0);
        let out = rig.endpoint_sends(&answer).forwarded(Reason::ForwardedSlow);
        assert_eq!((out.source, out.destination), ((rig.net.vip(), 80), (rig.net.client(), 5000)));
        rig.client_sends(&question).forwarded(Reason::ForwardedFast);
        rig.endpoint_sends(&answer).forwarded(Reason::ForwardedFast);
    });
}

#[test]
fn a_udp_checksum_of_zero_stays_zero() {
    for_each(|rig| {
        let mut frame = rig.request(UDP, 5000, 0).bytes();
        let field = rig.net.transport() + 6..rig.net.transport() + 8;
        frame[field.clone()].fill(0);
        let sent = rig.send(rig.client_side, &frame);
        assert_eq!(sent.action, Action::Redirect);
        let out = Packet::parse_unverified(&sent.frame);
        assert_eq!(out.destination, rig.net.endpoint(1));
        assert_eq!(sent.frame[field], [0, 0], "no checksum was sent, so none may appear");
        if rig.net == crate::case::Family::V4 {
            assert_eq!(fold(ones(&sent.frame[14..34])), 0);
        }
    });
}

#[test]
fn a_computed_udp_checksum_of_zero_becomes_all_ones() {
    for_each(|rig| {
        // The payload's last word decides the checksum of what leaves; try until it is the number that is 0.
        let mut question = rig.request(UDP, 5000, 0);
        let mut translated = question.clone();
        translated.destination = rig.net.endpoint(1);
        translated.payload = vec![0, 0];
        let segment = translated.segment();
        let field = u16::from_be_bytes([segment[6], segment[7]]);
        question.payload = field.to_be_bytes().to_vec();
        translated.payload = question.payload.clone();
        assert_eq!(translated.segment()[6..8], [0xff, 0xff], "the case is constructed right");
        let sent = rig.client_sends(&question);
        sent.forwarded(Reason::ForwardedSlow);
        let at = rig.net.transport() + 6;
        assert_eq!(sent.frame[at..at + 2], [0xff, 0xff]);
    });
}

#[test]
fn a_packet_with_an_odd_and_large_payload_keeps_its_checksum() {
    for_each(|rig| {
        let n = rig.connect(40000);
        for length in [0, 1, 2, 1399, 1440] {
            let mut packet = rig.tcp(40000, ACK);
            packet.payload = (0..length).map(|i| (i * 7) as u8).collect();
            let out = rig.client_sends(&packet).forwarded(Reason::ForwardedFast);
            assert_eq!((out.destination, out.payload), (rig.net.endpoint(n), packet.payload));
        }
    });
}

#[test]
fn any_port_and_any_payload_keep_their_checksums() {
    for_each(|rig| {
        // A small generator: the same packets in each run.
        let mut random = 1u64;
        let mut draw = || {
            random = random.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (random >> 33) as usize
        };
        for protocol in [TCP, UDP] {
            for _ in 0..50 {
                let mut packet = rig.request(protocol, draw() as u16, SYN);
                packet.payload = (0..draw() % 40).map(|_| draw() as u8).collect();
                let sent = rig.client_sends(&packet);
                let out = sent.forwarded(Reason::ForwardedSlow);
                assert_eq!(out.payload, packet.payload);
                let answer = Packet { payload: packet.payload.clone(), ..out.answer(SYN | ACK) };
                let back = rig.send_packet(&answer).forwarded(Reason::ForwardedSlow);
                assert_eq!((back.source, back.destination), (packet.destination, packet.source));
            }
        }
    });
}

#[test]
fn a_packet_at_the_end_of_its_life_is_dropped() {
    for_each(|rig| {
        rig.connect(40000);
        let ack = rig.tcp(40000, ACK);
        for ttl in [0, 1] {
            rig.client_sends(&Packet { ttl, ..ack.clone() }).dropped(Reason::TtlExceeded);
        }
        let out = rig.client_sends(&Packet { ttl: 2, ..ack }).forwarded(Reason::ForwardedFast);
        assert_eq!(out.ttl, 1);
    });
}

#[test]
fn a_next_hop_without_a_neighbour_is_left_to_the_kernel() {
    for_each(|rig| {
        let stranger = Packet { source: (rig.net.host(Side::Clients, 99), 40000), ..rig.tcp(40000, SYN) };
        rig.client_sends(&stranger).forwarded(Reason::ForwardedSlow);
        let answer = Packet { destination: stranger.source, ..rig.reply(TCP, 1, 40000, SYN | ACK) };
        let sent = rig.endpoint_sends(&answer);
        sent.forwarded(Reason::ForwardedSlow);
        assert_eq!(sent.count(Reason::ForwardedUnresolved), 1);
    });
}

#[test]
fn without_a_route_or_forwarding_a_packet_is_dropped() {
    for_each(|rig| {
        let syn = rig.tcp(40000, SYN);
        rig.client_sends(&syn).forwarded(Reason::ForwardedSlow);
        let far = Packet { source: (rig.net.unreachable(), 40000), ..syn.clone() };
        rig.client_sends(&far).forwarded(Reason::ForwardedSlow);
        let answer = Packet { destination: far.source, ..rig.reply(TCP, 2, 40000, SYN | ACK) };
        rig.endpoint_sends(&answer).dropped(Reason::NoRoute);
        forward(rig.net, Side::Clients, false);
        // A flow whose way is known goes on; one whose way is not asks, and hears it.
        rig.client_sends(&syn).forwarded(Reason::ForwardedSlow);
        rig.client_sends(&rig.tcp(40001, SYN)).dropped(Reason::ForwardingOff);
    });
}

#[test]
fn frames_to_other_stations_and_protocols_are_left_alone() {
    for_each(|rig| {
        let syn = rig.tcp(40000, SYN);
        let other = Packet { to: [2, 9, 9, 9, 9, 9], ..syn.clone() };
        rig.client_sends(&other).passed(Reason::PassNotOurs);
        let mut foreign = syn.bytes();
        foreign[12..14].copy_from_slice(&[0x88, 0xcc]);
        rig.send(rig.client_side, &foreign).passed(Reason::PassNotIp);
        let local = Packet { destination: (rig.net.node(Side::Clients), 22), ..syn };
        rig.client_sends(&local).passed(Reason::PassLocal);
        assert_eq!(rig.flow_entries(), 0);
    });
}
