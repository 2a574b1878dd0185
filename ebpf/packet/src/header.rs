//! New network headers, for answers and tunnels.

use crate::bytes::{put_address, put_half, put_word};
use crate::sum;

/// Time to live and hop limit of what is made here (RFC 1700).
pub const TTL: u8 = 64;

/// An IPv4 header without options.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ipv4Header {
    /// Source, network order.
    pub source_be: u32,
    /// Destination, network order.
    pub destination_be: u32,
    /// IANA protocol.
    pub protocol: u8,
    /// Time to live.
    pub ttl: u8,
    /// DSCP and ECN.
    pub tos: u8,
    /// Identification, as in memory. Need not be unique when `dont_fragment` (RFC 6864).
    pub id_be: u16,
    /// No router may fragment it.
    pub dont_fragment: bool,
    /// What follows the header. More than fits in 16 bits is written as a total of 0, as an aggregate says.
    pub payload_bytes: u32,
}

/// The header's bytes, checksum included.
#[inline(always)]
pub fn ipv4(header: &Ipv4Header) -> [u8; 20] {
    let [high, low] = length16(header.payload_bytes.wrapping_add(20)).to_be_bytes();
    let id = header.id_be.to_ne_bytes();
    let flags = if header.dont_fragment { 0x40 } else { 0 };
    let s = header.source_be.to_ne_bytes();
    let d = header.destination_be.to_ne_bytes();
    let mut bytes = [
        0x45,
        header.tos,
        high,
        low,
        id[0],
        id[1],
        flags,
        0,
        header.ttl,
        header.protocol,
        0,
        0, //
        s[0],
        s[1],
        s[2],
        s[3],
        d[0],
        d[1],
        d[2],
        d[3],
    ];
    let checksum = sum::field(sum::bytes(&bytes));
    put_half(&mut bytes, 10, checksum);
    bytes
}

/// An IPv6 header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ipv6Header {
    /// Source, network order.
    pub source_be: [u32; 4],
    /// Destination, network order.
    pub destination_be: [u32; 4],
    /// What follows.
    pub next_header: u8,
    /// Hop limit.
    pub hop_limit: u8,
    /// DSCP and ECN.
    pub traffic_class: u8,
    /// Flow label; its low 20 bits count.
    pub flow_label: u32,
    /// What follows the header. More than fits in 16 bits is written as 0, as an aggregate says.
    pub payload_bytes: u32,
}

/// The header's bytes.
#[inline(always)]
pub fn ipv6(header: &Ipv6Header) -> [u8; 40] {
    let mut bytes = [0; 40];
    let first = 6 << 28 | (header.traffic_class as u32) << 20 | header.flow_label & 0xf_ffff;
    put_word(&mut bytes, 0, first.to_be());
    put_half(&mut bytes, 4, length16(header.payload_bytes).to_be());
    bytes[6] = header.next_header;
    bytes[7] = header.hop_limit;
    put_address(&mut bytes, 8, header.source_be);
    put_address(&mut bytes, 24, header.destination_be);
    bytes
}

/// A 16-bit length; 0 when it does not fit.
#[inline(always)]
pub(crate) const fn length16(length_bytes: u32) -> u16 {
    if length_bytes > 0xffff { 0 } else { length_bytes as u16 }
}

#[cfg(test)]
mod tests;
