//! ICMP for IPv6 (RFC 4443): what a message is, and errors of our own. Unlike ICMPv4's, its checksum covers a
//! pseudo header.

use lockstep_abi::checksum::{add, apply, replace};

use crate::bytes::{half, put_half, put_word, word};
use crate::icmp::Class;
use crate::{ipv6, sum};

/// IANA protocol number.
pub const PROTOCOL: u8 = 58;

/// Bytes of every header.
pub const LENGTH: usize = 8;

/// Packet too big.
pub const PACKET_TOO_BIG: u8 = 2;
/// Time exceeded; code 0: in transit.
pub const TIME_EXCEEDED: u8 = 3;
/// Echo request.
pub const ECHO_REQUEST: u8 = 128;
/// Echo reply.
pub const ECHO_REPLY: u8 = 129;
/// Router solicitation: the first number of neighbour discovery.
pub const ROUTER_SOLICITATION: u8 = 133;
/// Neighbour solicitation.
pub const SOLICITATION: u8 = 135;
/// Neighbour advertisement.
pub const ADVERTISEMENT: u8 = 136;
/// Redirect. No error by its number, but one by its meaning.
pub const REDIRECT: u8 = 137;

/// The class of a message by its type.
#[inline(always)]
pub const fn classify(kind: u8) -> Class {
    match kind {
        ECHO_REQUEST => Class::EchoRequest,
        ECHO_REPLY => Class::EchoReply,
        _ if is_error(kind) => Class::Error,
        _ => Class::Other,
    }
}

/// Whether a message of this type carries the packet it is about. Numbers below 128 that mean nothing yet are
/// errors as well, and what follows their header is the packet (RFC 4443, 2.4).
#[inline(always)]
pub const fn is_error(kind: u8) -> bool {
    kind < 128
}

/// The ports of an echo's tuple; see [`crate::icmp::echo_ports`].
#[inline(always)]
pub const fn echo_ports(kind: u8, id_be: u16) -> Option<(u16, u16)> {
    match kind {
        ECHO_REQUEST => Some((id_be, 0)),
        ECHO_REPLY => Some((0, id_be)),
        _ => None,
    }
}

/// The [`lockstep_abi::checksum`] difference that turning a request into its reply makes. Swapping the addresses
/// makes none.
pub const ECHO_ANSWERED: u32 =
    replace(u16::from_ne_bytes([ECHO_REQUEST, 0]) as u32, u16::from_ne_bytes([ECHO_REPLY, 0]) as u32);

/// The MTU in a packet-too-big message. `None`: another message.
#[inline(always)]
pub const fn mtu(header: &[u8; LENGTH]) -> Option<u32> {
    if header[0] == PACKET_TOO_BIG { Some(u32::from_be(word(header, 4))) } else { None }
}

/// A packet-too-big message's header with another MTU.
#[inline(always)]
pub const fn with_mtu(header: &[u8; LENGTH], mtu_bytes: u32) -> [u8; LENGTH] {
    let mut new = *header;
    put_word(&mut new, 4, mtu_bytes.to_be());
    let difference = replace(word(header, 4), mtu_bytes.to_be());
    put_half(&mut new, 2, apply(half(header, 2), difference));
    new
}

/// What a message's checksum covers besides its header: addresses and length, and the sum of the `body_bytes` that
/// follow the header.
#[inline(always)]
pub const fn covered(source_be: &[u32; 4], destination_be: &[u32; 4], body_bytes: u32, body_sum: u32) -> u32 {
    let length_bytes = body_bytes.wrapping_add(LENGTH as u32);
    add(sum::pseudo6(source_be, destination_be, length_bytes, PROTOCOL), body_sum)
}

/// A message's header; see [`covered`].
#[inline(always)]
pub fn header(kind: u8, code: u8, rest: [u8; 4], covered: u32) -> [u8; LENGTH] {
    let mut bytes = [kind, code, 0, 0, rest[0], rest[1], rest[2], rest[3]];
    let checksum = sum::field(add(sum::bytes(&bytes), covered));
    put_half(&mut bytes, 2, checksum);
    bytes
}

/// Packet too big: what is quoted behind it does not fit in `mtu_bytes`.
#[inline(always)]
pub fn packet_too_big(mtu_bytes: u32, covered: u32) -> [u8; LENGTH] {
    header(PACKET_TOO_BIG, 0, mtu_bytes.to_be_bytes(), covered)
}

/// Hop limit exceeded in transit.
#[inline(always)]
pub fn time_exceeded(covered: u32) -> [u8; LENGTH] {
    header(TIME_EXCEEDED, 0, [0; 4], covered)
}

/// Whether a packet may be answered with an error (RFC 4443, 2.4 e): it is no ICMPv6 error or redirect itself,
/// the first fragment if any, and from one node to one node. `icmp_kind` matters only when `protocol` is
/// ICMPv6. Packet too big would be allowed about multicast, which is not forwarded here.
#[inline(always)]
pub const fn may_be_reported(
    source_be: &[u32; 4],
    destination_be: &[u32; 4],
    protocol: u8,
    icmp_kind: u8,
    fragment_offset_bytes: u32,
) -> bool {
    let one_node = !ipv6::is_unspecified(source_be)
        && !ipv6::is_multicast(source_be)
        && !ipv6::is_multicast(destination_be);
    let error = protocol == PROTOCOL && (is_error(icmp_kind) || icmp_kind == REDIRECT);
    one_node && fragment_offset_bytes == 0 && !error
}

#[cfg(test)]
mod tests;
