//! Neighbour discovery for addresses that no interface has.

use std::net::{IpAddr, Ipv6Addr};

use lockstep_abi::address::FLOATING;
use lockstep_abi::reason::Reason;

use crate::case::{BOTH_FAMILIES_TC, BOTH_FAMILIES_XDP, Case, Side};
use crate::frame::{Mac, icmp6};
use crate::message::{Datagram, ICMPV6};
use crate::rig::*;

const CASES: [Case; 2] = [BOTH_FAMILIES_TC[1], BOTH_FAMILIES_XDP[1]];

const SOLICITATION: u8 = 135;
const ROUTER: u8 = 0x80;
const SOLICITED: u8 = 0x40;
const OVERRIDE: u8 = 0x20;

fn octets(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V6(address) => address.octets(),
        IpAddr::V4(address) => panic!("{address}"),
    }
}

fn solicited_node(target: IpAddr) -> (Mac, IpAddr) {
    let last = octets(target);
    let (mac, low) =
        ([0x33, 0x33, 0xff, last[13], last[14], last[15]], u16::from_be_bytes([last[14], last[15]]));
    (mac, Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00 | u16::from(last[13]), low).into())
}

/// A question from a host of a side.
fn ask(to: (Mac, IpAddr), from: (Mac, IpAddr), target: IpAddr, options: &[u8]) -> Datagram {
    let rest = [&[0; 4][..], &octets(target), options].concat();
    Datagram {
        to: to.0,
        from: from.0,
        source: from.1,
        destination: to.1,
        protocol: ICMPV6,
        ttl: 255,
        body: icmp6(from.1, to.1, SOLICITATION, 0, &rest),
    }
}

fn link_layer(kind: u8, mac: Mac) -> Vec<u8> {
    [&[kind, 1][..], &mac].concat()
}

fn answer(to: (Mac, IpAddr), own: Mac, target: IpAddr, flags: u8) -> Datagram {
    let rest = [&[flags, 0, 0, 0][..], &octets(target), &link_layer(2, own)].concat();
    Datagram {
        to: to.0,
        from: own,
        source: target,
        destination: to.1,
        protocol: ICMPV6,
        ttl: 255,
        body: icmp6(target, to.1, 136, 0, &rest),
    }
}

#[test]
fn a_solicitation_for_an_owned_address_is_answered_where_it_belongs() {
    for_cases(&CASES, |rig| {
        let (vip, own) = (rig.net.vip(), Side::Clients.own_mac());
        let client = (Side::Clients.mac(50), rig.net.client());
        let nonce = [14, 1, 1, 2, 3, 4, 5, 6];
        let with_mac = link_layer(1, client.0);
        for options in [vec![], with_mac.clone(), [&with_mac[..], &nonce].concat()] {
            for to in [solicited_node(vip), (own, vip)] {
                let question = ask(to, client, vip, &options);
                let sent = rig.send_datagram(Side::Clients, &question);
                assert_eq!(sent.action, Action::Redirect, "{sent:?}");
                assert_eq!(sent.count(Reason::SolicitationAnswered), 1, "{sent:?}");
                let expected = answer(client, own, vip, SOLICITED | OVERRIDE);
                assert_eq!(Datagram::read(&sent.frame).verified(), expected);
            }
        }
        let question = ask(solicited_node(vip), client, vip, &[]);
        let sent = rig.send_datagram(Side::Endpoints, &question);
        sent.passed(Reason::PassNeighbour);
    });
}

#[test]
fn a_floating_address_is_a_routers() {
    for_cases(&CASES, |rig| {
        let (floating, own) = (rig.net.floating(), Side::Endpoints.own_mac());
        let endpoint = (crate::case::endpoint_mac(1), rig.net.endpoint(1).0);
        let sent =
            rig.send_datagram(Side::Endpoints, &ask(solicited_node(floating), endpoint, floating, &[]));
        assert_eq!(
            Datagram::read(&sent.frame).verified(),
            answer(endpoint, own, floating, ROUTER | SOLICITED | OVERRIDE)
        );
        rig.change_address(FLOATING_INDEX, |address| address.flags &= !FLOATING);
        let sent =
            rig.send_datagram(Side::Endpoints, &ask(solicited_node(floating), endpoint, floating, &[]));
        assert_eq!(
            Datagram::read(&sent.frame).verified(),
            answer(endpoint, own, floating, SOLICITED | OVERRIDE)
        );
    });
}

#[test]
fn who_takes_the_address_for_its_own_is_contradicted() {
    for_cases(&CASES, |rig| {
        let vip = rig.net.vip();
        let nobody = (Side::Clients.mac(50), Ipv6Addr::UNSPECIFIED.into());
        let all = ([0x33, 0x33, 0, 0, 0, 1], "ff02::1".parse().unwrap());
        let sent = rig.send_datagram(Side::Clients, &ask(solicited_node(vip), nobody, vip, &[]));
        let expected = answer(all, Side::Clients.own_mac(), vip, OVERRIDE);
        assert_eq!(Datagram::read(&sent.frame).verified(), expected);
    });
}

#[test]
fn i4_without_the_lease_no_solicitation_is_answered() {
    for_cases(&CASES, |rig| {
        rig.drop_lease();
        let vip = rig.net.vip();
        let client = (Side::Clients.mac(50), rig.net.client());
        rig.send_datagram(Side::Clients, &ask(solicited_node(vip), client, vip, &[]))
            .dropped(Reason::NoLease);
    });
}

#[test]
fn what_is_no_question_about_an_owned_address_is_the_stacks() {
    for_cases(&CASES, |rig| {
        let (vip, own) = (rig.net.vip(), Side::Clients.own_mac());
        let client = (Side::Clients.mac(50), rig.net.client());
        let node = rig.net.node(Side::Clients);
        rig.send_datagram(Side::Clients, &ask(solicited_node(node), client, node, &[]))
            .passed(Reason::PassNeighbour);
        // From beyond a router; with a wrong checksum; an answer to somebody.
        let routed = Datagram { ttl: 254, ..ask((own, vip), client, vip, &[]) };
        rig.send_datagram(Side::Clients, &routed).passed(Reason::PassNeighbour);
        let mut damaged = ask((own, vip), client, vip, &[]);
        damaged.body[2] ^= 1;
        rig.send_datagram(Side::Clients, &damaged).passed(Reason::PassNeighbour);
        let other = answer((own, node), client.0, client.1, SOLICITED);
        rig.send_datagram(Side::Clients, &other).passed(Reason::PassNeighbour);
        let mut group = answer(([0x33, 0x33, 0, 0, 0, 1], "ff02::1".parse().unwrap()), client.0, client.1, 0);
        rig.send_datagram(Side::Clients, &group).passed(Reason::PassNotOurs);
        group.protocol = 17;
        rig.send_datagram(Side::Clients, &group).passed(Reason::PassNotOurs);
    });
}
