//! The IPv6 header (RFC 8200).

use lockstep_abi::reason::Reason;

use crate::bytes::address;

/// Bytes of the fixed header.
pub const LENGTH: usize = 40;

/// The smallest MTU that every link has.
pub const MIN_MTU: u32 = 1280;

/// `::`.
pub const UNSPECIFIED: [u32; 4] = [0; 4];

/// `ff02::1`.
pub const ALL_NODES: [u32; 4] = [0xff02_0000u32.to_be(), 0, 0, 1u32.to_be()];

/// What the dataplane needs of a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ipv6 {
    /// Source, network order.
    pub source_be: [u32; 4],
    /// Destination, network order.
    pub destination_be: [u32; 4],
    /// What follows: an extension header or the transport (see [`crate::extension`]).
    pub next_header: u8,
    /// Hop limit as received.
    pub hop_limit: u8,
}

impl Ipv6 {
    /// Reads the fixed header; `length` is what the frame holds from the header on. An aggregated (GSO) packet
    /// may hold more than its 16-bit payload length says.
    #[inline(always)]
    pub fn parse(header: &[u8; LENGTH], length: u32) -> Result<Self, Reason> {
        // Payload length 0 is what a jumbogram or an aggregate beyond 64 KiB says.
        let payload = u32::from(u16::from_be_bytes([header[4], header[5]]));
        if header[0] >> 4 != 6 || length < payload + LENGTH as u32 {
            return Err(Reason::Malformed);
        }
        Ok(Self {
            source_be: address(header, 8),
            destination_be: address(header, 24),
            next_header: header[6],
            hop_limit: header[7],
        })
    }

    /// Whether a router may pass it on, as far as the hop limit says.
    #[inline(always)]
    pub const fn may_be_forwarded(&self) -> bool {
        self.hop_limit > 1
    }

    /// Whether its addresses keep it on its link (RFC 4291, 2.5.2 and 2.5.6): no router may pass it on.
    #[inline(always)]
    pub const fn stays_on_link(&self) -> bool {
        is_unspecified(&self.source_be)
            || is_link_local(&self.source_be)
            || is_link_local(&self.destination_be)
            || is_multicast(&self.source_be)
    }
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
