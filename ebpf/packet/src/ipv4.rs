//! IPv4 addresses: what kind one is (RFC 6890). The header is read in [`crate::ip`].

/// Whether its source keeps a packet where it is: this network (0/8), loopback (127/8), multicast or broadcast. No router
/// may pass it on (RFC 1812, 5.3.7). Broadcast addresses of subnets are not known here.
#[inline(always)]
pub const fn stays_on_link(source_be: u32) -> bool {
    let source = u32::from_be(source_be);
    let first = source >> 24;
    first == 0 || first == 127 || first >> 4 == 0xe || source == u32::MAX
}

#[cfg(test)]
mod tests {
    extern crate std;
    use core::net::Ipv4Addr;

    use super::*;

    #[test]
    fn addresses_of_no_host_stay_where_they_are() {
        let table = [
            ("0.0.0.0", true),
            ("0.255.255.255", true),
            ("1.0.0.0", false),
            ("126.255.255.255", false),
            ("127.0.0.1", true),
            ("127.255.255.255", true),
            ("128.0.0.0", false),
            ("192.0.2.1", false),
            ("223.255.255.255", false),
            ("224.0.0.0", true),
            ("239.255.255.255", true),
            ("240.0.0.1", false),
            ("255.255.255.254", false),
            ("255.255.255.255", true),
        ];
        for (source, expected) in table {
            let octets = source.parse::<Ipv4Addr>().unwrap().octets();
            assert_eq!(stays_on_link(u32::from_ne_bytes(octets)), expected, "{source}");
        }
    }
}
