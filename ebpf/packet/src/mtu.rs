//! Which MTU to tell a sender whose packet is too big.
//!
//! What fits is the link's MTU less what a tunnel adds ([`crate::encap`]); nat and dsr-l2 add nothing. An error from
//! beyond a tunnel speaks of the encapsulated packet, so its MTU is reduced by the same.

/// What every IPv4 host must accept (RFC 791), and the least that is reported: a smaller value is what forged
/// messages try. (RFC 1191 allows 68, Linux takes no less than 552.)
pub const MIN_IPV4: u32 = 576;

/// The least MTU of IPv6 (RFC 8200, 5). A tunnel over a link that has less cannot be used for it.
pub const MIN_IPV6: u32 = crate::ipv6::MIN_MTU;

/// The MTU for a frag-needed message.
#[inline(always)]
pub const fn reported4(link_mtu_bytes: u32, overhead_bytes: u32) -> u16 {
    let mtu = at_least(link_mtu_bytes.saturating_sub(overhead_bytes), MIN_IPV4);
    if mtu > 0xffff { 0xffff } else { mtu as u16 }
}

/// The MTU for a packet-too-big message.
#[inline(always)]
pub const fn reported6(link_mtu_bytes: u32, overhead_bytes: u32) -> u32 {
    at_least(link_mtu_bytes.saturating_sub(overhead_bytes), MIN_IPV6)
}

#[inline(always)]
const fn at_least(value: u32, least: u32) -> u32 {
    if value < least { least } else { value }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use proptest::prelude::*;

    use super::*;
    use crate::encap;

    #[test]
    fn each_mode_has_its_mtu() {
        for (overhead, mtu4, mtu6) in [
            (0, 1500, 1500),
            (encap::IN_IPV4, 1480, 1480),
            (encap::IN_IPV6, 1460, 1460),
            (encap::GUE_IPV4, 1468, 1468),
            (encap::GUE_IPV6, 1448, 1448),
        ] {
            assert_eq!((reported4(1500, overhead), reported6(1500, overhead)), (mtu4, mtu6));
        }
    }

    #[test]
    fn no_less_is_reported_than_the_protocols_promise_and_no_more_than_fits_the_field() {
        assert_eq!((reported4(68, 52), reported6(1280, 40)), (576, 1280));
        assert_eq!((reported4(0, 52), reported6(0, 52)), (576, 1280));
        assert_eq!((reported4(70_000, 0), reported6(70_000, 0)), (0xffff, 70_000));
    }

    proptest! {
        #[test]
        fn a_packet_of_the_reported_size_fits(link in 1400u32..70_000, overhead in 0u32..100) {
            prop_assert!(u32::from(reported4(link, overhead)) + overhead <= link);
            prop_assert_eq!(reported6(link, overhead) + overhead, link);
        }
    }
}
