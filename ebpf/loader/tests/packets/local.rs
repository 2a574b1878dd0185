//! ARP and ping for addresses that no interface has.

use lockstep_abi::reason::Reason;

use crate::frame::{arp, fold, icmp, ipv4, ones};
use crate::rig::*;

#[test]
fn arp_for_an_owned_address_is_answered_where_it_belongs() {
    with_rig(|rig| {
        let ask = arp([0xff; 6], 1, (CLIENT_MAC, CLIENT), ([0; 6], VIP));
        let sent = rig.send(rig.client_side, &ask);
        assert_eq!((sent.action, sent.reasons.get("arp_answered")), (REDIRECT, Some(&1)), "{sent:?}");
        assert_eq!(sent.frame, arp(CLIENT_MAC, 2, (CLIENT_SIDE_MAC, VIP), (CLIENT_MAC, CLIENT)));
        rig.send(rig.endpoint_side, &ask).passed(Reason::PassArp);
        let (mac, address) = (endpoint_mac(1), endpoint(1).0);
        let ask = arp(ENDPOINT_SIDE_MAC, 1, (mac, address), ([0; 6], FLOATING_ADDRESS));
        let sent = rig.send(rig.endpoint_side, &ask);
        assert_eq!(sent.frame, arp(mac, 2, (ENDPOINT_SIDE_MAC, FLOATING_ADDRESS), (mac, address)));
    });
}

#[test]
fn arp_for_others_and_announcements_pass() {
    with_rig(|rig| {
        for (operation, sender, target) in
            [(1, CLIENT, NODE), (2, CLIENT, VIP), (1, VIP, VIP), (1, CLIENT, "192.0.2.77".parse().unwrap())]
        {
            let packet = arp([0xff; 6], operation, (CLIENT_MAC, sender), ([0; 6], target));
            rig.send(rig.client_side, &packet).passed(Reason::PassArp);
        }
    });
}

#[test]
fn a_ping_to_an_owned_address_is_answered() {
    with_rig(|rig| {
        let mut header = tcp(1, 0).header();
        header.protocol = 1;
        header.ttl = 17;
        let body = b"\x12\x34\x00\x01 and some data";
        let sent = rig.send(rig.client_side, &ipv4(CLIENT_SIDE_MAC, CLIENT_MAC, header, &icmp(8, 0, body)));
        assert_eq!((sent.action, sent.reasons.get("ping_answered")), (REDIRECT, Some(&1)), "{sent:?}");
        (header.source, header.destination, header.ttl) = (VIP, CLIENT, 64);
        assert_eq!(fold(ones(&sent.frame[14..34])), 0);
        assert_eq!(sent.frame, ipv4(CLIENT_MAC, CLIENT_SIDE_MAC, header, &icmp(0, 0, body)));
    });
}

#[test]
fn other_icmp_and_other_protocols_to_an_owned_address_are_dropped() {
    with_rig(|rig| {
        let mut send = |protocol, body: &[u8]| {
            let mut header = tcp(1, 0).header();
            header.protocol = protocol;
            rig.send(rig.client_side, &ipv4(CLIENT_SIDE_MAC, CLIENT_MAC, header, body))
        };
        send(1, &icmp(13, 0, &[0; 16])).dropped(Reason::NoService);
        send(1, &icmp(3, 4, &[0; 32])).dropped(Reason::IcmpError);
        send(47, &[0; 20]).dropped(Reason::NoService);
    });
}

#[test]
fn a_ping_to_the_node_itself_passes() {
    with_rig(|rig| {
        let mut header = tcp(1, 0).header();
        (header.protocol, header.destination) = (1, NODE);
        let frame = ipv4(CLIENT_SIDE_MAC, CLIENT_MAC, header, &icmp(8, 0, &[0; 4]));
        rig.send(rig.client_side, &frame).passed(Reason::PassLocal);
    });
}
