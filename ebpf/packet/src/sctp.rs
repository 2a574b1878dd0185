//! SCTP (RFC 9260), single-homed: the common header, the first chunk, and how a flow's state changes.
//!
//! ```text
//!         both seen, last not of the        SHUTDOWN of one         and SHUTDOWN ACK or
//!         handshake's first three           side                    COMPLETE of the other
//!   new ─────────────────────────► established ──────────► closing ──────────────► closed
//!    │                                  │                     │                       │
//!    └────────── ABORT ─────────────────┴─────────────────────┴───────────────────────┘
//!                                           │ ▲
//!                                           ▼ │ any packet but ABORT: back to the phase before
//!                                      reset-pending
//! ```
//!
//! The bits are those of [`lockstep_abi::state`], read so: SYN is INIT or INIT ACK; FIN is SHUTDOWN, SHUTDOWN ACK
//! or SHUTDOWN COMPLETE; RST is ABORT. As with a TCP RST, whether an ABORT is genuine is for the endpoints to
//! say: they know the verification tags, the dataplane does not. Only the first chunk of a packet is read. INIT,
//! INIT ACK and SHUTDOWN COMPLETE are alone in theirs; an ABORT bundled behind another chunk lets the flow live until its
//! timeout, which does no harm.

use lockstep_abi::state::{
    self, BEFORE_RESET, BEFORE_RESET_SHIFT, CLOSED, CLOSING, ESTABLISHED, NEW, PHASE, RESET_PENDING, phase,
};

use crate::bytes::{half, word};

/// IANA protocol number.
pub const PROTOCOL: u8 = 132;

/// Bytes of the common header.
pub const HEADER_LENGTH: usize = 12;

/// Where the CRC32c is in the common header; see [`crate::crc32c`].
pub const CHECKSUM: usize = 8;

/// Chunk type.
pub const DATA: u8 = 0;
/// Chunk type.
pub const INIT: u8 = 1;
/// Chunk type.
pub const INIT_ACK: u8 = 2;
/// Chunk type.
pub const ABORT: u8 = 6;
/// Chunk type.
pub const SHUTDOWN: u8 = 7;
/// Chunk type.
pub const SHUTDOWN_ACK: u8 = 8;
/// Chunk type.
pub const COOKIE_ECHO: u8 = 10;
/// Chunk type.
pub const COOKIE_ACK: u8 = 11;
/// Chunk type.
pub const SHUTDOWN_COMPLETE: u8 = 14;

/// What the dataplane needs of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sctp {
    /// Source port, network order.
    pub source_port_be: u16,
    /// Destination port, network order.
    pub destination_port_be: u16,
    /// Verification tag, network order; never changed by us.
    pub tag_be: u32,
    /// CRC32c of the packet, as in memory.
    pub checksum: [u8; 4],
    /// Type of the first chunk.
    pub chunk: u8,
}

/// Reads the common header and the first chunk's type, length and flags. `None`: not a packet that a stack sends
/// (RFC 9260, 8.5.1): port 0, a chunk shorter than its header, a verification tag of 0 without INIT, or INIT with
/// another.
#[inline(always)]
pub const fn parse(bytes: &[u8; 16]) -> Option<Sctp> {
    let sctp = Sctp {
        source_port_be: half(bytes, 0),
        destination_port_be: half(bytes, 2),
        tag_be: word(bytes, 4),
        checksum: [bytes[8], bytes[9], bytes[10], bytes[11]],
        chunk: bytes[12],
    };
    let chunk_length = u16::from_be_bytes([bytes[14], bytes[15]]);
    if sctp.source_port_be == 0
        || sctp.destination_port_be == 0
        || chunk_length < 4
        || (sctp.tag_be == 0) != (sctp.chunk == INIT)
    {
        return None;
    }
    Some(sctp)
}

/// State bits of a flow made by its first packet.
pub const FIRST: u32 = NEW | state::SEEN | state::SYN;

/// Whether a packet without a flow may make one.
#[inline(always)]
pub const fn may_open(chunk: u8) -> bool {
    chunk == INIT
}

/// Whether a packet of the client on a live entry begins another association: INIT, and the old one is over or
/// may be. On a flow that is new or established it is a retransmission or a restart (RFC 9260, 5.2), and goes
/// to the same endpoint.
#[inline(always)]
pub const fn reopens(bits: u32, chunk: u8) -> bool {
    may_open(chunk) && matches!(phase(bits), CLOSING | CLOSED | RESET_PENDING)
}

/// Whether a packet with this first chunk needs a decision even on an established flow.
#[inline(always)]
pub const fn needs_decision(chunk: u8) -> bool {
    matches!(chunk, INIT | INIT_ACK | ABORT) || ends(chunk)
}

/// The state bits after a packet. Equal to `bits` when nothing changed.
#[inline(always)]
pub const fn after(bits: u32, from_client: bool, chunk: u8) -> u32 {
    let side = if from_client { 0 } else { 1 };
    let mut new = bits | state::SEEN << side;
    if chunk == ABORT {
        new |= state::RST << side;
        if phase(new) != RESET_PENDING {
            new = (new & !BEFORE_RESET) | phase(new) << BEFORE_RESET_SHIFT;
            new = with_phase(new, RESET_PENDING);
        }
        return new;
    }
    if phase(new) == RESET_PENDING {
        new = with_phase(new, (new & BEFORE_RESET) >> BEFORE_RESET_SHIFT);
        new &= !(BEFORE_RESET | state::RST | state::RST << 1);
    }
    if chunk == INIT || chunk == INIT_ACK {
        return new | state::SYN << side;
    }
    // The fourth packet of the handshake, or any that shows it is over.
    if phase(new) == NEW && both(new, state::SEEN) && chunk != COOKIE_ECHO {
        new = with_phase(new, ESTABLISHED);
    }
    if ends(chunk) {
        new |= state::FIN << side;
        new = with_phase(new, if both(new, state::FIN) { CLOSED } else { CLOSING });
    }
    new
}

#[inline(always)]
const fn ends(chunk: u8) -> bool {
    matches!(chunk, SHUTDOWN | SHUTDOWN_ACK | SHUTDOWN_COMPLETE)
}

#[inline(always)]
const fn both(bits: u32, client_bit: u32) -> bool {
    let pair = client_bit | client_bit << 1;
    bits & pair == pair
}

#[inline(always)]
const fn with_phase(bits: u32, phase: u32) -> u32 {
    (bits & !PHASE) | phase
}

#[cfg(test)]
mod tests;
