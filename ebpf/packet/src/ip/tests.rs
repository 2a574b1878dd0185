//! What is read, what is refused, what may go on.

extern crate std;
use core::net::Ipv6Addr;

use proptest::prelude::*;

use super::*;
use crate::header;

fn header4() -> Header4 {
    Header4 {
        version: 0x45,
        total_be: 40u16.to_be(),
        fragment_be: 0x4000u16.to_be(),
        ttl: 64,
        protocol: 6,
        source_be: u32::from_ne_bytes([192, 0, 2, 1]),
        destination_be: u32::from_ne_bytes([192, 0, 2, 10]),
        ..Header4::default()
    }
}

#[test]
fn a_plain_header_is_read() {
    let ip = header4().parse(40).unwrap();
    assert_eq!(ip.source_be.to_ne_bytes(), [192, 0, 2, 1]);
    assert_eq!(ip.destination_be.to_ne_bytes(), [192, 0, 2, 10]);
    assert_eq!((ip.protocol, ip.ttl, ip.is_plain(), ip.whole, ip.total), (6, 64, true, true, 40));
}

#[test]
fn contradictory_headers_are_refused() {
    let refuse = |change: fn(&mut Header4), length| {
        let mut h = header4();
        change(&mut h);
        assert_eq!(h.parse(length), Err(Reason::Malformed));
    };
    refuse(|h| h.version = 0x65, 40);
    refuse(|h| h.version = 0x44, 40);
    refuse(|h| h.version = 0x4f, 40);
    refuse(|h| h.total_be = 19u16.to_be(), 40);
    refuse(|_| (), 39);
    assert!(header4().parse(60).is_ok(), "Ethernet padding is allowed");
    let aggregate = Header4 { total_be: 0, ..header4() };
    assert!(aggregate.parse(100_000).is_ok(), "an aggregate beyond 64 KiB says 0");
}

#[test]
fn every_kind_of_fragment_is_seen_and_dont_fragment_is_none() {
    for (word, fragment) in
        [(0x4000, false), (0, false), (0x2000, true), (1, true), (0x1f00, true), (0x2109, true)]
    {
        let h = Header4 { fragment_be: u16::to_be(word), ..header4() };
        let ip = h.parse(40).unwrap();
        assert_eq!((ip.fragment, ip.is_plain()), (fragment, !fragment), "{word:#x}");
    }
    let options = Header4 { version: 0x46, ..header4() };
    assert!(!options.parse(40).unwrap().is_plain());
}

#[test]
fn ttl_of_one_is_not_forwarded() {
    for (ttl, expected) in [(0, false), (1, false), (2, true), (255, true)] {
        assert_eq!(Header4 { ttl, ..header4() }.parse(40).unwrap().may_be_forwarded(), expected);
    }
}

/// Of 48 bytes.
fn header6() -> [u8; 40] {
    let mut header = [0; 40];
    header[..8].copy_from_slice(&[0x6a, 0xb0, 0, 1, 0, 8, 17, 64]);
    header[8..24].copy_from_slice(&"2001:db8::1".parse::<Ipv6Addr>().unwrap().octets());
    header[24..40].copy_from_slice(&"2001:db8:1::a".parse::<Ipv6Addr>().unwrap().octets());
    header
}

#[test]
fn a_plain_ipv6_header_is_read() {
    let ip = Header6::of(&header6()).parse(48).unwrap();
    let address = |text: &str| address(&text.parse::<Ipv6Addr>().unwrap().octets(), 0);
    assert_eq!((ip.source_be, ip.destination_be), (address("2001:db8::1"), address("2001:db8:1::a")));
    assert_eq!((ip.protocol, ip.ttl, ip.class, ip.total), (17, 64, 0xab, 48));
    assert!(ip.is_plain() && ip.whole);
}

#[test]
fn contradictory_ipv6_headers_are_refused() {
    let parse = |change: fn(&mut [u8; 40]), length| {
        let mut bytes = header6();
        change(&mut bytes);
        Header6::of(&bytes).parse(length)
    };
    assert_eq!(parse(|b| b[0] = 0x45, 48), Err(Reason::Malformed));
    assert_eq!(parse(|_| (), 47), Err(Reason::Malformed), "less than the payload");
    assert_eq!(parse(|b| b[5] = 0, 39), Err(Reason::Malformed), "less than the header");
    assert!(parse(|_| (), 60).is_ok(), "Ethernet padding is allowed");
    assert_eq!(parse(|b| b[5] = 0, 100_000).unwrap().total, 0, "an aggregate beyond 64 KiB says 0");
}

#[test]
fn hop_limit_of_one_is_not_forwarded() {
    for (hop_limit, expected) in [(0, false), (1, false), (2, true), (255, true)] {
        let header = Header6 { hop_limit, ..Header6::of(&header6()) };
        assert_eq!(header.parse(48).unwrap().may_be_forwarded(), expected);
    }
}

proptest! {
    #[test]
    fn an_ipv6_header_that_was_built_is_read_back(source_be: [u32; 4], destination_be: [u32; 4], protocol: u8, ttl: u8, class: u8, label: u32, payload: u16) {
        let built = header::ipv6(&header::Ipv6Header {
            source_be, destination_be, next_header: protocol, hop_limit: ttl, traffic_class: class,
            flow_label: label, payload_bytes: u32::from(payload),
        });
        let length = u32::from(payload) + 40;
        let total = if payload == 0 { 0 } else { length };
        prop_assert_eq!(
            Header6::of(&built).parse(length),
            Ok(Ip { source_be, destination_be, protocol, ttl, class, fragment: false, options: false, whole: true, total })
        );
        prop_assert_eq!(Header6::of(&built).parse(length - 1), Err(Reason::Malformed));
    }

    #[test]
    fn arbitrary_bytes_do_no_harm(four: [u8; 20], six in any::<([u8; 20], [u8; 20])>(), length: u32, version: bool) {
        let mut four = four;
        let mut six: [u8; 40] = [six.0, six.1].concat().try_into().unwrap();
        if version {
            // Past the first check.
            (four[0], six[0]) = (0x40 | four[0] & 0x0f, 0x60 | six[0] & 0x0f);
        }
        if let Ok(ip) = Header4::of(&four).parse(length) {
            prop_assert!(four[0] >= 0x45 && length >= 20 && ip.total <= length);
            prop_assert_eq!(&ip.destination_be.to_ne_bytes(), &four[16..]);
        }
        if let Ok(ip) = Header6::of(&six).parse(length) {
            prop_assert!(six[0] >> 4 == 6 && length >= 40 && ip.total <= length);
            prop_assert_eq!(ip.source_be, address(&six, 8));
        }
    }
}
