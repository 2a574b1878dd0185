//! ICMP for IPv4 (RFC 792, 1191): what a message is, and errors of our own.

use lockstep_abi::checksum::{add, apply, replace};

use crate::bytes::{half, put_half};
use crate::sum;

/// IANA protocol number.
pub const PROTOCOL: u8 = 1;

/// Bytes of every header.
pub const LENGTH: usize = 8;

/// Echo reply.
pub const ECHO_REPLY: u8 = 0;
/// Destination unreachable.
pub const UNREACHABLE: u8 = 3;
/// Code of [`UNREACHABLE`]: fragmentation needed, and the packet must not be fragmented.
pub const FRAG_NEEDED: u8 = 4;
/// Echo request.
pub const ECHO_REQUEST: u8 = 8;
/// Time exceeded; code 0: in transit.
pub const TIME_EXCEEDED: u8 = 11;

/// What the dataplane does with a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// A ping.
    EchoRequest,
    /// Its answer.
    EchoReply,
    /// About a packet that it quotes (see [`crate::quoted`]).
    Error,
    /// Anything else: never translated.
    Other,
}

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

/// Whether a message of this type carries the packet it is about, whose addresses would need translation:
/// unreachable, source quench, redirect, time exceeded, parameter problem.
#[inline(always)]
pub const fn is_error(kind: u8) -> bool {
    matches!(kind, 3 | 4 | 5 | 11 | 12)
}

/// The ports of an echo's tuple, (source, destination) as in memory: the identifier stands on the asking side,
/// 0 on the other, so that a reply's tuple is the request's reversed. `None` for other types.
#[inline(always)]
pub const fn echo_ports(kind: u8, id_be: u16) -> Option<(u16, u16)> {
    match kind {
        ECHO_REQUEST => Some((id_be, 0)),
        ECHO_REPLY => Some((0, id_be)),
        _ => None,
    }
}

/// The [`lockstep_abi::checksum`] difference that turning a request into its reply makes.
pub const ECHO_ANSWERED: u32 =
    replace(u16::from_ne_bytes([ECHO_REQUEST, 0]) as u32, u16::from_ne_bytes([ECHO_REPLY, 0]) as u32);

/// The MTU in a frag-needed message; 0 from routers older than RFC 1191. `None`: another message.
#[inline(always)]
pub const fn mtu(header: &[u8; LENGTH]) -> Option<u16> {
    if header[0] == UNREACHABLE && header[1] == FRAG_NEEDED {
        Some(u16::from_be_bytes([header[6], header[7]]))
    } else {
        None
    }
}

/// A frag-needed message's header with another MTU.
#[inline(always)]
pub const fn with_mtu(header: &[u8; LENGTH], mtu_bytes: u16) -> [u8; LENGTH] {
    let difference = replace(half(header, 6) as u32, mtu_bytes.to_be() as u32);
    let mut new = *header;
    put_half(&mut new, 6, mtu_bytes.to_be());
    put_half(&mut new, 2, apply(half(header, 2), difference));
    new
}

/// A message's header. `body_sum` is the sum of what follows it, [`sum::bytes`] of the quoted packet.
#[inline(always)]
pub fn header(kind: u8, code: u8, rest: [u8; 4], body_sum: u32) -> [u8; LENGTH] {
    let mut bytes = [kind, code, 0, 0, rest[0], rest[1], rest[2], rest[3]];
    let checksum = sum::field(add(sum::bytes(&bytes), body_sum));
    put_half(&mut bytes, 2, checksum);
    bytes
}

/// Fragmentation needed (RFC 1191): what is quoted behind it does not fit in `mtu_bytes`.
#[inline(always)]
pub fn frag_needed(mtu_bytes: u16, quoted_sum: u32) -> [u8; LENGTH] {
    let [high, low] = mtu_bytes.to_be_bytes();
    header(UNREACHABLE, FRAG_NEEDED, [0, 0, high, low], quoted_sum)
}

/// Time to live exceeded in transit.
#[inline(always)]
pub fn time_exceeded(quoted_sum: u32) -> [u8; LENGTH] {
    header(TIME_EXCEEDED, 0, [0; 4], quoted_sum)
}

/// Whether a packet may be answered with an error at all (RFC 1812, 4.3.2.7): it is no ICMP error itself, the
/// first fragment if any, and from one host to one host. `icmp_kind` matters only when `protocol` is ICMP.
/// Broadcast addresses of subnets are not known here; a packet sent to a broadcast MAC never gets this far.
#[inline(always)]
pub const fn may_be_reported(
    source_be: u32,
    destination_be: u32,
    protocol: u8,
    icmp_kind: u8,
    fragment_offset_bytes: u32,
) -> bool {
    let source = u32::from_be(source_be) >> 24;
    let destination = u32::from_be(destination_be) >> 24;
    // Not 0/8, 127/8, multicast, reserved, broadcast.
    let one_host = source != 0 && source != 127 && source < 224 && destination < 224;
    one_host && fragment_offset_bytes == 0 && !(protocol == PROTOCOL && is_error(icmp_kind))
}

#[cfg(test)]
mod tests;
