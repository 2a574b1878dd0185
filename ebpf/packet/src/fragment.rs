//! Fragments follow their first: it alone shows ports, and leaves them in a map for the others.
//!
//! The first fragment is treated as a whole packet (flow, state, translation, checksum by difference: the checksum in it
//! covers all pieces) and written down under its key. A later one takes its ports from there, and only its
//! addresses change. A later fragment that comes before its first finds nothing and is dropped, counted: the program can
//! hold no packets. Whether two senders behind one SNAT address use the same identification is not seen here; the
//! receiver's checksum tells them apart.

use lockstep_abi::{TCP, UDP};

use crate::{icmp, icmp6, sctp};

/// Which packet an IPv4 fragment is part of (RFC 791).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct FragmentKey4 {
    /// Source address, network order.
    pub source_be: u32,
    /// Destination address, network order.
    pub destination_be: u32,
    /// Identification, network order.
    pub id_be: u16,
    /// IANA protocol.
    pub protocol: u8,
    /// Zero.
    pub pad: u8,
}
const _: () = assert!(size_of::<FragmentKey4>() == 12);

/// Which packet an IPv6 fragment is part of (RFC 8200, 4.5): without the protocol, which only the first has to
/// tell.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct FragmentKey6 {
    /// Source address, network order.
    pub source_be: [u32; 4],
    /// Destination address, network order.
    pub destination_be: [u32; 4],
    /// Identification, network order.
    pub id_be: u32,
}
const _: () = assert!(size_of::<FragmentKey6>() == 36);

/// What the first fragment showed.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FragmentValue {
    /// Clock when it came.
    pub seen_ns: u64,
    /// Source port, network order; of an echo as [`crate::icmp::echo_ports`] says.
    pub source_port_be: u16,
    /// Destination port, network order.
    pub destination_port_be: u16,
    /// IANA protocol.
    pub protocol: u8,
    /// Zero.
    pub pad: [u8; 3],
}
const _: () = assert!(size_of::<FragmentValue>() == 16);

/// How long a first fragment is followed: the reassembly timer that RFC 791 proposes. Receivers keep theirs longer, but
/// an identification of 16 bits comes again sooner.
pub const FOLLOWED_NS: u64 = 15_000_000_000;

/// A packet's place in a larger one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// It is no fragment; or one that is the whole (RFC 6946).
    Whole,
    /// It shows the ports.
    First,
    /// It does not.
    Later,
}

/// The role of a piece.
#[inline(always)]
pub const fn role(offset_bytes: u32, more: bool) -> Role {
    match (offset_bytes, more) {
        (0, false) => Role::Whole,
        (0, true) => Role::First,
        _ => Role::Later,
    }
}

/// Offset in bytes and more-fragments of an IPv4 header; IPv6's are in [`crate::extension::Fragment`].
#[inline(always)]
pub const fn place4(header: &[u8; 20]) -> (u32, bool) {
    let word = u16::from_be_bytes([header[6], header[7]]);
    ((word & 0x1fff) as u32 * 8, word & 0x2000 != 0)
}

/// Whether a fragment may pass. `payload_bytes` is what it holds of the fragmented part, by the length in its IP header.
///
/// A first fragment must hold the whole transport header, which is to be translated, and a later one must not
/// reach into it (RFC 1858, 3128): pieces over it would undo the translation. All but the last are
/// multiples of 8, and none reaches beyond what a packet can be.
#[inline(always)]
pub const fn acceptable(protocol: u8, offset_bytes: u32, more: bool, payload_bytes: u32) -> bool {
    let header_bytes = match protocol {
        TCP => 20,
        UDP | icmp::PROTOCOL | icmp6::PROTOCOL => 8,
        // With its first chunk's header.
        sctp::PROTOCOL => 16,
        _ => 0,
    };
    let clear_of_header =
        if offset_bytes == 0 { payload_bytes >= header_bytes } else { offset_bytes >= header_bytes };
    clear_of_header
        && payload_bytes != 0
        && (!more || payload_bytes.is_multiple_of(8))
        && payload_bytes <= 0xffff
        && offset_bytes + payload_bytes <= 0xffff
}

/// The ports of a later fragment, (source, destination), if its first was seen recently enough.
#[inline(always)]
pub const fn ports(first: &FragmentValue, now_ns: u64) -> Option<(u16, u16)> {
    // By distance: clocks of two CPUs may differ a little, and a first fragment may seem to be from the future.
    if now_ns.wrapping_sub(first.seen_ns) as i64 >= FOLLOWED_NS as i64 {
        return None;
    }
    Some((first.source_port_be, first.destination_port_be))
}

#[cfg(test)]
mod tests;
