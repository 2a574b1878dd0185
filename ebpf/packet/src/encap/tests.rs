//! Outer headers read back as what they are.

extern crate std;
use lockstep_abi::checksum::fold;
use proptest::prelude::*;

use super::*;
use crate::ip::{Header4, Header6, Ip};
use crate::sum;

const UDP: u8 = lockstep_abi::UDP;

fn inner() -> impl Strategy<Value = Inner> {
    (any::<(bool, u8, bool, u16, u32)>(), 20u32..65_000).prop_map(
        |((six, tos, dont_fragment, id_be, flow_hash), length_bytes)| Inner {
            protocol: if six { IPV6 } else { IPIP },
            length_bytes,
            tos,
            dont_fragment: dont_fragment || six,
            id_be,
            flow_hash,
        },
    )
}

fn check_gue(inner: &Inner, bytes: &[u8]) {
    assert!((49152..=65535).contains(&u16::from_be_bytes([bytes[0], bytes[1]])));
    assert_eq!(u16::from_be_bytes([bytes[2], bytes[3]]), 6080);
    assert_eq!(u32::from(u16::from_be_bytes([bytes[4], bytes[5]])), inner.length_bytes + 12);
    assert_eq!(bytes[6..], [0, 0, 0, inner.protocol, 0, 0]);
}

#[test]
fn the_inner_packet_says_what_the_outer_takes() {
    let four = [0x45, 0xb9, 0, 40, 0x12, 0x34, 0x40, 0, 64, 6, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8];
    let inner = Inner::of_ipv4(&four, 40, 9);
    assert_eq!(
        (inner.protocol, inner.tos, inner.dont_fragment, inner.id_be.to_ne_bytes()),
        (IPIP, 0xb9, true, [0x12, 0x34])
    );
    let mut may = four;
    may[6] = 0x20;
    assert!(!Inner::of_ipv4(&may, 40, 9).dont_fragment);
    let mut six = [0; 40];
    (six[0], six[1]) = (0x6b, 0x9f);
    let inner = Inner::of_ipv6(&six, 100, 9);
    assert_eq!((inner.protocol, inner.tos, inner.dont_fragment), (IPV6, 0xb9, true));
}

#[test]
fn two_clients_that_count_alike_do_not_collide_where_fragments_are_possible() {
    let inner = Inner {
        protocol: IPIP,
        length_bytes: 40,
        tos: 0,
        dont_fragment: false,
        id_be: 7,
        flow_hash: 0x1_0000,
    };
    let other = Inner { flow_hash: 0x2_0000, ..inner };
    assert_ne!(in_ipv4(&inner, 1, 2)[4..6], in_ipv4(&other, 1, 2)[4..6]);
    let whole = Inner { dont_fragment: true, ..inner };
    assert_eq!(in_ipv4(&whole, 1, 2)[4..8], [0, 0, 0x40, 0]);
}

#[test]
fn source_ports_fill_the_dynamic_range() {
    assert_eq!(
        (gue_source_port(0), gue_source_port(0x3fff), gue_source_port(u32::MAX)),
        (49152, 65535, 65535)
    );
    assert_eq!(gue_source_port(0x4000), 49152);
}

#[test]
fn an_aggregate_has_no_lengths() {
    let inner =
        Inner { protocol: IPV6, length_bytes: 100_000, tos: 0, dont_fragment: true, id_be: 0, flow_hash: 0 };
    assert_eq!(in_ipv4(&inner, 1, 2)[2..4], [0, 0]);
    assert_eq!(in_ipv6(&inner, [1; 4], [2; 4])[4..6], [0, 0]);
    assert_eq!(gue_ipv4(&inner, 1, 2)[24..26], [0, 0]);
}

proptest! {
    #[test]
    fn outer_ipv4_headers_are_read_back(inner in inner(), source_be: u32, destination_be: u32) {
        let gue = gue_ipv4(&inner, source_be, destination_be);
        check_gue(&inner, &gue[20..]);
        let gue: [u8; 20] = gue[..20].try_into().unwrap();
        for (header, protocol, overhead) in
            [(in_ipv4(&inner, source_be, destination_be), inner.protocol, IN_IPV4), (gue, UDP, GUE_IPV4)]
        {
            prop_assert_eq!(
                Header4::of(&header).parse(inner.length_bytes + overhead),
                Ok(Ip {
                    source_be, destination_be, protocol, ttl: 64, class: inner.tos, fragment: false, options: false,
                    whole: inner.dont_fragment, total: inner.length_bytes + overhead,
                })
            );
            prop_assert!(Header4::of(&header).parse(inner.length_bytes + overhead - 1).is_err());
            prop_assert_eq!(fold(sum::bytes(&header)), 0xffff);
            prop_assert_eq!((header[1], header[6] & 0x40 != 0), (inner.tos, inner.dont_fragment));
        }
    }

    #[test]
    fn outer_ipv6_headers_are_read_back(inner in inner(), source_be: [u32; 4], destination_be: [u32; 4]) {
        let gue = gue_ipv6(&inner, source_be, destination_be);
        check_gue(&inner, &gue[40..]);
        let gue: [u8; 40] = gue[..40].try_into().unwrap();
        for (header, protocol, overhead) in
            [(in_ipv6(&inner, source_be, destination_be), inner.protocol, IN_IPV6), (gue, UDP, GUE_IPV6)]
        {
            prop_assert_eq!(
                Header6::of(&header).parse(inner.length_bytes + overhead),
                Ok(Ip {
                    source_be, destination_be, protocol, ttl: 64, class: inner.tos, fragment: false, options: false,
                    whole: true, total: inner.length_bytes + overhead,
                })
            );
            prop_assert!(Header6::of(&header).parse(inner.length_bytes + overhead - 1).is_err());
            let first = u32::from_be_bytes([header[0], header[1], header[2], header[3]]);
            prop_assert_eq!(((first >> 20) as u8, first & 0xf_ffff), (inner.tos, inner.flow_hash & 0xf_ffff));
        }
    }
}
