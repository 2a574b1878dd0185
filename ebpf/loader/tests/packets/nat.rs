//! Translation in both directions, on both paths.

use lockstep_abi::reason::Reason;

use crate::frame::{ACK, Packet, SYN, fold, ones};
use crate::rig::*;

#[test]
fn a_syn_makes_a_flow_and_goes_to_an_endpoint() {
    with_rig(|rig| {
        let syn = tcp(40000, SYN);
        let sent = rig.client_sends(&syn);
        let out = sent.forwarded(Reason::ForwardedSlow);
        assert_eq!(sent.reasons.get("flow_created"), Some(&1));
        assert_eq!(
            out,
            Packet {
                to: endpoint_mac(1),
                from: ENDPOINT_SIDE_MAC,
                destination: endpoint(1),
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
    with_rig(|rig| {
        rig.client_sends(&tcp(40000, SYN));
        let answer = reply(6, 1, 40000, SYN | ACK);
        let out = rig.endpoint_sends(&answer).forwarded(Reason::ForwardedSlow);
        assert_eq!(
            out,
            Packet { to: CLIENT_MAC, from: CLIENT_SIDE_MAC, source: (VIP, 80), ttl: 63, ..answer.clone() }
        );
    });
}

#[test]
fn an_established_flow_takes_the_fast_path_both_ways() {
    with_rig(|rig| {
        let n = rig.connect(40000);
        for _ in 0..3 {
            let sent = rig.client_sends(&tcp(40000, ACK));
            assert_eq!(sent.forwarded(Reason::ForwardedFast).destination, endpoint(n));
            assert_eq!(sent.reasons.len(), 1, "{sent:?}");
            let sent = rig.endpoint_sends(&reply(6, n, 40000, ACK));
            assert_eq!(sent.forwarded(Reason::ForwardedFast).source, (VIP, 80));
            assert_eq!(sent.reasons.len(), 1, "{sent:?}");
        }
    });
}

#[test]
fn udp_is_translated_both_ways() {
    with_rig(|rig| {
        let question = request(17, 5000, 0);
        let out = rig.client_sends(&question).forwarded(Reason::ForwardedSlow);
        assert_eq!(
            out,
            Packet {
                to: endpoint_mac(1),
                from: ENDPOINT_SIDE_MAC,
                destination: endpoint(1),
                ttl: 63,
                ..question.clone()
            }
        );
        let out = rig.endpoint_sends(&reply(17, 1, 5000, 0)).forwarded(Reason::ForwardedSlow);
        assert_eq!((out.source, out.destination), ((VIP, 80), (CLIENT, 5000)));
        rig.client_sends(&question).forwarded(Reason::ForwardedFast);
        rig.endpoint_sends(&reply(17, 1, 5000, 0)).forwarded(Reason::ForwardedFast);
    });
}

#[test]
fn a_udp_checksum_of_zero_stays_zero() {
    with_rig(|rig| {
        let mut frame = request(17, 5000, 0).bytes();
        frame[40..42].fill(0);
        let sent = rig.send(rig.client_side, &frame);
        assert_eq!(sent.action, REDIRECT);
        let out = Packet::parse_unverified(&sent.frame);
        assert_eq!(out.destination, endpoint(1));
        assert_eq!(sent.frame[40..42], [0, 0], "no checksum was sent, so none may appear");
        assert_eq!(fold(ones(&sent.frame[14..34])), 0);
    });
}

#[test]
fn a_computed_udp_checksum_of_zero_becomes_all_ones() {
    with_rig(|rig| {
        // The payload's last word decides the checksum of what leaves; try until it is the number that is 0.
        let mut question = request(17, 5000, 0);
        let mut translated = question.clone();
        translated.destination = endpoint(1);
        translated.payload = vec![0, 0];
        let segment = translated.segment();
        let field = u16::from_be_bytes([segment[6], segment[7]]);
        question.payload = field.to_be_bytes().to_vec();
        translated.payload = question.payload.clone();
        assert_eq!(translated.segment()[6..8], [0xff, 0xff], "the case is constructed right");
        let sent = rig.client_sends(&question);
        sent.forwarded(Reason::ForwardedSlow);
        assert_eq!(sent.frame[40..42], [0xff, 0xff]);
    });
}

#[test]
fn a_packet_with_an_odd_and_large_payload_keeps_its_checksum() {
    with_rig(|rig| {
        let n = rig.connect(40000);
        for length in [0, 1, 2, 1399, 1460] {
            let mut packet = tcp(40000, ACK);
            packet.payload = (0..length).map(|i| (i * 7) as u8).collect();
            let out = rig.client_sends(&packet).forwarded(Reason::ForwardedFast);
            assert_eq!((out.destination, out.payload), (endpoint(n), packet.payload));
        }
    });
}

#[test]
fn a_packet_at_the_end_of_its_life_is_dropped() {
    with_rig(|rig| {
        rig.connect(40000);
        for ttl in [0, 1] {
            rig.client_sends(&Packet { ttl, ..tcp(40000, ACK) }).dropped(Reason::TtlExceeded);
        }
        let out = rig.client_sends(&Packet { ttl: 2, ..tcp(40000, ACK) }).forwarded(Reason::ForwardedFast);
        assert_eq!(out.ttl, 1);
    });
}

#[test]
fn a_next_hop_without_a_neighbour_is_left_to_the_kernel() {
    with_rig(|rig| {
        let stranger = Packet { source: ("192.0.2.99".parse().unwrap(), 40000), ..tcp(40000, SYN) };
        rig.client_sends(&stranger).forwarded(Reason::ForwardedSlow);
        let answer = Packet { destination: stranger.source, ..reply(6, 1, 40000, SYN | ACK) };
        let sent = rig.endpoint_sends(&answer);
        sent.forwarded(Reason::ForwardedSlow);
        assert_eq!(sent.reasons.get("forwarded_unresolved"), Some(&1));
    });
}

#[test]
fn without_a_route_or_forwarding_a_packet_is_dropped() {
    with_rig(|rig| {
        rig.client_sends(&tcp(40000, SYN)).forwarded(Reason::ForwardedSlow);
        let far = Packet { source: ("203.0.113.1".parse().unwrap(), 40000), ..tcp(40000, SYN) };
        rig.client_sends(&far).forwarded(Reason::ForwardedSlow);
        let answer = Packet { destination: far.source, ..reply(6, 2, 40000, SYN | ACK) };
        rig.endpoint_sends(&answer).dropped(Reason::NoRoute);
        std::fs::write("/proc/sys/net/ipv4/conf/client0/forwarding", "0").unwrap();
        rig.client_sends(&tcp(40000, SYN)).dropped(Reason::ForwardingOff);
    });
}

#[test]
fn frames_to_other_stations_and_protocols_are_left_alone() {
    with_rig(|rig| {
        let other = Packet { to: [2, 9, 9, 9, 9, 9], ..tcp(40000, SYN) };
        rig.client_sends(&other).passed(Reason::PassNotOurs);
        let mut ipv6 = tcp(40000, SYN).bytes();
        ipv6[12..14].copy_from_slice(&[0x86, 0xdd]);
        rig.send(rig.client_side, &ipv6).passed(Reason::PassNotIpv4);
        let local = Packet { destination: (NODE, 22), ..tcp(40000, SYN) };
        rig.client_sends(&local).passed(Reason::PassLocal);
        assert_eq!(rig.flow_entries(), 0);
    });
}
