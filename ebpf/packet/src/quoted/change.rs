//! What translating a quoted packet does to three checksums (RFC 1624): the inner header's, the inner
//! transport's where it is quoted, and the error's own, which covers both of them and everything that changed.

use lockstep_abi::UDP;
use lockstep_abi::checksum::{add, apply, replace};

use super::Tuple;
use crate::bytes::{half, put_half};
use crate::{icmp, icmp6, sum};

/// What becomes of a quoted tuple, as [`lockstep_abi::checksum`] differences. They are those that the flow entry found
/// holds for packets of its own direction: the quotation is such a packet turned around.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    /// Of both addresses.
    pub addresses: u32,
    /// Of both ports.
    pub ports: u32,
}

impl Change {
    /// From one IPv4 tuple to another.
    #[inline(always)]
    pub const fn of4(from: &Tuple<u32>, to: &Tuple<u32>) -> Self {
        let source = replace(from.source_be, to.source_be);
        let destination = replace(from.destination_be, to.destination_be);
        Self { addresses: add(source, destination), ports: ports(from, to) }
    }

    /// From one IPv6 tuple to another.
    #[inline(always)]
    pub const fn of6(from: &Tuple<[u32; 4]>, to: &Tuple<[u32; 4]>) -> Self {
        let source = difference6(&from.source_be, &to.source_be);
        let destination = difference6(&from.destination_be, &to.destination_be);
        Self { addresses: add(source, destination), ports: ports(from, to) }
    }
}

#[inline(always)]
const fn ports<A>(from: &Tuple<A>, to: &Tuple<A>) -> u32 {
    let source = replace(from.source_port_be as u32, to.source_port_be as u32);
    add(source, replace(from.destination_port_be as u32, to.destination_port_be as u32))
}

/// The difference that another IPv6 address makes.
#[inline(always)]
pub const fn difference6(from: &[u32; 4], to: &[u32; 4]) -> u32 {
    replace(sum::address6(from), sum::address6(to))
}

/// [`lockstep_abi::checksum`] differences of the three checksums.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Differences {
    /// Of the inner IPv4 header's checksum; 0 for IPv6, which has none.
    pub header: u32,
    /// Of the inner transport's checksum, if it is quoted.
    pub transport: u32,
    /// Of the error's checksum: all of the above and the bytes themselves; for ICMPv6 also the outer addresses.
    pub icmp: u32,
}

/// For IPv4. `transport_checksum`: the inner transport's checksum is quoted, is not zero, and will be changed by
/// `transport`. With 8 bytes quoted that is so for UDP and ICMP, not for TCP and SCTP. A receiver does not check it,
/// so that a TCP checksum further in may stay as it is.
#[inline(always)]
pub const fn differences4(protocol: u8, change: Change, transport_checksum: bool) -> Differences {
    let Change { addresses, ports } = change;
    // ICMPv4 has no pseudo header.
    let transport = if protocol == icmp::PROTOCOL { ports } else { add(addresses, ports) };
    // The addresses and the header's checksum that makes up for them cancel out.
    let icmp = if transport_checksum { add(ports, !transport) } else { ports };
    Differences { header: addresses, transport, icmp }
}

/// For IPv6; see [`differences4`]. `outer` is the [`difference6`] of both outer addresses, which are in the error's
/// pseudo header.
#[inline(always)]
pub const fn differences6(change: Change, outer: u32, transport_checksum: bool) -> Differences {
    let transport = add(change.addresses, change.ports);
    // There is no header checksum to make up for the addresses, but the transport's does.
    let inner = if transport_checksum { 0 } else { transport };
    Differences { header: 0, transport, icmp: add(inner, outer) }
}

/// A translated quotation. The addresses are the new tuple's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rewritten {
    /// The inner IPv4 header's checksum, as in memory; 0 for IPv6, which has none.
    pub header_checksum: u16,
    /// The first 8 bytes of the inner transport.
    pub transport: [u8; 8],
    /// The error's checksum, as in memory.
    pub icmp_checksum: u16,
}

/// Translates a quotation of `protocol`, given the checksums of inner header and error as in memory, to the new
/// tuple's ports (source, destination). What is quoted behind the 8 bytes stays. The caller writes the new tuple's
/// addresses into the inner header, and what this returns into its places.
#[inline(always)]
pub const fn rewrite4(
    protocol: u8,
    header_checksum: u16,
    transport: &[u8; 8],
    icmp_checksum: u16,
    change: Change,
    ports: (u16, u16),
) -> Rewritten {
    let echo = protocol == icmp::PROTOCOL;
    let checksum_at = checksum_at(protocol, echo, transport);
    let differences = differences4(protocol, change, checksum_at.is_some());
    let asks = transport[0] == icmp::ECHO_REQUEST;
    Rewritten {
        header_checksum: apply(header_checksum, differences.header),
        transport: rewrite_transport(transport, echo, asks, ports, checksum_at, differences.transport),
        icmp_checksum: apply(icmp_checksum, differences.icmp),
    }
}

/// As [`rewrite4`]; `outer` as for [`differences6`].
#[inline(always)]
pub const fn rewrite6(
    protocol: u8,
    transport: &[u8; 8],
    icmp_checksum: u16,
    change: Change,
    outer: u32,
    ports: (u16, u16),
) -> Rewritten {
    let echo = protocol == icmp6::PROTOCOL;
    let checksum_at = checksum_at(protocol, echo, transport);
    let differences = differences6(change, outer, checksum_at.is_some());
    let asks = transport[0] == icmp6::ECHO_REQUEST;
    Rewritten {
        header_checksum: 0,
        transport: rewrite_transport(transport, echo, asks, ports, checksum_at, differences.transport),
        icmp_checksum: apply(icmp_checksum, differences.icmp),
    }
}

/// A checksum within a transport's first 8 bytes.
#[derive(Clone, Copy)]
enum ChecksumAt {
    /// Bytes 2 and 3.
    Icmp,
    /// Bytes 6 and 7.
    Udp,
}

#[inline(always)]
const fn checksum_at(protocol: u8, echo: bool, transport: &[u8; 8]) -> Option<ChecksumAt> {
    if echo {
        return Some(ChecksumAt::Icmp);
    }
    // Zero: the sender made none.
    if protocol == UDP && half(transport, 6) != 0 { Some(ChecksumAt::Udp) } else { None }
}

#[inline(always)]
const fn rewrite_transport(
    transport: &[u8; 8],
    echo: bool,
    asks: bool,
    ports: (u16, u16),
    checksum_at: Option<ChecksumAt>,
    difference: u32,
) -> [u8; 8] {
    let mut new = *transport;
    if echo {
        // The identifier stands on the asking side.
        put_half(&mut new, 4, if asks { ports.0 } else { ports.1 });
    } else {
        put_half(&mut new, 0, ports.0);
        put_half(&mut new, 2, ports.1);
    }
    match checksum_at {
        Some(ChecksumAt::Icmp) => put_half(&mut new, 2, apply(half(transport, 2), difference)),
        Some(ChecksumAt::Udp) => put_half(&mut new, 6, sum::apply_udp(half(transport, 6), difference)),
        None => {}
    }
    new
}
