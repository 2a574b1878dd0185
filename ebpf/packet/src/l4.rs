//! TCP and UDP headers, as far as they matter.

use crate::bytes::{put_half, put_word};
use crate::sctp;

/// TCP flag.
pub const FIN: u8 = 0x01;
/// TCP flag.
pub const SYN: u8 = 0x02;
/// TCP flag.
pub const RST: u8 = 0x04;
/// TCP flag.
pub const ACK: u8 = 0x10;

/// TCP's fixed header as it stands in a packet.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TcpHeader {
    /// Source port.
    pub source_be: u16,
    /// Destination port.
    pub destination_be: u16,
    /// Sequence number.
    pub sequence_be: u32,
    /// Acknowledgement number.
    pub acknowledgement_be: u32,
    /// Length in words, in the upper half.
    pub offset: u8,
    /// Flags.
    pub flags: u8,
    /// Window.
    pub window_be: u16,
    /// Checksum.
    pub checksum: u16,
    /// Urgent pointer.
    pub urgent_be: u16,
}

impl TcpHeader {
    /// The header's bytes.
    #[inline(always)]
    pub const fn bytes(&self) -> [u8; 20] {
        let mut bytes = [0; 20];
        put_half(&mut bytes, 0, self.source_be);
        put_half(&mut bytes, 2, self.destination_be);
        put_word(&mut bytes, 4, self.sequence_be);
        put_word(&mut bytes, 8, self.acknowledgement_be);
        bytes[12] = self.offset;
        bytes[13] = self.flags;
        put_half(&mut bytes, 14, self.window_be);
        put_half(&mut bytes, 16, self.checksum);
        put_half(&mut bytes, 18, self.urgent_be);
        bytes
    }
}

/// UDP's header as it stands in a packet.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UdpHeader {
    /// Source port.
    pub source_be: u16,
    /// Destination port.
    pub destination_be: u16,
    /// Length, this header included.
    pub length_be: u16,
    /// Checksum.
    pub checksum: u16,
}

/// What the flags themselves take of the sequence space.
#[inline(always)]
pub const fn occupied(flags: u8) -> u32 {
    (flags & SYN != 0) as u32 + (flags & FIN != 0) as u32
}

/// Whether a packet with these flags needs a decision even on an established flow. UDP has none (0).
#[inline(always)]
pub const fn needs_decision(flags: u8) -> bool {
    flags & (SYN | FIN | RST) != 0
}

/// Combinations that no stack sends.
#[inline(always)]
pub const fn contradictory(flags: u8) -> bool {
    flags & SYN != 0 && flags & (FIN | RST) != 0
}

/// Whether this opens a TCP connection.
#[inline(always)]
pub const fn opens(flags: u8) -> bool {
    flags & (SYN | ACK | RST | FIN) == SYN
}

/// The first chunk of an SCTP packet (RFC 9260, section 3.2) as TCP's flags say it: INIT begins the handshake, INIT ACK
/// and COOKIE ECHO go on with it, ABORT resets, SHUTDOWN and its answers end one side and then the other. All else goes
/// on.
///
/// COOKIE ECHO is no TCP client's third packet: an endpoint answers a forged ACK with RST, but says nothing to a forged
/// cookie (5.1.5). So that only what follows shows that the handshake is over.
#[inline(always)]
pub const fn chunk_flags(chunk: u8) -> u8 {
    match chunk {
        sctp::INIT => SYN,
        sctp::INIT_ACK | sctp::COOKIE_ECHO => SYN | ACK,
        sctp::ABORT => RST,
        sctp::SHUTDOWN | sctp::SHUTDOWN_ACK | sctp::SHUTDOWN_COMPLETE => FIN | ACK,
        _ => ACK,
    }
}
