//! Roles, what may pass, and for how long a first is followed.

extern crate std;
use std::vec;
use std::vec::Vec;

use proptest::prelude::*;

use super::*;
use crate::ip::Header4;

#[test]
fn every_role_is_told_by_offset_and_more() {
    for (high, low, place, expected) in [
        (0x40, 0, (0, false), Role::Whole),
        (0x00, 0, (0, false), Role::Whole),
        (0x20, 0, (0, true), Role::First),
        (0x20, 185, (1480, true), Role::Later),
        (0x00, 185, (1480, false), Role::Later),
        (0x1f, 0xff, (65528, false), Role::Later),
    ] {
        let mut header = [0; 20];
        (header[6], header[7]) = (high, low);
        assert_eq!(place4(&header), place);
        assert_eq!(role(place.0, place.1), expected);
    }
}

#[test]
fn no_piece_may_split_or_overwrite_a_transport_header() {
    for (protocol, header) in
        [(TCP, 20u32), (UDP, 8), (icmp::PROTOCOL, 8), (icmp6::PROTOCOL, 8), (sctp::PROTOCOL, 16)]
    {
        let least = header.next_multiple_of(8);
        assert!(acceptable(protocol, 0, true, least));
        assert!(!acceptable(protocol, 0, true, least - 8), "{protocol}: a tiny first fragment");
        assert!(acceptable(protocol, least, false, 1));
        assert!(
            !acceptable(protocol, least - 8, false, 0)
                && (least == 8 || !acceptable(protocol, 8, false, 100))
        );
    }
    assert!(!acceptable(TCP, 16, true, 1480), "over the checksum");
}

#[test]
fn pieces_have_lengths_that_can_be_put_together() {
    assert!(acceptable(UDP, 1480, true, 1480));
    assert!(!acceptable(UDP, 1480, true, 1481), "not the last, and no multiple of 8");
    assert!(acceptable(UDP, 1480, false, 1));
    assert!(!acceptable(UDP, 1480, false, 0));
    assert!(acceptable(UDP, 65528, false, 7));
    assert!(!acceptable(UDP, 65528, false, 8), "beyond 64 KiB");
    assert!(!acceptable(UDP, 8, false, u32::MAX));
}

#[test]
fn a_first_is_followed_for_a_while() {
    let first = FragmentValue {
        seen_ns: 1000,
        source_port_be: 1,
        destination_port_be: 2,
        protocol: UDP,
        pad: [0; 3],
    };
    assert_eq!(ports(&first, 1000), Some((1, 2)));
    assert_eq!(ports(&first, 999), Some((1, 2)), "another CPU's clock");
    assert_eq!(ports(&first, 1000 + FOLLOWED_NS - 1), Some((1, 2)));
    assert_eq!(ports(&first, 1000 + FOLLOWED_NS), None);
}

proptest! {
    #[test]
    fn pieces_of_any_packet_may_pass_and_have_one_first(protocol in prop::sample::select(&[TCP, UDP, sctp::PROTOCOL][..]), total in 25u32..9000, units in 3u32..200) {
        let mut roles: Vec<Role> = vec![];
        let mut offset = 0;
        while offset < total {
            let size = (units * 8).min(total - offset);
            let more = offset + size < total;
            prop_assert!(acceptable(protocol, offset, more, size), "{} {}", offset, size);
            roles.push(role(offset, more));
            offset += size;
        }
        let firsts = roles.iter().filter(|&&role| role != Role::Later).count();
        prop_assert_eq!(firsts, 1);
        prop_assert_eq!(roles[0] == Role::Whole, roles.len() == 1);
    }

    #[test]
    fn the_header_is_read_as_the_ipv4_parser_reads_it(mut header: [u8; 20]) {
        (header[0], header[2], header[3]) = (0x45, 0, 20);
        let (offset, more) = place4(&header);
        prop_assert_eq!(Header4::of(&header).parse(20).unwrap().fragment, role(offset, more) != Role::Whole);
    }

    #[test]
    fn arbitrary_pieces_do_no_harm(protocol: u8, offset in 0u32..=65528, more: bool, payload: u32) {
        if acceptable(protocol, offset, more, payload) {
            prop_assert!(u64::from(offset) + u64::from(payload) <= 0xffff);
        }
    }
}
