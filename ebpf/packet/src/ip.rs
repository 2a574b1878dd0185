//! The headers of IPv4 and IPv6 as the pipeline needs them, laid out as they stand in a packet.

use lockstep_abi::reason::Reason;

use crate::bytes::{address, half};
use crate::ipv6;

/// What the dataplane needs of a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ip<A> {
    /// Source, network order.
    pub source_be: A,
    /// Destination, network order.
    pub destination_be: A,
    /// IANA protocol. Of IPv6: of the next header, which may be an extension.
    pub protocol: u8,
    /// Time to live, or hop limit, as received.
    pub ttl: u8,
    /// Type of service, or traffic class.
    pub class: u8,
    /// Any fragment, the first included. Of IPv6: never, that is an extension header.
    pub fragment: bool,
    /// The header is longer than the shortest (IPv4).
    pub options: bool,
    /// The packet may not be fragmented on its way.
    pub whole: bool,
    /// Bytes of the packet by its own account, header included; 0 in an aggregate beyond 64 KiB.
    pub total: u32,
}

impl<A> Ip<A> {
    /// Whether a router may pass it on.
    #[inline(always)]
    pub const fn may_be_forwarded(&self) -> bool {
        self.ttl > 1
    }

    /// Whether the transport header follows at once.
    #[inline(always)]
    pub const fn is_plain(&self) -> bool {
        !self.fragment && !self.options
    }
}

/// RFC 791, section 3.1, without options.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Header4 {
    /// Version and length in words.
    pub version: u8,
    /// Type of service.
    pub tos: u8,
    /// Total length.
    pub total_be: u16,
    /// Identification.
    pub id_be: u16,
    /// Flags and fragment offset.
    pub fragment_be: u16,
    /// Time to live.
    pub ttl: u8,
    /// Protocol.
    pub protocol: u8,
    /// Header checksum.
    pub checksum: u16,
    /// Source.
    pub source_be: u32,
    /// Destination.
    pub destination_be: u32,
}

/// More-fragments, or an offset.
const FRAGMENT_BE: u16 = 0x3fffu16.to_be();
const DONT_FRAGMENT_BE: u16 = 0x4000u16.to_be();

impl Header4 {
    /// The header that these bytes are.
    pub const fn of(bytes: &[u8; 20]) -> Self {
        let [version, tos, t0, t1, i0, i1, f0, f1, ttl, protocol, c0, c1, s0, s1, s2, s3, d0, d1, d2, d3] =
            *bytes;
        Self {
            version,
            tos,
            total_be: u16::from_ne_bytes([t0, t1]),
            id_be: u16::from_ne_bytes([i0, i1]),
            fragment_be: u16::from_ne_bytes([f0, f1]),
            ttl,
            protocol,
            checksum: u16::from_ne_bytes([c0, c1]),
            source_be: u32::from_ne_bytes([s0, s1, s2, s3]),
            destination_be: u32::from_ne_bytes([d0, d1, d2, d3]),
        }
    }

    /// `length` is what the frame holds from the header on. An aggregated (GSO) packet may hold more than its
    /// 16-bit total length says.
    #[inline(always)]
    pub const fn parse(&self, length: u32) -> Result<Ip<u32>, Reason> {
        let bytes = (self.version & 0x0f) as u32 * 4;
        let total = u16::from_be(self.total_be) as u32;
        // Total length 0 is what an aggregate beyond 64 KiB says (BIG TCP).
        if self.version >> 4 != 4
            || bytes < 20
            || length < bytes
            || (total != 0 && (total < bytes || total > length))
        {
            return Err(Reason::Malformed);
        }
        Ok(Ip {
            source_be: self.source_be,
            destination_be: self.destination_be,
            protocol: self.protocol,
            ttl: self.ttl,
            class: self.tos,
            fragment: self.fragment_be & FRAGMENT_BE != 0,
            options: bytes > 20,
            whole: self.fragment_be & DONT_FRAGMENT_BE != 0,
            total,
        })
    }
}

/// RFC 8200, section 3.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Header6 {
    /// Version, traffic class, flow label.
    pub version: [u8; 4],
    /// Length of what follows.
    pub payload_be: u16,
    /// Next header.
    pub next: u8,
    /// Hop limit.
    pub hop_limit: u8,
    /// Source.
    pub source_be: [u32; 4],
    /// Destination.
    pub destination_be: [u32; 4],
}

/// Bytes of the fixed header.
const HEADER6: u32 = ipv6::LENGTH as u32;

impl Header6 {
    /// The header that these bytes are.
    pub const fn of(bytes: &[u8; ipv6::LENGTH]) -> Self {
        Self {
            version: [bytes[0], bytes[1], bytes[2], bytes[3]],
            payload_be: half(bytes, 4),
            next: bytes[6],
            hop_limit: bytes[7],
            source_be: address(bytes, 8),
            destination_be: address(bytes, 24),
        }
    }

    /// See [`Header4::parse`]. Payload length 0 is what an aggregate beyond 64 KiB says, or a jumbogram.
    #[inline(always)]
    pub const fn parse(&self, length: u32) -> Result<Ip<[u32; 4]>, Reason> {
        let payload = u16::from_be(self.payload_be) as u32;
        let total = if payload == 0 { 0 } else { HEADER6 + payload };
        if self.version[0] >> 4 != 6 || length < HEADER6 || total > length {
            return Err(Reason::Malformed);
        }
        Ok(Ip {
            source_be: self.source_be,
            destination_be: self.destination_be,
            protocol: self.next,
            ttl: self.hop_limit,
            class: self.version[0] << 4 | self.version[1] >> 4,
            fragment: false,
            options: false,
            whole: true,
            total,
        })
    }
}

#[cfg(test)]
mod tests;
