//! What differs between IPv4 and IPv6 in answers.

use lockstep_abi::checksum::add;
use lockstep_abi::reason::Reason;
use lockstep_packet::header::{Ipv4Header, Ipv6Header, TTL, ipv4, ipv6};
use lockstep_packet::ip::Ip;
use lockstep_packet::offset::NETWORK;
use lockstep_packet::{icmp, icmp6, mtu};

use crate::family::{Family, V4, V6};
use crate::hook::Tc;
use crate::maps::Address6;
use crate::special::Special;

/// Type of service of an answer: internetwork control (RFC 1812, 4.3.2.5).
const CLASS: u8 = 0xc0;

/// IPv4 or IPv6, in answers.
pub(crate) trait Complain: Special {
    /// Bytes of an IP header.
    const HEADER: u32 = Self::TRANSPORT - NETWORK;
    /// The most that is quoted: the error is to reach everyone.
    const QUOTED: u32;

    /// Whether the packet may be answered with an error.
    fn may_be_reported(ip: &Ip<Self::Address>, protocol: u8, icmp: u8, offset_bytes: u32) -> bool;

    /// An error about what is too big for this MTU, or (0) has lived too long, in the room before the so many bytes of
    /// this sum that are quoted.
    fn tell(
        hook: &Tc,
        source_be: &Self::Address,
        destination_be: &Self::Address,
        mtu_bytes: u32,
        body_bytes: u32,
        body_sum: u32,
    ) -> Result<(), Reason>;

    /// An IP header of an answer from the packet's destination to its source.
    fn head(hook: &Tc, ip: &Ip<Self::Address>, protocol: u8, payload_bytes: u32) -> Result<(), Reason>;
}

impl Complain for V4 {
    const QUOTED: u32 = 576 - 20 - 8;

    #[inline(always)]
    fn may_be_reported(ip: &Ip<u32>, protocol: u8, icmp: u8, offset_bytes: u32) -> bool {
        icmp::may_be_reported(ip.source_be, ip.destination_be, protocol, icmp, offset_bytes)
    }

    #[inline(always)]
    fn tell(
        hook: &Tc,
        source_be: &u32,
        destination_be: &u32,
        mtu_bytes: u32,
        body_bytes: u32,
        body_sum: u32,
    ) -> Result<(), Reason> {
        let header = header4(*source_be, *destination_be, CLASS, icmp::PROTOCOL, body_bytes + 8);
        hook.store_anew(NETWORK, &header)?;
        let message = if mtu_bytes == 0 {
            icmp::time_exceeded(body_sum)
        } else {
            icmp::frag_needed(mtu::reported4(mtu_bytes, 0), body_sum)
        };
        hook.store_anew(Self::TRANSPORT, &message)
    }

    #[inline(always)]
    fn head(hook: &Tc, ip: &Ip<u32>, protocol: u8, payload_bytes: u32) -> Result<(), Reason> {
        let header = header4(ip.destination_be, ip.source_be, 0, protocol, payload_bytes);
        hook.store_anew(NETWORK, &header)
    }
}

/// An identification that need not be unique.
const NO_ID: u16 = 0;

#[inline(always)]
fn header4(source_be: u32, destination_be: u32, tos: u8, protocol: u8, payload_bytes: u32) -> [u8; 20] {
    ipv4(&Ipv4Header {
        source_be,
        destination_be,
        protocol,
        ttl: TTL,
        tos,
        id_be: NO_ID,
        dont_fragment: true,
        payload_bytes,
    })
}

impl Complain for V6 {
    const QUOTED: u32 = mtu::MIN_IPV6 - 40 - 8;

    #[inline(always)]
    fn may_be_reported(ip: &Ip<Address6>, protocol: u8, icmp: u8, offset_bytes: u32) -> bool {
        icmp6::may_be_reported(&ip.source_be, &ip.destination_be, protocol, icmp, offset_bytes)
    }

    #[inline(always)]
    fn tell(
        hook: &Tc,
        source_be: &Address6,
        destination_be: &Address6,
        mtu_bytes: u32,
        body_bytes: u32,
        body_sum: u32,
    ) -> Result<(), Reason> {
        let header = header6(source_be, destination_be, CLASS, icmp6::PROTOCOL, body_bytes + 8);
        hook.store_anew(NETWORK, &header)?;
        let covered = icmp6::covered(source_be, destination_be, body_bytes, body_sum);
        let message = if mtu_bytes == 0 {
            icmp6::time_exceeded(covered)
        } else {
            icmp6::packet_too_big(mtu::reported6(mtu_bytes, 0), covered)
        };
        hook.store_anew(Self::TRANSPORT, &message)
    }

    #[inline(always)]
    fn head(hook: &Tc, ip: &Ip<Address6>, protocol: u8, payload_bytes: u32) -> Result<(), Reason> {
        let header = header6(&ip.destination_be, &ip.source_be, 0, protocol, payload_bytes);
        hook.store_anew(NETWORK, &header)
    }
}

#[inline(always)]
fn header6(
    source_be: &Address6,
    destination_be: &Address6,
    traffic_class: u8,
    next_header: u8,
    payload_bytes: u32,
) -> [u8; 40] {
    ipv6(&Ipv6Header {
        source_be: *source_be,
        destination_be: *destination_be,
        next_header,
        hop_limit: TTL,
        traffic_class,
        flow_label: 0,
        payload_bytes,
    })
}

/// The sum of a pseudo header.
#[inline(always)]
pub(super) fn pseudo<F: Family>(ip: &Ip<F::Address>, protocol: u8, length_bytes: u32) -> u32 {
    use crate::special::sum_of;
    let addresses = add(sum_of(&ip.source_be), sum_of(&ip.destination_be));
    add(addresses, add(length_bytes.to_be(), u32::from(protocol).to_be()))
}
