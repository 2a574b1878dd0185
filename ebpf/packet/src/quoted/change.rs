//! What translating a quoted packet does to three checksums (RFC 1624): the inner header's, the inner
//! transport's where it is quoted, and the error's own, which covers both of them and everything that changed.

use lockstep_abi::UDP;
use lockstep_abi::checksum::{add, apply, replace};

use super::Tuple;
use crate::bytes::{half, put_address, put_half, put_word};
use crate::{icmp, icmp6, ipv6, sum};

/// [`lockstep_abi::checksum`] differences.
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
/// `transport`. With 8 bytes quoted that is so for UDP and ICMP, not for TCP and SCTP. A receiver does not check it, so
/// that a TCP checksum further in may stay as it is.
#[inline(always)]
pub const fn differences4(from: &Tuple<u32>, to: &Tuple<u32>, transport_checksum: bool) -> Differences {
    let addresses =
        add(replace(from.source_be, to.source_be), replace(from.destination_be, to.destination_be));
    let ports =
        ports(from.source_port_be, from.destination_port_be, to.source_port_be, to.destination_port_be);
    // ICMPv4 has no pseudo header.
    let transport = if from.protocol == icmp::PROTOCOL { ports } else { add(addresses, ports) };
    // The addresses and the header's checksum that makes up for them cancel out.
    let icmp = if transport_checksum { add(ports, !transport) } else { ports };
    Differences { header: addresses, transport, icmp }
}

/// For IPv6; see [`differences4`]. The outer addresses are in the error's pseudo header: (source, destination)
/// before and after.
#[inline(always)]
pub const fn differences6(
    from: &Tuple<[u32; 4]>,
    to: &Tuple<[u32; 4]>,
    outer_from: (&[u32; 4], &[u32; 4]),
    outer_to: (&[u32; 4], &[u32; 4]),
    transport_checksum: bool,
) -> Differences {
    let addresses = add(
        difference6(&from.source_be, &to.source_be),
        difference6(&from.destination_be, &to.destination_be),
    );
    let ports =
        ports(from.source_port_be, from.destination_port_be, to.source_port_be, to.destination_port_be);
    let transport = add(addresses, ports);
    let outer = add(difference6(outer_from.0, outer_to.0), difference6(outer_from.1, outer_to.1));
    // There is no header checksum to make up for the addresses, but the transport's does.
    let inner = if transport_checksum { 0 } else { transport };
    Differences { header: 0, transport, icmp: add(inner, outer) }
}

#[inline(always)]
const fn ports(source: u16, destination: u16, new_source: u16, new_destination: u16) -> u32 {
    add(replace(source as u32, new_source as u32), replace(destination as u32, new_destination as u32))
}

#[inline(always)]
const fn difference6(from: &[u32; 4], to: &[u32; 4]) -> u32 {
    replace(sum::address6(from), sum::address6(to))
}

/// A translated quotation, IPv4.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rewritten4 {
    /// The inner header.
    pub header: [u8; 20],
    /// The first 8 bytes of its transport.
    pub transport: [u8; 8],
    /// The error's checksum, as in memory.
    pub icmp_checksum: u16,
}

/// Translates a quotation whose tuple is `from` ([`super::parse4`] of the same bytes) to the tuple `to` of the
/// same protocol. What is quoted behind these bytes stays.
#[inline(always)]
pub const fn rewrite4(
    header: &[u8; 20],
    transport: &[u8; 8],
    icmp_checksum: u16,
    from: &Tuple<u32>,
    to: &Tuple<u32>,
) -> Rewritten4 {
    let checksum_at = checksum_at(from.protocol, icmp::PROTOCOL, transport);
    let differences = differences4(from, to, checksum_at.is_some());
    let mut new = *header;
    put_word(&mut new, 12, to.source_be);
    put_word(&mut new, 16, to.destination_be);
    put_half(&mut new, 10, apply(half(header, 10), differences.header));
    let echo_id = if transport[0] == icmp::ECHO_REQUEST { to.source_port_be } else { to.destination_port_be };
    let echo = from.protocol == icmp::PROTOCOL;
    Rewritten4 {
        header: new,
        transport: rewrite_transport(
            transport,
            if echo { Some(echo_id) } else { None },
            (to.source_port_be, to.destination_port_be),
            checksum_at,
            differences.transport,
        ),
        icmp_checksum: apply(icmp_checksum, differences.icmp),
    }
}

/// A translated quotation, IPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rewritten6 {
    /// The inner header.
    pub header: [u8; ipv6::LENGTH],
    /// The first 8 bytes of its transport.
    pub transport: [u8; 8],
    /// The error's checksum, as in memory.
    pub icmp_checksum: u16,
}

/// As [`rewrite4`]; the outer addresses as for [`differences6`].
#[inline(always)]
pub const fn rewrite6(
    header: &[u8; ipv6::LENGTH],
    transport: &[u8; 8],
    icmp_checksum: u16,
    from: &Tuple<[u32; 4]>,
    to: &Tuple<[u32; 4]>,
    outer_from: (&[u32; 4], &[u32; 4]),
    outer_to: (&[u32; 4], &[u32; 4]),
) -> Rewritten6 {
    let checksum_at = checksum_at(from.protocol, icmp6::PROTOCOL, transport);
    let differences = differences6(from, to, outer_from, outer_to, checksum_at.is_some());
    let mut new = *header;
    put_address(&mut new, 8, to.source_be);
    put_address(&mut new, 24, to.destination_be);
    let echo_id =
        if transport[0] == icmp6::ECHO_REQUEST { to.source_port_be } else { to.destination_port_be };
    let echo = from.protocol == icmp6::PROTOCOL;
    Rewritten6 {
        header: new,
        transport: rewrite_transport(
            transport,
            if echo { Some(echo_id) } else { None },
            (to.source_port_be, to.destination_port_be),
            checksum_at,
            differences.transport,
        ),
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
const fn checksum_at(protocol: u8, icmp_of_family: u8, transport: &[u8; 8]) -> Option<ChecksumAt> {
    if protocol == icmp_of_family {
        return Some(ChecksumAt::Icmp);
    }
    // Zero: the sender made none.
    if protocol == UDP && half(transport, 6) != 0 { Some(ChecksumAt::Udp) } else { None }
}

#[inline(always)]
const fn rewrite_transport(
    transport: &[u8; 8],
    echo_id: Option<u16>,
    ports: (u16, u16),
    checksum_at: Option<ChecksumAt>,
    difference: u32,
) -> [u8; 8] {
    let mut new = *transport;
    match echo_id {
        Some(id) => put_half(&mut new, 4, id),
        None => {
            put_half(&mut new, 0, ports.0);
            put_half(&mut new, 2, ports.1);
        }
    }
    match checksum_at {
        Some(ChecksumAt::Icmp) => put_half(&mut new, 2, apply(half(transport, 2), difference)),
        Some(ChecksumAt::Udp) => put_half(&mut new, 6, sum::apply_udp(half(transport, 6), difference)),
        None => {}
    }
    new
}
