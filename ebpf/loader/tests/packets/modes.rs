//! What a service translates: the destination, the source too, or nothing but the MAC.

use lockstep_abi::flow::{FORWARD_DSR_L2, FORWARDING};
use lockstep_abi::reason::Reason;
use lockstep_abi::service::{DSR_L2, FULLNAT};
use lockstep_abi::state::{self, CLOSED, CLOSING, ESTABLISHED, NEW};

use crate::case::{Side, endpoint_mac};
use crate::frame::{ACK, FIN, Packet, RST, SYN, TCP, UDP};
use crate::rig::*;

/// The address beside the clients that connections are translated to.
const OUTSIDE_INDEX: u32 = 13;

fn is_of_block(port: u16) -> bool {
    u32::from(port) / 1024 == BLOCK
}

fn fullnat(endpoints: &[u8]) -> Service {
    Service::over(endpoints).with(|version| version.mode = FULLNAT)
}

#[test]
fn fullnat_translates_both_ends_both_ways() {
    for_each(|rig| {
        rig.publish(&fullnat(&[1]));
        for protocol in [TCP, UDP] {
            let syn = rig.request(protocol, 40000, SYN);
            let out = rig.client_sends(&syn).forwarded(Reason::ForwardedSlow);
            assert!(is_of_block(out.source.1), "{out:?}");
            let expected = Packet {
                to: endpoint_mac(1),
                from: Side::Endpoints.own_mac(),
                source: (rig.net.floating(), out.source.1),
                destination: rig.net.endpoint(1),
                ttl: 63,
                ..syn.clone()
            };
            assert_eq!(out, expected);
            let answer = out.answer(SYN | ACK);
            let back = rig.endpoint_sends(&answer).forwarded(Reason::ForwardedSlow);
            let expected = Packet {
                to: Side::Clients.mac(50),
                from: Side::Clients.own_mac(),
                source: (rig.net.vip(), 80),
                destination: syn.source,
                ttl: 63,
                ..answer
            };
            assert_eq!(back, expected);
            rig.client_sends(&rig.request(protocol, 40000, ACK));
            let again = rig.client_sends(&rig.request(protocol, 40000, ACK));
            let again = again.forwarded(Reason::ForwardedFast);
            assert_eq!((again.source, again.destination), (out.source, out.destination));
            let back = rig.endpoint_sends(&out.answer(ACK)).forwarded(Reason::ForwardedFast);
            assert_eq!((back.source, back.destination), (syn.destination, syn.source));
        }
        let told = rig.events()[0];
        assert_eq!(told.reply_key.destination_be, crate::case::wide(rig.net.floating()));
    });
}

#[test]
fn a_fullnat_connection_that_is_over_is_followed_by_another() {
    for_each(|rig| {
        rig.publish(&fullnat(&[1]));
        let first = rig.client_sends(&rig.tcp(40000, SYN)).forwarded(Reason::ForwardedSlow);
        rig.client_sends(&rig.tcp(40000, RST)).forwarded(Reason::ForwardedSlow);
        let second = rig.client_sends(&rig.tcp(40000, SYN)).forwarded(Reason::ForwardedSlow);
        assert!(is_of_block(second.source.1) && second.source.1 != first.source.1, "{second:?}");
        rig.endpoint_sends(&first.answer(ACK)).dropped(Reason::FlowDead);
        let back = rig.endpoint_sends(&second.answer(SYN | ACK)).forwarded(Reason::ForwardedSlow);
        assert_eq!(back.destination, (rig.net.client(), 40000));
    });
}

#[test]
fn one_arm_sends_back_where_it_came_from() {
    for_each(|rig| {
        rig.address(OUTSIDE_INDEX, rig.net.outside(), 0, 1 << BLOCK);
        rig.publish(&fullnat(&[21]).with(|version| version.snat = [OUTSIDE_INDEX, 0, 0, 0]));
        let syn = rig.tcp(40000, SYN);
        let out = rig.client_sends(&syn).forwarded(Reason::ForwardedSlow);
        assert_eq!((out.to, out.from), (endpoint_mac(21), Side::Clients.own_mac()));
        assert_eq!((out.source.0, out.destination), (rig.net.outside(), rig.net.endpoint(21)));
        assert!(is_of_block(out.source.1));
        let back = rig.client_sends(&out.answer(SYN | ACK)).forwarded(Reason::ForwardedSlow);
        assert_eq!((back.source, back.destination), (syn.destination, syn.source));
        assert_eq!((back.to, back.from), (Side::Clients.mac(50), Side::Clients.own_mac()));
        rig.client_sends(&rig.tcp(40000, ACK)).forwarded(Reason::ForwardedSlow);
        rig.client_sends(&rig.tcp(40000, ACK)).forwarded(Reason::ForwardedFast);
        rig.client_sends(&out.answer(ACK)).forwarded(Reason::ForwardedFast);
    });
}

#[test]
fn a_client_among_the_endpoints_is_translated_so_that_the_answer_comes_back() {
    for_each(|rig| {
        rig.publish(&Service::over(&[1]));
        let syn = Packet {
            to: Side::Endpoints.own_mac(),
            from: Side::Endpoints.mac(60),
            source: (rig.net.insider(), 40000),
            ..rig.tcp(40000, SYN)
        };
        let out = rig.endpoint_sends(&syn).forwarded(Reason::ForwardedSlow);
        assert_eq!((out.source.0, out.destination), (rig.net.floating(), rig.net.endpoint(1)));
        assert!(is_of_block(out.source.1));
        let back = rig.endpoint_sends(&out.answer(SYN | ACK)).forwarded(Reason::ForwardedSlow);
        assert_eq!((back.source, back.destination), (syn.destination, syn.source));
        assert_eq!(back.to, syn.from);
        // An endpoint may be its own client.
        let (to, from) = (Side::Endpoints.own_mac(), endpoint_mac(1));
        let own = Packet { to, from, source: (rig.net.endpoint(1).0, 40000), ..rig.tcp(40000, SYN) };
        let out = rig.endpoint_sends(&own).forwarded(Reason::ForwardedSlow);
        assert_eq!((out.source.0, out.destination), (rig.net.floating(), rig.net.endpoint(1)));
        let back = rig.endpoint_sends(&out.answer(SYN | ACK)).forwarded(Reason::ForwardedSlow);
        assert_eq!((back.source, back.destination), (own.destination, own.source));
        // A client elsewhere keeps its address.
        let out = rig.client_sends(&rig.tcp(40000, SYN)).forwarded(Reason::ForwardedSlow);
        assert_eq!(out.source, (rig.net.client(), 40000));
    });
}

#[test]
fn direct_return_changes_nothing_but_the_mac() {
    for_each(|rig| {
        rig.publish(&Service::over(&[1, 2]).with(|version| version.mode = DSR_L2));
        let syn = rig.tcp(40000, SYN);
        let out = rig.client_sends(&syn).forwarded(Reason::ForwardedSlow);
        assert_eq!(out, Packet { to: endpoint_mac(1), from: Side::Endpoints.own_mac(), ..syn.clone() });
        let flow = rig.flow(&syn).unwrap();
        assert_eq!((rig.flow_entries(), flow.flags & FORWARDING), (1, FORWARD_DSR_L2));
        for _ in 0..2 {
            let again = rig.client_sends(&rig.tcp(40000, ACK)).forwarded(Reason::ForwardedSlow);
            let expected = Packet { to: out.to, from: out.from, ..rig.tcp(40000, ACK) };
            assert_eq!(again, expected, "the same endpoint");
        }
        rig.client_sends(&Packet { ttl: 1, ..rig.tcp(40000, ACK) })
            .answered(Reason::TtlExceeded, Reason::SentTimeExceeded);
        rig.drop_lease();
        rig.client_sends(&rig.tcp(40000, ACK)).dropped(Reason::NoLease);
    });
}

#[test]
fn with_direct_return_the_client_alone_makes_the_state() {
    for_each(|rig| {
        rig.publish(&Service::over(&[1]).with(|version| version.mode = DSR_L2));
        let phase = |rig: &Rig| state::phase(state::bits(rig.flow(&rig.tcp(40000, 0)).unwrap().state));
        rig.client_sends(&rig.tcp(40000, SYN)).forwarded(Reason::ForwardedSlow);
        rig.client_sends(&rig.tcp(40000, SYN)).forwarded(Reason::ForwardedSlow);
        assert_eq!(phase(rig), NEW);
        rig.client_sends(&rig.tcp(40000, ACK)).forwarded(Reason::ForwardedSlow);
        assert_eq!(phase(rig), ESTABLISHED);
        rig.client_sends(&rig.tcp(40000, FIN | ACK)).forwarded(Reason::ForwardedSlow);
        assert!([CLOSING, CLOSED].contains(&phase(rig)));
        let before = rig.flow(&rig.tcp(40000, 0)).unwrap().birth_ns;
        rig.client_sends(&rig.tcp(40000, SYN)).forwarded(Reason::ForwardedSlow);
        assert_eq!(phase(rig), NEW);
        assert!(rig.flow(&rig.tcp(40000, 0)).unwrap().birth_ns > before, "another connection");
        assert_eq!(rig.flow_entries(), 1);
    });
}

#[test]
fn with_direct_return_an_endpoint_that_is_gone_is_not_sent_to() {
    use lockstep_abi::map;
    use lockstep_abi::service::TargetValue;
    for_each(|rig| {
        rig.publish(&Service::over(&[1]).with(|version| version.mode = DSR_L2));
        rig.client_sends(&rig.tcp(40000, SYN)).forwarded(Reason::ForwardedSlow);
        let targets = rig.table::<u32, TargetValue>(map::TARGETS);
        targets.change(&target(1), |target| target.endpoint += 1);
        rig.client_sends(&rig.tcp(40000, ACK)).dropped(Reason::TargetGone);
    });
}
