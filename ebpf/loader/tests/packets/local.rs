//! ARP and ping for addresses that no interface has.

use lockstep_abi::reason::Reason;

use crate::case::{BOTH_HOOKS_V4, Side, endpoint_mac};
use crate::frame::{Header, arp, echo, icmp, ip};
use crate::rig::*;

const EVERYONE: [u8; 6] = [0xff; 6];

#[test]
fn arp_for_an_owned_address_is_answered_where_it_belongs() {
    for_cases(&BOTH_HOOKS_V4, |rig| {
        let (mac, client) = (Side::Clients.mac(50), rig.net.client());
        let ask = arp(EVERYONE, 1, (mac, client), ([0; 6], rig.net.vip()));
        let sent = rig.send(rig.client_side, &ask);
        assert_eq!((sent.action, sent.count(Reason::ArpAnswered)), (Action::Redirect, 1), "{sent:?}");
        assert_eq!(sent.frame, arp(mac, 2, (Side::Clients.own_mac(), rig.net.vip()), (mac, client)));
        rig.send(rig.endpoint_side, &ask).passed(Reason::PassArp);
        let (mac, address) = (endpoint_mac(1), rig.net.endpoint(1).0);
        let own = Side::Endpoints.own_mac();
        let ask = arp(own, 1, (mac, address), ([0; 6], rig.net.floating()));
        let sent = rig.send(rig.endpoint_side, &ask);
        assert_eq!(sent.frame, arp(mac, 2, (own, rig.net.floating()), (mac, address)));
    });
}

#[test]
fn arp_for_others_and_announcements_pass() {
    for_cases(&BOTH_HOOKS_V4, |rig| {
        let (client, vip) = (rig.net.client(), rig.net.vip());
        for (operation, sender, target) in [
            (1, client, rig.net.node(Side::Clients)),
            (2, client, vip),
            (1, vip, vip),
            (1, client, rig.net.host(Side::Clients, 77)),
        ] {
            let packet = arp(EVERYONE, operation, (Side::Clients.mac(50), sender), ([0; 6], target));
            rig.send(rig.client_side, &packet).passed(Reason::PassArp);
        }
    });
}

#[test]
fn a_ping_to_an_owned_address_is_answered() {
    for_each(|rig| {
        let header = Header { ttl: 17, ..rig.tcp(1, 0).header() };
        let body = b"\x12\x34\x00\x01 and some data";
        let (own, client) = (Side::Clients.own_mac(), Side::Clients.mac(50));
        let sent = rig.send(rig.client_side, &echo(own, client, header, true, body));
        assert_eq!((sent.action, sent.count(Reason::PingAnswered)), (Action::Redirect, 1), "{sent:?}");
        let (source, destination) = (header.destination, header.source);
        let answer = Header { source, destination, ttl: 64, ..header };
        assert_eq!(sent.frame, echo(client, own, answer, false, body));
    });
}

#[test]
fn other_icmp_and_other_protocols_to_an_owned_address_are_dropped() {
    for_cases(&BOTH_HOOKS_V4, |rig| {
        let send = |protocol, body: &[u8]| {
            let header = Header { protocol, ..rig.tcp(1, 0).header() };
            let frame = ip(Side::Clients.own_mac(), Side::Clients.mac(50), header, body);
            rig.send(rig.client_side, &frame)
        };
        send(1, &icmp(13, 0, &[0; 16])).dropped(Reason::NoService);
        send(1, &icmp(3, 4, &[0; 32])).dropped(Reason::IcmpErrorWithoutFlow);
        send(47, &[0; 20]).dropped(Reason::NoService);
    });
}

#[test]
fn a_ping_to_the_node_itself_passes() {
    for_each(|rig| {
        let header = Header { destination: rig.net.node(Side::Clients), ..rig.tcp(1, 0).header() };
        let frame = echo(Side::Clients.own_mac(), Side::Clients.mac(50), header, true, &[0; 4]);
        rig.send(rig.client_side, &frame).passed(Reason::PassLocal);
    });
}
