//! SCTP (RFC 9260), single-homed: the common header and the first chunk. How a flow's state changes with it is told
//! in TCP's flags ([`crate::l4::chunk_flags`]).
//!
//! As with a TCP RST, whether an ABORT is genuine is for the endpoints to say: they know the verification tags, the
//! dataplane does not. Only the first chunk of a packet is read. INIT, INIT ACK and SHUTDOWN COMPLETE are alone in
//! theirs; an ABORT bundled behind another chunk lets the flow live until its timeout, which does no harm.

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

#[cfg(test)]
mod tests;
