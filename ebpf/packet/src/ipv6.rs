//! IPv6 addresses: what kind one is (RFC 4291). The header is read in [`crate::ip`].

/// Bytes of the fixed header (RFC 8200, section 3).
pub const LENGTH: usize = 40;

/// The smallest MTU that every link has.
pub const MIN_MTU: u32 = 1280;

/// `::`.
pub const UNSPECIFIED: [u32; 4] = [0; 4];

/// `::1`.
const LOOPBACK: [u32; 4] = [0, 0, 0, 1u32.to_be()];

/// `ff02::1`.
pub const ALL_NODES: [u32; 4] = [0xff02_0000u32.to_be(), 0, 0, 1u32.to_be()];

/// Whether its addresses keep a packet on its link, or in its node (RFC 4291, 2.5.2, 2.5.3, 2.5.6 and 2.7): no router may
/// pass it on.
#[inline(always)]
pub const fn stays_on_link(source_be: &[u32; 4], destination_be: &[u32; 4]) -> bool {
    is_unspecified(source_be)
        || same(source_be, &LOOPBACK)
        || is_multicast(source_be)
        || is_link_local(source_be)
        || is_link_local(destination_be)
}

/// `::`.
#[inline(always)]
pub const fn is_unspecified(address_be: &[u32; 4]) -> bool {
    address_be[0] | address_be[1] | address_be[2] | address_be[3] == 0
}

/// `ff00::/8`.
#[inline(always)]
pub const fn is_multicast(address_be: &[u32; 4]) -> bool {
    u32::from_be(address_be[0]) >> 24 == 0xff
}

/// `fe80::/10`.
#[inline(always)]
pub const fn is_link_local(address_be: &[u32; 4]) -> bool {
    u32::from_be(address_be[0]) >> 22 == 0xfe80 >> 6
}

/// Whether two addresses are one, word by word: as arrays they may become a call that eBPF has not.
#[inline(always)]
pub const fn same(a: &[u32; 4], b: &[u32; 4]) -> bool {
    (a[0] ^ b[0]) | (a[1] ^ b[1]) | (a[2] ^ b[2]) | (a[3] ^ b[3]) == 0
}

#[cfg(test)]
mod tests;
