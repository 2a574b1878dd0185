//! The packet that an ICMP error quotes, and its translation.
//!
//! An error that we receive about a packet that *we* forwarded quotes it as it left us: already translated.
//! What left us with tuple T belongs to the flow whose other direction has the key T reversed, so
//!
//! ```text
//!   look up   inner.reversed()      in the flow map; the entry's twin is E.twin
//!   becomes   inner  := E.twin      the packet as its sender sent it
//!             outer  := outer(...)  from the translated source, to the packet's sender
//! ```
//!
//! From the endpoints' side about client → endpoint: inner is (client or SNAT, endpoint), its reverse the reply
//! key, whose twin is the original key (client, VIP). From the clients' side about VIP → client: inner is
//! (VIP, client), its reverse the original key, whose twin is the reply key (endpoint, client or SNAT). The
//! lease is that of the entry found, as for any packet of that direction.
//!
//! Transport ports of an echo are those of [`crate::icmp::echo_ports`].

use crate::bytes::{address, half, word};
use crate::{icmp, icmp6};

mod change;
pub use change::{
    Change, Differences, Rewritten, difference6, differences4, differences6, rewrite4, rewrite6,
};

const TCP: u8 = lockstep_abi::TCP;
const UDP: u8 = lockstep_abi::UDP;
const SCTP: u8 = crate::sctp::PROTOCOL;

/// A packet's tuple; `A` is `u32` or `[u32; 4]`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tuple<A> {
    /// Source, network order.
    pub source_be: A,
    /// Destination, network order.
    pub destination_be: A,
    /// Source port, network order.
    pub source_port_be: u16,
    /// Destination port, network order.
    pub destination_port_be: u16,
    /// IANA protocol.
    pub protocol: u8,
}

impl<A: Copy> Tuple<A> {
    /// Both ports, (source, destination).
    #[inline(always)]
    pub const fn ports(&self) -> (u16, u16) {
        (self.source_port_be, self.destination_port_be)
    }

    /// The tuple of packets in the other direction.
    #[inline(always)]
    pub const fn reversed(&self) -> Self {
        Self {
            source_be: self.destination_be,
            destination_be: self.source_be,
            source_port_be: self.destination_port_be,
            destination_port_be: self.source_port_be,
            protocol: self.protocol,
        }
    }
}

/// How long a quoted IPv4 header is, from its first byte: where the caller finds the transport's first 8 bytes.
/// `None`: no IPv4 header.
#[inline(always)]
pub const fn header_length_bytes(first: u8) -> Option<u32> {
    let words = (first & 0x0f) as u32;
    if first >> 4 == 4 && words >= 5 { Some(words * 4) } else { None }
}

/// The tuple of a quoted IPv4 packet: its fixed header and the first 8 bytes of its transport. `None`: not
/// IPv4, a later fragment (it shows no ports), or a protocol that has no flows. Lengths are not checked: a quotation
/// is shorter than the packet.
#[inline(always)]
pub const fn parse4(header: &[u8; 20], transport: &[u8; 8]) -> Option<Tuple<u32>> {
    if header_length_bytes(header[0]).is_none() || header[6] & 0x1f != 0 || header[7] != 0 {
        return None;
    }
    let protocol = header[9];
    let Some((source_port_be, destination_port_be)) = ports(protocol, icmp::PROTOCOL, transport) else {
        return None;
    };
    Some(Tuple {
        source_be: word(header, 12),
        destination_be: word(header, 16),
        source_port_be,
        destination_port_be,
        protocol,
    })
}

/// The tuple of a quoted IPv6 packet. `protocol` and `transport` are what [`crate::extension`] found: behind
/// extension headers, if any, and of a first fragment at most.
#[inline(always)]
pub const fn parse6(header: &[u8; 40], protocol: u8, transport: &[u8; 8]) -> Option<Tuple<[u32; 4]>> {
    if header[0] >> 4 != 6 {
        return None;
    }
    let Some((source_port_be, destination_port_be)) = ports(protocol, icmp6::PROTOCOL, transport) else {
        return None;
    };
    Some(Tuple {
        source_be: address(header, 8),
        destination_be: address(header, 24),
        source_port_be,
        destination_port_be,
        protocol,
    })
}

/// The ports of a quoted packet, (source, destination), by its transport's first 8 bytes; `icmp_of_family` is the number
/// of the one of its family. `None`: a protocol that has no flows.
#[inline(always)]
pub const fn ports(protocol: u8, icmp_of_family: u8, transport: &[u8; 8]) -> Option<(u16, u16)> {
    if protocol == icmp_of_family {
        let id_be = half(transport, 4);
        return if icmp_of_family == icmp::PROTOCOL {
            icmp::echo_ports(transport[0], id_be)
        } else {
            icmp6::echo_ports(transport[0], id_be)
        };
    }
    match protocol {
        TCP | UDP | SCTP => Some((half(transport, 0), half(transport, 2))),
        _ => None,
    }
}

/// The outer addresses, (source, destination), of an error that is passed on. `reply` is the tuple that was
/// looked up (the quoted one reversed), `out` what packets of that direction leave as. The error goes where they
/// go. Where their source is translated, so is the error's, also when a router in between sent it: its address means
/// nothing on the other side, and a filter would drop it (as Linux does). Else the router keeps its name.
#[inline(always)]
pub fn outer<A: Copy + PartialEq>(source_be: A, reply: &Tuple<A>, out: &Tuple<A>) -> (A, A) {
    let source = if reply.source_be == out.source_be { source_be } else { out.source_be };
    (source, out.destination_be)
}

#[cfg(test)]
mod tests;
