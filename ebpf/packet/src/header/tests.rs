//! Built headers read back, and their checksums are right.

extern crate std;
use lockstep_abi::checksum::fold;
use proptest::prelude::*;

use super::*;
use crate::ip::{Header4, Ip};

proptest! {
    #[test]
    fn an_ipv4_header_is_read_back(source_be: u32, destination_be: u32, protocol: u8, ttl: u8, tos: u8, id_be: u16, dont_fragment: bool, payload_bytes in 0u32..=65515) {
        let bytes = ipv4(&Ipv4Header { source_be, destination_be, protocol, ttl, tos, id_be, dont_fragment, payload_bytes });
        prop_assert_eq!(
            Header4::of(&bytes).parse(payload_bytes + 20),
            Ok(Ip {
                source_be, destination_be, protocol, ttl, class: tos, fragment: false, options: false,
                whole: dont_fragment, total: payload_bytes + 20,
            })
        );
        prop_assert!(Header4::of(&bytes).parse(payload_bytes + 19).is_err());
        prop_assert_eq!(fold(sum::bytes(&bytes)), 0xffff, "a right header sums to all ones");
        prop_assert_eq!((bytes[1], bytes[6] & 0x40 != 0), (tos, dont_fragment));
        prop_assert_eq!(u16::from_ne_bytes([bytes[4], bytes[5]]), id_be);
    }
}

#[test]
fn an_aggregate_has_no_length() {
    assert_eq!(length16(0xffff), 0xffff);
    assert_eq!(length16(0x1_0000), 0);
}

#[test]
fn an_ipv6_header_has_its_class_and_label_in_place() {
    let bytes = ipv6(&Ipv6Header {
        source_be: [1; 4],
        destination_be: [2; 4],
        next_header: 58,
        hop_limit: 255,
        traffic_class: 0xab,
        flow_label: 0xfff1_2345,
        payload_bytes: 0x0102,
    });
    assert_eq!(bytes[..8], [0x6a, 0xb1, 0x23, 0x45, 1, 2, 58, 255]);
}
