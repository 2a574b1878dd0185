//! Messages as a kernel sends them, built by hand; and bytes that no kernel sends.

use std::net::IpAddr;

use super::*;
use crate::hops::event::{NUD_REACHABLE, key};

const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
const IFLA_INFO_DATA: u16 = 2;

fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let mut bytes = ((4 + value.len()) as u16).to_ne_bytes().to_vec();
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

struct LinkHeader {
    family: u8,
    hardware: u16,
    flags: i32,
}

const UP: LinkHeader =
    LinkHeader { family: 0, hardware: libc::ARPHRD_ETHER, flags: libc::IFF_UP | libc::IFF_LOWER_UP };

fn link_bytes(kind: u16, header: &LinkHeader, attributes: &[Vec<u8>]) -> Vec<u8> {
    let mut body = vec![header.family, 0];
    body.extend(header.hardware.to_ne_bytes());
    body.extend(7u32.to_ne_bytes());
    body.extend(header.flags.to_ne_bytes());
    body.extend([0; 4]);
    attributes.iter().for_each(|attribute| body.extend(attribute));
    message(kind, 0, 0, &body)
}

fn usual() -> Vec<Vec<u8>> {
    vec![
        attribute(libc::IFLA_IFNAME, b"eth0\0"),
        attribute(libc::IFLA_MTU, &1500u32.to_ne_bytes()),
        attribute(999, b"of a newer kernel"),
        attribute(libc::IFLA_ADDRESS, &MAC),
        attribute(libc::IFLA_MASTER, &40u32.to_ne_bytes()),
        attribute(
            libc::IFLA_LINKINFO | 0x8000,
            &[attribute(IFLA_INFO_DATA, &[1, 2, 3]), attribute(IFLA_INFO_KIND, b"vlan\0")].concat(),
        ),
    ]
}

fn neighbour_bytes(family: u8, state: u16, flags: u8, attributes: &[Vec<u8>]) -> Vec<u8> {
    let mut body = vec![family, 0, 0, 0];
    body.extend(7u32.to_ne_bytes());
    body.extend(state.to_ne_bytes());
    body.extend([flags, 0]);
    attributes.iter().for_each(|attribute| body.extend(attribute));
    message(libc::RTM_NEWNEIGH, 0, 0, &body)
}

fn events(bytes: &[u8]) -> Result<Vec<HopEvent>, Malformed> {
    let mut all = Vec::new();
    for message in messages(bytes) {
        all.extend(message?.event()?);
    }
    Ok(all)
}

fn link() -> Link {
    Link {
        ifindex: 7,
        name: "eth0".into(),
        ethernet: true,
        running: true,
        mac: Some(MAC),
        mtu: 1500,
        master: 40,
        kind: Some("vlan".into()),
    }
}

#[test]
fn a_link_is_read_with_what_matters() {
    let bytes = link_bytes(libc::RTM_NEWLINK, &UP, &usual());
    assert_eq!(events(&bytes), Ok(vec![HopEvent::Link(link())]));
}

#[test]
fn flags_and_type_of_a_link_decide_what_it_can_carry() {
    let (up, carrier) = (libc::IFF_UP, libc::IFF_LOWER_UP);
    for (hardware, flags, ethernet, running) in [
        (libc::ARPHRD_ETHER, up | carrier, true, true),
        (libc::ARPHRD_ETHER, up, true, false),
        (libc::ARPHRD_ETHER, carrier, true, false),
        (libc::ARPHRD_ETHER, up | carrier | libc::IFF_NOARP, false, true),
        (libc::ARPHRD_LOOPBACK, up | carrier | libc::IFF_LOOPBACK, false, true),
        (libc::ARPHRD_NONE, up | carrier, false, true),
    ] {
        let header = LinkHeader { family: 0, hardware, flags };
        let bytes = link_bytes(libc::RTM_NEWLINK, &header, &usual());
        let expected = Link { ethernet, running, ..link() };
        assert_eq!(events(&bytes), Ok(vec![HopEvent::Link(expected)]), "{hardware} {flags:#x}");
    }
}

#[test]
fn a_long_hardware_address_is_none() {
    let mut attributes = usual();
    attributes[3] = attribute(libc::IFLA_ADDRESS, &[1; 20]);
    let bytes = link_bytes(libc::RTM_NEWLINK, &UP, &attributes);
    assert_eq!(events(&bytes), Ok(vec![HopEvent::Link(Link { mac: None, ..link() })]));
}

#[test]
fn news_of_a_bridge_port_or_a_wireless_driver_is_no_news_of_the_link() {
    let bridge = LinkHeader { family: libc::AF_BRIDGE as u8, ..UP };
    for kind in [libc::RTM_NEWLINK, libc::RTM_DELLINK] {
        assert_eq!(events(&link_bytes(kind, &bridge, &usual())), Ok(vec![]), "{kind}");
    }
    let wireless = [attribute(libc::IFLA_IFNAME, b"eth0\0"), attribute(libc::IFLA_WIRELESS, &[1; 8])];
    assert_eq!(events(&link_bytes(libc::RTM_NEWLINK, &UP, &wireless)), Ok(vec![]));
    assert_eq!(events(&link_bytes(libc::RTM_DELLINK, &UP, &usual())), Ok(vec![HopEvent::LinkGone(7)]));
}

#[test]
fn a_neighbour_is_read_of_either_family() {
    for (family, address) in [(AF_INET, "10.0.0.11"), (AF_INET6, "2001:db8::11")] {
        let address: IpAddr = address.parse().unwrap();
        let octets = match address {
            IpAddr::V4(address) => address.octets().to_vec(),
            IpAddr::V6(address) => address.octets().to_vec(),
        };
        let attributes = [attribute(NDA_DST, &octets), attribute(3, &[0; 16]), attribute(NDA_LLADDR, &MAC)];
        let bytes = neighbour_bytes(family, NUD_REACHABLE, 0, &attributes);
        let expected = Neighbour { key: key(7, address), mac: Some(MAC), state: NUD_REACHABLE, kept: false };
        assert_eq!(events(&bytes), Ok(vec![HopEvent::Neighbour(expected)]));
    }
}

#[test]
fn entries_that_others_keep_are_known() {
    let managed = attribute(NDA_FLAGS_EXT, &NTF_EXT_MANAGED.to_ne_bytes());
    for (name, state, flags, extra, kept) in [
        ("plain", NUD_REACHABLE, 0, vec![], false),
        ("a router's", NUD_REACHABLE, 0x80, vec![], false),
        ("permanent", NUD_PERMANENT, 0, vec![], true),
        ("learned elsewhere", NUD_REACHABLE, NTF_EXT_LEARNED, vec![], true),
        ("managed", NUD_REACHABLE, 0, managed, true),
    ] {
        let attributes = [attribute(NDA_DST, &[10, 0, 0, 11]), attribute(NDA_LLADDR, &MAC), extra];
        let bytes = neighbour_bytes(AF_INET, state, flags, &attributes);
        let found = events(&bytes).unwrap();
        assert!(matches!(&found[..], [HopEvent::Neighbour(n)] if n.kept == kept), "{name}: {found:?}");
    }
}

#[test]
fn a_proxy_entry_and_a_bridges_are_no_neighbours() {
    let attributes = [attribute(NDA_DST, &[10, 0, 0, 11]), attribute(NDA_LLADDR, &MAC)];
    let proxy = neighbour_bytes(AF_INET, NUD_REACHABLE, NTF_PROXY, &attributes);
    let bridge = neighbour_bytes(libc::AF_BRIDGE as u8, NUD_REACHABLE, 0, &attributes);
    let crossed = neighbour_bytes(AF_INET6, NUD_REACHABLE, 0, &attributes);
    for bytes in [proxy, bridge, crossed] {
        assert_eq!(events(&bytes), Ok(vec![]));
    }
}

#[test]
fn whatever_routes_depend_on_is_heard_and_the_rest_is_not() {
    for (kind, expected) in [
        (20, true),   // NEWADDR
        (21, true),   // DELADDR
        (24, true),   // NEWROUTE
        (25, true),   // DELROUTE
        (80, true),   // NEWNETCONF
        (81, true),   // DELNETCONF
        (104, true),  // NEWNEXTHOP
        (105, true),  // DELNEXTHOP
        (3, false),   // DONE
        (36, false),  // NEWQDISC
        (999, false), // of a newer kernel
    ] {
        let found = events(&message(kind, 0, 0, &[0; 12])).unwrap();
        assert_eq!(found == [HopEvent::Routes], expected, "{kind}");
    }
}

fn rule_bytes(source_bits: u8, type_of_service: u8, attributes: &[Vec<u8>]) -> Vec<u8> {
    let mut body = vec![AF_INET, 0, source_bits, type_of_service, 254, 0, 0, 1];
    body.extend([0; 4]);
    attributes.iter().for_each(|attribute| body.extend(attribute));
    message(libc::RTM_NEWRULE, 0, 0, &body)
}

#[test]
fn a_rule_asks_for_more_than_the_destination_unless_all_of_it_is_known() {
    let word = |kind: u16| attribute(kind, &1u32.to_ne_bytes());
    let usual = [word(15), word(6), word(14), attribute(21, &[2])];
    let with = |kind: u16| [&usual[..], &[word(kind)]].concat();
    for (what, bytes, expected) in [
        ("one of the kernel's own", rule_bytes(0, 0, &usual), false),
        ("a destination", rule_bytes(0, 0, &with(1)), false),
        ("a source", rule_bytes(24, 0, &with(2)), true),
        ("a source of no bits", rule_bytes(24, 0, &usual), true),
        ("a type of service", rule_bytes(0, 0x10, &usual), true),
        ("an interface", rule_bytes(0, 0, &with(3)), true),
        ("a mark", rule_bytes(0, 0, &with(10)), true),
        ("a VRF", rule_bytes(0, 0, &with(19)), true),
        ("a protocol", rule_bytes(0, 0, &with(22)), true),
        ("something of a newer kernel", rule_bytes(0, 0, &with(99)), true),
    ] {
        assert_eq!(events(&bytes), Ok(vec![HopEvent::Rule(expected)]), "{what}");
    }
    assert_eq!(events(&message(libc::RTM_DELRULE, 0, 0, &[0; 12])), Ok(vec![HopEvent::RuleGone]));
}

#[test]
fn a_request_names_the_neighbour_and_changes_nothing_of_it() {
    for address in ["10.0.0.11", "fe80::1"] {
        let key = key(7, address.parse().unwrap());
        let bytes = use_neighbour(&key, 5);
        let request = messages(&bytes).next().unwrap().unwrap();
        assert_eq!((request.kind, request.sequence), (libc::RTM_NEWNEIGH, 5));
        assert_eq!(request.flags, libc::NLM_F_REQUEST as u16, "neither creates nor replaces");
        assert_eq!(request.body[10], NTF_USE);
        let found = Neighbour { key, mac: None, state: 0, kept: false };
        assert_eq!(events(&bytes), Ok(vec![HopEvent::Neighbour(found)]));
    }
}

#[test]
fn several_messages_of_a_datagram_are_all_read() {
    let mut bytes = link_bytes(libc::RTM_NEWLINK, &UP, &usual());
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes.extend(message(libc::RTM_NEWROUTE, 0, 0, &[0; 12]));
    assert_eq!(events(&bytes), Ok(vec![HopEvent::Link(link()), HopEvent::Routes]));
}

#[test]
fn what_is_cut_short_is_refused_and_nothing_is_read_beyond_it() {
    let attributes = [attribute(NDA_DST, &[10, 0, 0, 11]), attribute(NDA_LLADDR, &MAC)];
    for whole in [
        link_bytes(libc::RTM_NEWLINK, &UP, &usual()),
        neighbour_bytes(AF_INET, NUD_REACHABLE, 0, &attributes),
    ] {
        for length in 1..whole.len() {
            assert_eq!(events(&whole[..length]), Err(Malformed), "{length} bytes");
        }
        // Every byte in turn is anything: no panic, whatever comes out.
        for at in 0..whole.len() {
            for value in [0, 1, 3, 4, 5, 0x7f, 0x80, 0xff] {
                let mut bytes = whole.clone();
                bytes[at] = value;
                drop(events(&bytes));
            }
        }
    }
}
