//! Connections that begin behind the balancer: translated, exempt, or as they are.

use std::net::IpAddr;

use lockstep_abi::address::STATIC as STANDS_FOR_A_HOST;
use lockstep_abi::age::FORCE;
use lockstep_abi::map;
use lockstep_abi::reason::Reason;
use lockstep_abi::snat::{EXEMPT, SET_RULES, SNAT, STATIC, SnatRule, SnatSet};

use crate::case::{Side, endpoint_mac, wide};
use crate::frame::{ACK, FIN, Packet, RST, SYN, TCP, UDP};
use crate::rig::*;

pub(crate) const OUTSIDE_INDEX: u32 = 13;
const STATIC_INDEX: u32 = 14;
const RULE: u64 = 4000;

/// From the host behind the balancer to port 443 of the client's.
fn outward(rig: &Rig, protocol: u8, port: u16, flags: u8) -> Packet {
    Packet {
        to: Side::Endpoints.own_mac(),
        from: Side::Endpoints.mac(60),
        source: (rig.net.insider(), port),
        destination: (rig.net.client(), 443),
        ..rig.request(protocol, port, flags)
    }
}

pub(crate) fn any(action: u32, to: &[u32]) -> SnatRule {
    let mut rule = SnatRule { id: RULE, last_port: u16::MAX, action, ..SnatRule::default() };
    rule.to_count = to.len() as u32;
    rule.to[..to.len()].copy_from_slice(to);
    rule
}

/// A rule for one destination only.
fn to(rig: &Rig, destination: IpAddr, rule: SnatRule) -> SnatRule {
    let mut mask = [0; 4];
    mask[..rig.net.bits() as usize / 32].fill(u32::MAX);
    SnatRule { destination: wide(destination), destination_mask: mask, ..rule }
}

/// Rules for the endpoints' network.
pub(crate) fn rules(rig: &Rig, rules: &[SnatRule]) {
    let mut set = SnatSet { count: rules.len() as u32, pad: 0, rules: [SnatRule::default(); SET_RULES] };
    set.rules[..rules.len()].copy_from_slice(rules);
    rig.table(map::SNAT_SETS).put(&3u32, &set);
    let network = rig.net.host(Side::Endpoints, 0);
    rig.put_prefix(map::SNAT_SOURCES4, map::SNAT_SOURCES6, network, rig.net.network_bits(), &3u32);
}

pub(crate) fn outside(rig: &Rig) -> IpAddr {
    rig.address(OUTSIDE_INDEX, rig.net.outside(), 0, 1 << BLOCK);
    rig.net.outside()
}

#[test]
fn a_rule_translates_the_source_and_back() {
    for_each(|rig| {
        let outside = outside(rig);
        rules(rig, &[any(SNAT, &[OUTSIDE_INDEX])]);
        for protocol in [TCP, UDP] {
            let syn = outward(rig, protocol, 33000, SYN);
            let out = rig.endpoint_sends(&syn).forwarded(Reason::ForwardedSlow);
            assert_eq!((out.source.0, u32::from(out.source.1) / 1024), (outside, BLOCK));
            let expected = Packet {
                to: Side::Clients.mac(50),
                from: Side::Clients.own_mac(),
                source: out.source,
                ttl: 63,
                ..syn.clone()
            };
            assert_eq!(out, expected);
            let back = rig.client_sends(&out.answer(SYN | ACK)).forwarded(Reason::ForwardedSlow);
            assert_eq!((back.source, back.destination), (syn.destination, syn.source));
            rig.endpoint_sends(&outward(rig, protocol, 33000, ACK));
            rig.endpoint_sends(&outward(rig, protocol, 33000, ACK)).forwarded(Reason::ForwardedFast);
            rig.client_sends(&out.answer(ACK)).forwarded(Reason::ForwardedFast);
        }
        let flow = rig.flow(&outward(rig, TCP, 33000, 0)).unwrap();
        assert_eq!((flow.service, flow.endpoint, flow.address_index), (RULE, 0, OUTSIDE_INDEX as u16));
        let told = rig.events()[0];
        assert_eq!((told.service, told.group, told.epoch), (RULE, GROUP, EPOCH));
    });
}

#[test]
fn a_port_behind_a_rule_is_used_again_after_its_connection() {
    for_each(|rig| {
        outside(rig);
        rules(rig, &[any(SNAT, &[OUTSIDE_INDEX])]);
        let first = rig.endpoint_sends(&outward(rig, TCP, 33000, SYN)).forwarded(Reason::ForwardedSlow);
        rig.client_sends(&first.answer(SYN | ACK));
        rig.endpoint_sends(&outward(rig, TCP, 33000, FIN | ACK));
        rig.client_sends(&first.answer(FIN | ACK));
        let second = rig.endpoint_sends(&outward(rig, TCP, 33000, SYN)).forwarded(Reason::ForwardedSlow);
        rig.client_sends(&second.answer(SYN | ACK)).forwarded(Reason::ForwardedSlow);
        rig.endpoint_sends(&outward(rig, TCP, 33000, ACK));
        rig.endpoint_sends(&outward(rig, TCP, 33000, ACK)).forwarded(Reason::ForwardedFast);
        // Ended by the sweeper, and not freed yet.
        rig.age(&[key(&outward(rig, TCP, 33000, 0))], FORCE);
        let third = rig.endpoint_sends(&outward(rig, TCP, 33000, SYN)).forwarded(Reason::ForwardedSlow);
        rig.client_sends(&third.answer(SYN | ACK)).forwarded(Reason::ForwardedSlow);
    });
}

#[test]
fn a_static_rule_keeps_the_port_and_lets_others_in() {
    for_each(|rig| {
        let public = rig.net.host(Side::Clients, 30);
        rig.address(STATIC_INDEX, public, STANDS_FOR_A_HOST, 0);
        rig.change_address(STATIC_INDEX, |address| address.static_host = wide(rig.net.insider()));
        rules(rig, &[any(STATIC, &[STATIC_INDEX])]);
        let syn = outward(rig, TCP, 33000, SYN);
        let out = rig.endpoint_sends(&syn).forwarded(Reason::ForwardedSlow);
        assert_eq!((out.source, out.destination), ((public, 33000), syn.destination));
        let back = rig.client_sends(&out.answer(SYN | ACK)).forwarded(Reason::ForwardedSlow);
        assert_eq!((back.source, back.destination), (syn.destination, syn.source));
        // From outside, on any port.
        for protocol in [TCP, UDP] {
            let mut inward = rig.request(protocol, 40000, SYN);
            inward.destination = (public, 22);
            let out = rig.client_sends(&inward).forwarded(Reason::ForwardedSlow);
            assert_eq!((out.source, out.destination), (inward.source, (rig.net.insider(), 22)));
            assert_eq!((out.to, out.from), (Side::Endpoints.mac(60), Side::Endpoints.own_mac()));
            let back = rig.endpoint_sends(&out.answer(SYN | ACK)).forwarded(Reason::ForwardedSlow);
            assert_eq!((back.source, back.destination), (inward.destination, inward.source));
        }
        let mut middle = rig.tcp(40001, ACK);
        middle.destination = (public, 22);
        rig.client_sends(&middle).dropped(Reason::Miss);
        rig.freeze(true);
        middle.flags = SYN;
        rig.client_sends(&middle).dropped(Reason::IntentStale);
    });
}

#[test]
fn an_exemption_passes_as_it_is_under_a_lease() {
    for_each(|rig| {
        outside(rig);
        let exempt = to(rig, rig.net.client(), any(EXEMPT, &[]));
        rules(rig, &[exempt, any(SNAT, &[OUTSIDE_INDEX])]);
        rig.endpoint_sends(&outward(rig, TCP, 33000, SYN)).passed(Reason::PassExempt);
        rig.endpoint_sends(&outward(rig, TCP, 33000, ACK)).passed(Reason::PassExempt);
        let other = Packet { destination: (rig.net.neighbour(), 443), ..outward(rig, TCP, 33000, SYN) };
        rig.endpoint_sends(&other).forwarded(Reason::ForwardedSlow);
        rig.drop_lease();
        rig.endpoint_sends(&outward(rig, TCP, 33000, SYN)).dropped(Reason::TransitWithoutLease);
    });
}

#[test]
fn i10_no_rule_lets_an_answer_of_an_endpoint_out() {
    for_each(|rig| {
        outside(rig);
        for rule in [any(EXEMPT, &[]), any(SNAT, &[OUTSIDE_INDEX]), any(STATIC, &[OUTSIDE_INDEX])] {
            rules(rig, &[rule]);
            for protocol in [UDP, TCP] {
                let answer = rig.reply(protocol, 1, 40000, SYN | ACK);
                rig.endpoint_sends(&answer).dropped(Reason::ReplyWithoutFlow);
            }
        }
        assert_eq!(rig.flow_entries(), 0);
        // Its tuple is still there for the client that asks.
        rig.publish(&Service::over(&[1]));
        let question = rig.request(UDP, 40000, 0);
        rig.client_sends(&question).forwarded(Reason::ForwardedSlow);
        rig.endpoint_sends(&rig.reply(UDP, 1, 40000, 0)).forwarded(Reason::ForwardedSlow);
    });
}

#[test]
fn what_an_endpoint_begins_is_translated() {
    for_each(|rig| {
        let outside = outside(rig);
        rules(rig, &[any(SNAT, &[OUTSIDE_INDEX])]);
        // From another port than the service's; over TCP, by the SYN that says so.
        let began = |rig: &Rig, protocol, port| {
            let source = (rig.net.endpoint(1).0, port);
            let packet = Packet { source, from: endpoint_mac(1), ..outward(rig, protocol, port, SYN) };
            assert_eq!(rig.endpoint_sends(&packet).forwarded(Reason::ForwardedSlow).source.0, outside);
        };
        began(rig, TCP, rig.net.endpoint(1).1);
        began(rig, UDP, 33000);
        // An endpoint that answers from any port could otherwise ask nobody over UDP.
        rig.guard_at(2, UDP, 0);
        let source = (rig.net.endpoint(2).0, 33001);
        let packet = Packet { source, from: endpoint_mac(2), ..outward(rig, UDP, 33001, 0) };
        assert_eq!(rig.endpoint_sends(&packet).forwarded(Reason::ForwardedSlow).source.0, outside);
    });
}

#[test]
fn the_first_rule_that_applies_counts() {
    for_each(|rig| {
        outside(rig);
        let public = rig.net.host(Side::Clients, 30);
        rig.address(STATIC_INDEX, public, STANDS_FOR_A_HOST, 0);
        let narrow = |rule| to(rig, rig.net.client(), rule);
        let rule = any(STATIC, &[STATIC_INDEX]);
        // None of the first four applies, each for a reason of its own; the fifth does, and the last would.
        rules(
            rig,
            &[
                to(rig, rig.net.neighbour(), rule),
                narrow(SnatRule { protocol: u32::from(UDP), ..rule }),
                narrow(SnatRule { first_port: 444, ..rule }),
                narrow(SnatRule { last_port: 442, ..rule }),
                narrow(SnatRule {
                    id: RULE + 4,
                    protocol: u32::from(TCP),
                    first_port: 443,
                    last_port: 443,
                    ..any(SNAT, &[OUTSIDE_INDEX])
                }),
                rule,
            ],
        );
        let out = rig.endpoint_sends(&outward(rig, TCP, 33000, SYN)).forwarded(Reason::ForwardedSlow);
        assert_eq!(out.source.0, rig.net.outside());
        assert_eq!(rig.flow(&outward(rig, TCP, 33000, 0)).unwrap().service, RULE + 4);
        for packet in [
            outward(rig, UDP, 33001, 0),
            Packet { destination: (rig.net.client(), 442), ..outward(rig, TCP, 33002, SYN) },
            Packet { destination: (rig.net.client(), 444), ..outward(rig, TCP, 33003, SYN) },
            Packet { destination: (rig.net.neighbour(), 443), ..outward(rig, TCP, 33004, SYN) },
        ] {
            let out = rig.endpoint_sends(&packet).forwarded(Reason::ForwardedSlow);
            assert_eq!(out.source, (public, packet.source.1));
        }
    });
}

#[test]
fn the_longest_prefix_of_the_source_says_which_rules() {
    for_each(|rig| {
        outside(rig);
        rules(rig, &[any(SNAT, &[OUTSIDE_INDEX])]);
        let set = SnatSet { count: 0, pad: 0, rules: [SnatRule::default(); SET_RULES] };
        rig.table(map::SNAT_SETS).put(&4u32, &set);
        let host = rig.net.insider();
        rig.put_prefix(map::SNAT_SOURCES4, map::SNAT_SOURCES6, host, rig.net.bits(), &4u32);
        rig.endpoint_sends(&outward(rig, TCP, 33000, SYN)).passed(Reason::PassTransit);
        let endpoint = rig.net.endpoint(1).0;
        let other = Packet { from: endpoint_mac(1), source: (endpoint, 33000), ..outward(rig, TCP, 1, SYN) };
        rig.endpoint_sends(&other).forwarded(Reason::ForwardedSlow);
    });
}

#[test]
fn i4_without_the_lease_of_its_address_a_rule_translates_nothing() {
    for_each(|rig| {
        outside(rig);
        rules(rig, &[any(SNAT, &[OUTSIDE_INDEX])]);
        let out = rig.endpoint_sends(&outward(rig, TCP, 33000, SYN)).forwarded(Reason::ForwardedSlow);
        rig.drop_lease();
        for packet in [outward(rig, TCP, 33000, ACK), outward(rig, TCP, 33001, SYN), out.answer(SYN | ACK)] {
            rig.send_packet(&packet).dropped(Reason::NoLease);
        }
        rig.hold_lease();
        rig.freeze(true);
        rig.endpoint_sends(&outward(rig, TCP, 33001, SYN)).dropped(Reason::IntentStale);
        // Another group's address, whose lease is held elsewhere.
        rig.freeze(false);
        rig.change_address(OUTSIDE_INDEX, |address| address.lease_slot = SLOT + 1);
        rig.endpoint_sends(&outward(rig, TCP, 33001, SYN)).dropped(Reason::NoLease);
        assert_eq!(rig.flow_entries(), 2);
    });
}

#[test]
fn i10_the_middle_of_an_unknown_connection_is_not_translated() {
    for_each(|rig| {
        outside(rig);
        rules(rig, &[any(SNAT, &[OUTSIDE_INDEX])]);
        for flags in [ACK, FIN | ACK, RST, SYN | ACK] {
            rig.endpoint_sends(&outward(rig, TCP, 33000, flags)).dropped(Reason::Miss);
        }
        let mut back = rig.tcp(443, ACK);
        back.destination = (rig.net.outside(), 41000);
        rig.client_sends(&back).dropped(Reason::NoService);
        assert_eq!(rig.flow_entries(), 0);
    });
}

#[test]
fn what_is_for_the_node_itself_is_not_translated() {
    for_each(|rig| {
        outside(rig);
        rules(rig, &[any(SNAT, &[OUTSIDE_INDEX])]);
        let mut own = outward(rig, TCP, 33000, SYN);
        own.destination.0 = rig.net.node(Side::Endpoints);
        rig.endpoint_sends(&own).passed(Reason::PassLocal);
        // A connection from the endpoints' network to a service is the service's.
        own.destination = (rig.net.vip(), 80);
        let out = rig.endpoint_sends(&own).forwarded(Reason::ForwardedSlow);
        assert_eq!(out.destination, rig.net.endpoint(1));
    });
}
