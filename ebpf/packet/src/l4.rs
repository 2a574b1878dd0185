//! TCP and UDP headers, as far as they matter.

use lockstep_abi::flow::FlowKey4;

use crate::ipv4::Ipv4;

/// TCP flag.
pub const FIN: u8 = 0x01;
/// TCP flag.
pub const SYN: u8 = 0x02;
/// TCP flag.
pub const RST: u8 = 0x04;
/// TCP flag.
pub const ACK: u8 = 0x10;

/// The key of a packet from its IPv4 header and the first four bytes behind it.
#[inline(always)]
pub fn key(ip: &Ipv4, ports: [u8; 4]) -> FlowKey4 {
    FlowKey4 {
        source_be: ip.source_be,
        destination_be: ip.destination_be,
        source_port_be: u16::from_ne_bytes([ports[0], ports[1]]),
        destination_port_be: u16::from_ne_bytes([ports[2], ports[3]]),
        protocol: ip.protocol,
        pad: [0; 3],
    }
}

/// Whether a packet with these TCP flags needs a decision even on an established flow. UDP has none (0).
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
