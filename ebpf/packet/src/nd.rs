//! Neighbour discovery for IPv6 over Ethernet (RFC 4861): who asks for an address, and the answer.

use lockstep_abi::checksum::{add, fold};

use crate::bytes::{address, put_address, put_half};
use crate::header::{Ipv6Header, ipv6 as ipv6_header};
use crate::icmp6::{ADVERTISEMENT, PROTOCOL, SOLICITATION};
use crate::{ipv6, sum};

/// Bytes of a solicitation without options.
pub const SOLICITATION_LENGTH: u32 = 24;
/// Bytes of the longest solicitation read: two options of 8 bytes, as Linux sends them at most (link-layer
/// address, nonce of RFC 7527).
pub const MAX_SOLICITATION_LENGTH: usize = 40;
/// Bytes of an advertisement with its option.
pub const ADVERTISEMENT_LENGTH: usize = 32;
/// Bytes of an unsolicited advertisement with its Ethernet and IPv6 headers.
pub const FRAME_LENGTH: usize = 14 + ipv6::LENGTH + ADVERTISEMENT_LENGTH;

/// Neighbour discovery is believed, and sent, with this hop limit only: it has crossed no router.
pub const HOP_LIMIT: u8 = 255;

const SOURCE_LINK_LAYER: u8 = 1;
const TARGET_LINK_LAYER: u8 = 2;

const ROUTER: u8 = 0x80;
const SOLICITED: u8 = 0x40;
const OVERRIDE: u8 = 0x20;

/// A question that may be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Solicitation {
    /// Who asks, network order; unspecified in duplicate address detection.
    pub source_be: [u32; 4],
    /// Its MAC: from the option, else `None` (a unicast probe need not have it). The frame's source serves then.
    pub source_mac: Option<[u8; 6]>,
    /// The address asked for, network order.
    pub target_be: [u32; 4],
}

/// Reads a solicitation. `message` is the ICMPv6 message, `length` its length in bytes as the IPv6 header says it;
/// what is beyond that in `message` is zero. `None`: no solicitation, or one that RFC 4861, 7.1.1, discards: hop
/// limit, code, length, checksum, multicast target, an option without length, and with an unspecified source a
/// destination that is not solicited-node or a link-layer option. One longer than `message` is not read either.
#[inline(always)]
pub fn solicitation(
    source_be: &[u32; 4],
    destination_be: &[u32; 4],
    hop_limit: u8,
    message: &[u8; MAX_SOLICITATION_LENGTH],
    length: u32,
) -> Option<Solicitation> {
    if message[0] != SOLICITATION
        || message[1] != 0
        || hop_limit != HOP_LIMIT
        || !matches!(length, 24 | 32 | 40)
    {
        return None;
    }
    let covered = sum::pseudo6(source_be, destination_be, length, PROTOCOL);
    if fold(add(covered, sum::bytes(message))) != 0xffff {
        return None;
    }
    let target_be = address(message, 8);
    if ipv6::is_multicast(&target_be) {
        return None;
    }
    let source_mac = source_link_layer(message, length)?;
    if ipv6::is_unspecified(source_be) && (source_mac.is_some() || !is_solicited_node(destination_be)) {
        return None;
    }
    Some(Solicitation { source_be: *source_be, source_mac, target_be })
}

/// The outer `None`: an option is malformed.
#[inline(always)]
const fn source_link_layer(message: &[u8; MAX_SOLICITATION_LENGTH], length: u32) -> Option<Option<[u8; 6]>> {
    if length == SOLICITATION_LENGTH {
        return Some(None);
    }
    let (kind, units) = (message[24], message[25]);
    let left_units = if length == 32 { 1 } else { 2 };
    if units == 0 || units > left_units {
        return None;
    }
    if kind == SOURCE_LINK_LAYER && units == 1 {
        return Some(Some([message[26], message[27], message[28], message[29], message[30], message[31]]));
    }
    if units == left_units {
        return Some(None);
    }
    let (kind, units) = (message[32], message[33]);
    if units != 1 {
        return None;
    }
    if kind == SOURCE_LINK_LAYER {
        return Some(Some([message[34], message[35], message[36], message[37], message[38], message[39]]));
    }
    Some(None)
}

/// An answer; its source is the target, its hop limit [`HOP_LIMIT`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Advertisement {
    /// Where it goes.
    pub destination_be: [u32; 4],
    /// The MAC it goes to; `None`: that of the frame with the question.
    pub destination_mac: Option<[u8; 6]>,
    /// The ICMPv6 message with its checksum.
    pub message: [u8; ADVERTISEMENT_LENGTH],
}

/// The answer: `mac` has the target's address (RFC 4861, 7.2.4). To who asks, solicited; to all nodes, not
/// solicited, when it asks with an unspecified source. It overrides what caches hold: the address is a unicast address
/// that moved here, neither anycast nor proxied. `router` is to be set for addresses that are used as a default
/// route: a host that hears an advertisement without it forgets the router (7.2.5).
#[inline(always)]
pub fn advertisement(question: &Solicitation, mac: [u8; 6], router: bool) -> Advertisement {
    let duplicate_detection = ipv6::is_unspecified(&question.source_be);
    let (destination_be, destination_mac, solicited) = if duplicate_detection {
        (ipv6::ALL_NODES, Some(multicast_mac(&ipv6::ALL_NODES)), 0)
    } else {
        (question.source_be, question.source_mac, SOLICITED)
    };
    let flags = OVERRIDE | solicited | if router { ROUTER } else { 0 };
    let message = message(&question.target_be, &destination_be, mac, flags);
    Advertisement { destination_be, destination_mac, message }
}

/// The frame that announces to everyone on the link that `mac` has an address now (7.2.6).
#[inline(always)]
pub fn unsolicited(target_be: &[u32; 4], mac: [u8; 6], router: bool) -> [u8; FRAME_LENGTH] {
    let flags = OVERRIDE | if router { ROUTER } else { 0 };
    let to = multicast_mac(&ipv6::ALL_NODES);
    let mut frame = [0; FRAME_LENGTH];
    frame[..6].copy_from_slice(&to);
    frame[6..12].copy_from_slice(&mac);
    frame[12..14].copy_from_slice(&[0x86, 0xdd]);
    frame[14..54].copy_from_slice(&ipv6_header(&Ipv6Header {
        source_be: *target_be,
        destination_be: ipv6::ALL_NODES,
        next_header: PROTOCOL,
        hop_limit: HOP_LIMIT,
        traffic_class: 0,
        flow_label: 0,
        payload_bytes: ADVERTISEMENT_LENGTH as u32,
    }));
    frame[54..].copy_from_slice(&message(target_be, &ipv6::ALL_NODES, mac, flags));
    frame
}

#[inline(always)]
fn message(
    target_be: &[u32; 4],
    destination_be: &[u32; 4],
    mac: [u8; 6],
    flags: u8,
) -> [u8; ADVERTISEMENT_LENGTH] {
    let mut message = [0; ADVERTISEMENT_LENGTH];
    message[0] = ADVERTISEMENT;
    message[4] = flags;
    put_address(&mut message, 8, *target_be);
    message[24] = TARGET_LINK_LAYER;
    message[25] = 1;
    [message[26], message[27], message[28], message[29], message[30], message[31]] = mac;
    let covered = sum::pseudo6(target_be, destination_be, ADVERTISEMENT_LENGTH as u32, PROTOCOL);
    let checksum = sum::field(add(covered, sum::bytes(&message)));
    put_half(&mut message, 2, checksum);
    message
}

/// The multicast address that solicitations for an address are sent to: `ff02::1:ff00:0/104` and its last 24
/// bits (RFC 4291, 2.7.1).
#[inline(always)]
pub const fn solicited_node(address_be: &[u32; 4]) -> [u32; 4] {
    let last = 0xff00_0000 | u32::from_be(address_be[3]) & 0x00ff_ffff;
    [0xff02_0000u32.to_be(), 0, 1u32.to_be(), last.to_be()]
}

#[inline(always)]
const fn is_solicited_node(address_be: &[u32; 4]) -> bool {
    ipv6::same(address_be, &solicited_node(address_be))
}

/// The Ethernet address of a multicast address: `33:33` and its last 32 bits (RFC 2464, 7).
#[inline(always)]
pub const fn multicast_mac(address_be: &[u32; 4]) -> [u8; 6] {
    let [a, b, c, d] = address_be[3].to_ne_bytes();
    [0x33, 0x33, a, b, c, d]
}

#[cfg(test)]
mod tests;
