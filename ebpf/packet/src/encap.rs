//! Outer headers for direct server return over routed networks: IP in IP (RFC 2003, 2473, 4213) and Generic UDP
//! Encapsulation (draft-ietf-intarea-gue, variant 0).
//!
//! The inner packet stays as it is but for its own time to live, which forwarding decrements as ever. The outer
//! header
//! - starts with a time to live of its own, so that the inner one says how far the endpoint's answer may be;
//! - takes DSCP and ECN from the inner (RFC 6040, normal mode), so that congestion is heard by the endpoint;
//! - copies don't-fragment (RFC 2003, 3.1): a packet that its sender allows to be fragmented may be so on the way to
//!   the endpoint. IPv6 inside counts as don't-fragment. IPv6 outside cannot be fragmented on its way, so there what
//!   is too big is refused before ([`crate::mtu`]);
//! - carries the flow's hash where routers look for entropy: GUE's source port, IPv6's flow label (RFC 6438).
//!
//! GUE's UDP checksum is zero: over IPv4 as for any tunnel; over IPv6 under RFC 6935 and 6936, since the inner
//! packet has its own checksum over its own addresses, and a packet sent to the wrong endpoint is not accepted there.
//! The endpoint must take zero checksums on that port (`udp6zerocsumrx` on Linux).

use crate::header::{Ipv4Header, Ipv6Header, TTL, ipv4, ipv6, length16};

/// Bytes that IP in IPv4 adds.
pub const IN_IPV4: u32 = 20;
/// Bytes that IP in IPv6 adds. Without the tunnel encapsulation limit option of RFC 2473, 4.1.1.
pub const IN_IPV6: u32 = 40;
/// Bytes that GUE over IPv4 adds.
pub const GUE_IPV4: u32 = IN_IPV4 + GUE;
/// Bytes that GUE over IPv6 adds.
pub const GUE_IPV6: u32 = IN_IPV6 + GUE;

/// GUE's UDP port.
pub const GUE_PORT: u16 = 6080;

/// UDP header and GUE header.
const GUE: u32 = 8 + 4;

/// IPv4 inside.
pub const IPIP: u8 = 4;
/// IPv6 inside.
pub const IPV6: u8 = 41;

/// What an outer header takes from the packet inside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Inner {
    /// [`IPIP`] or [`IPV6`].
    pub protocol: u8,
    /// From its IP header on. Of an aggregate that is more than 16 bits can say, the outer length is then 0 and the
    /// kernel writes each segment's.
    pub length_bytes: u32,
    /// DSCP and ECN.
    pub tos: u8,
    /// It must not be fragmented.
    pub dont_fragment: bool,
    /// Its identification, as in memory.
    pub id_be: u16,
    /// The hash of its flow, [`crate::select::flow_hash`].
    pub flow_hash: u32,
}

impl Inner {
    /// An IPv4 packet.
    #[inline(always)]
    pub const fn of_ipv4(header: &[u8; 20], length_bytes: u32, flow_hash: u32) -> Self {
        Self {
            protocol: IPIP,
            length_bytes,
            tos: header[1],
            dont_fragment: header[6] & 0x40 != 0,
            id_be: u16::from_ne_bytes([header[4], header[5]]),
            flow_hash,
        }
    }

    /// An IPv6 packet.
    #[inline(always)]
    pub const fn of_ipv6(header: &[u8; 40], length_bytes: u32, flow_hash: u32) -> Self {
        Self {
            protocol: IPV6,
            length_bytes,
            tos: header[0] << 4 | header[1] >> 4,
            dont_fragment: true,
            id_be: 0,
            flow_hash,
        }
    }

    /// The outer identification. Where fragments are possible it should be unique among what this node sends to the
    /// endpoint (RFC 6864), for which the client's is mixed with the flow's hash: two clients that count alike
    /// do not collide. Elsewhere it means nothing.
    #[inline(always)]
    const fn outer_id_be(&self) -> u16 {
        if self.dont_fragment { 0 } else { self.id_be ^ (self.flow_hash ^ self.flow_hash >> 16) as u16 }
    }

    #[inline(always)]
    const fn outer_ipv4(&self, source_be: u32, destination_be: u32, protocol: u8, more: u32) -> Ipv4Header {
        Ipv4Header {
            source_be,
            destination_be,
            protocol,
            ttl: TTL,
            tos: self.tos,
            id_be: self.outer_id_be(),
            dont_fragment: self.dont_fragment,
            payload_bytes: self.length_bytes.wrapping_add(more),
        }
    }

    #[inline(always)]
    const fn outer_ipv6(
        &self,
        source_be: [u32; 4],
        destination_be: [u32; 4],
        next_header: u8,
        more: u32,
    ) -> Ipv6Header {
        Ipv6Header {
            source_be,
            destination_be,
            next_header,
            hop_limit: TTL,
            traffic_class: self.tos,
            flow_label: self.flow_hash,
            payload_bytes: self.length_bytes.wrapping_add(more),
        }
    }

    /// UDP and GUE headers.
    #[inline(always)]
    const fn gue(&self) -> [u8; GUE as usize] {
        let [s0, s1] = gue_source_port(self.flow_hash).to_be_bytes();
        let [d0, d1] = GUE_PORT.to_be_bytes();
        let [l0, l1] = length16(self.length_bytes.wrapping_add(GUE)).to_be_bytes();
        // Variant 0, data, no optional fields; the protocol inside; no flags.
        [s0, s1, d0, d1, l0, l1, 0, 0, 0, self.protocol, 0, 0]
    }
}

/// A source port from the dynamic range (RFC 6335) for a flow.
#[inline(always)]
pub const fn gue_source_port(flow_hash: u32) -> u16 {
    0xc000 | (flow_hash & 0x3fff) as u16
}

/// The outer header of IP in IPv4.
#[inline(always)]
pub fn in_ipv4(inner: &Inner, source_be: u32, destination_be: u32) -> [u8; IN_IPV4 as usize] {
    ipv4(&inner.outer_ipv4(source_be, destination_be, inner.protocol, 0))
}

/// The outer header of IP in IPv6.
#[inline(always)]
pub fn in_ipv6(inner: &Inner, source_be: [u32; 4], destination_be: [u32; 4]) -> [u8; IN_IPV6 as usize] {
    ipv6(&inner.outer_ipv6(source_be, destination_be, inner.protocol, 0))
}

/// The outer headers of GUE over IPv4.
#[inline(always)]
pub fn gue_ipv4(inner: &Inner, source_be: u32, destination_be: u32) -> [u8; GUE_IPV4 as usize] {
    let mut bytes = [0; GUE_IPV4 as usize];
    let outer = ipv4(&inner.outer_ipv4(source_be, destination_be, lockstep_abi::UDP, GUE));
    bytes[..20].copy_from_slice(&outer);
    bytes[20..].copy_from_slice(&inner.gue());
    bytes
}

/// The outer headers of GUE over IPv6.
#[inline(always)]
pub fn gue_ipv6(inner: &Inner, source_be: [u32; 4], destination_be: [u32; 4]) -> [u8; GUE_IPV6 as usize] {
    let mut bytes = [0; GUE_IPV6 as usize];
    let outer = ipv6(&inner.outer_ipv6(source_be, destination_be, lockstep_abi::UDP, GUE));
    bytes[..40].copy_from_slice(&outer);
    bytes[40..].copy_from_slice(&inner.gue());
    bytes
}

#[cfg(test)]
mod tests;
