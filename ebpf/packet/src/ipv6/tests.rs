//! Which addresses stay where they are.

extern crate std;
use core::net::Ipv6Addr;

use proptest::prelude::*;

use super::*;
use crate::bytes::address;

fn parse(text: &str) -> [u32; 4] {
    address(&text.parse::<Ipv6Addr>().unwrap().octets(), 0)
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
        ("::1", "2001:db8::2", true),
        ("::2", "2001:db8::2", false),
        ("ff02::1", "2001:db8::2", true),
    ];
    for (source, destination, expected) in table {
        let (source_be, destination_be) = (parse(source), parse(destination));
        assert_eq!(stays_on_link(&source_be, &destination_be), expected, "{source} to {destination}");
    }
    assert_eq!(parse("ff02::1"), ALL_NODES);
    assert!(is_multicast(&ALL_NODES) && !is_multicast(&parse("fe80::1")));
    assert!(is_unspecified(&UNSPECIFIED) && !is_unspecified(&parse("::1")));
}

proptest! {
    #[test]
    fn same_is_equality(a: [u32; 4], word in 0usize..4, bit in 0u32..32) {
        let mut b = a;
        b[word] ^= 1 << bit;
        prop_assert!(same(&a, &a) && !same(&a, &b));
    }
}
