//! What is read, what is refused, which addresses stay where they are.

extern crate std;
use core::net::Ipv6Addr;

use proptest::prelude::*;

use super::*;
use crate::header;

fn parse(text: &str) -> [u32; 4] {
    address(&text.parse::<Ipv6Addr>().unwrap().octets(), 0)
}

fn plain() -> [u8; 40] {
    let mut header = [0; 40];
    header[0] = 0x60;
    header[4..8].copy_from_slice(&[0, 8, 17, 64]);
    header[8..24].copy_from_slice(&"2001:db8::1".parse::<Ipv6Addr>().unwrap().octets());
    header[24..40].copy_from_slice(&"2001:db8:1::a".parse::<Ipv6Addr>().unwrap().octets());
    header
}

#[test]
fn a_plain_header_is_read() {
    let ip = Ipv6::parse(&plain(), 48).unwrap();
    assert_eq!(ip.source_be, parse("2001:db8::1"));
    assert_eq!(ip.destination_be, parse("2001:db8:1::a"));
    assert_eq!((ip.next_header, ip.hop_limit), (17, 64));
}

#[test]
fn contradictory_headers_are_refused() {
    let mut old = plain();
    old[0] = 0x45;
    assert_eq!(Ipv6::parse(&old, 48), Err(Reason::Malformed));
    assert_eq!(Ipv6::parse(&plain(), 47), Err(Reason::Malformed), "less than the payload");
    let mut empty = plain();
    empty[5] = 0;
    assert_eq!(Ipv6::parse(&empty, 39), Err(Reason::Malformed), "less than the header");
    assert!(Ipv6::parse(&plain(), 60).is_ok(), "Ethernet padding is allowed");
    assert!(Ipv6::parse(&empty, 100_000).is_ok(), "an aggregate");
}

#[test]
fn hop_limit_of_one_is_not_forwarded() {
    for (hop_limit, expected) in [(0, false), (1, false), (2, true), (255, true)] {
        let mut header = plain();
        header[7] = hop_limit;
        assert_eq!(Ipv6::parse(&header, 48).unwrap().may_be_forwarded(), expected);
    }
}

#[test]
fn link_local_and_unspecified_addresses_stay_on_their_link() {
    let table = [
        ("2001:db8::1", "2001:db8::2", false),
        ("fc00::1", "fd00::2", false),
        ("fe80::1", "2001:db8::2", true),
        ("febf::1", "2001:db8::2", true),
        ("fec0::1", "2001:db8::2", false),
        ("2001:db8::1", "fe80::2", true),
        ("::", "2001:db8::2", true),
        ("ff02::1", "2001:db8::2", true),
    ];
    for (source, destination, expected) in table {
        let ip = Ipv6 {
            source_be: parse(source),
            destination_be: parse(destination),
            next_header: 6,
            hop_limit: 64,
        };
        assert_eq!(ip.stays_on_link(), expected, "{source} to {destination}");
    }
    assert_eq!(parse("ff02::1"), ALL_NODES);
    assert!(is_multicast(&ALL_NODES) && !is_multicast(&parse("fe80::1")));
    assert!(is_unspecified(&UNSPECIFIED) && !is_unspecified(&parse("::1")));
}

proptest! {
    #[test]
    fn what_was_built_is_read_back(source_be: [u32; 4], destination_be: [u32; 4], next_header: u8, hop_limit: u8, class: u8, label: u32, payload: u16) {
        let built = header::ipv6(&header::Ipv6Header {
            source_be, destination_be, next_header, hop_limit, traffic_class: class, flow_label: label,
            payload_bytes: u32::from(payload),
        });
        let length = u32::from(payload) + 40;
        prop_assert_eq!(
            Ipv6::parse(&built, length),
            Ok(Ipv6 { source_be, destination_be, next_header, hop_limit })
        );
        prop_assert_eq!(Ipv6::parse(&built, length - 1), Err(Reason::Malformed));
    }

    #[test]
    fn arbitrary_bytes_do_no_harm(header: [u8; 40], length: u32) {
        if let Ok(ip) = Ipv6::parse(&header, length) {
            prop_assert!(length >= 40);
            prop_assert_eq!(header[0] >> 4, 6);
            prop_assert!(same(&ip.source_be, &address(&header, 8)));
        }
    }

    #[test]
    fn same_is_equality(a: [u32; 4], word in 0usize..4, bit in 0u32..32) {
        let mut b = a;
        b[word] ^= 1 << bit;
        prop_assert!(same(&a, &a) && !same(&a, &b));
    }
}
