//! How long a flow may stay idle.

use crate::service::Timeouts;
use crate::{SCTP, TCP, state};

const SECOND: u64 = 1_000_000_000;

/// TCP, handshake not complete.
pub const TCP_NEW_NS: u64 = 10 * SECOND;
/// TCP, established.
pub const TCP_ESTABLISHED_NS: u64 = 3600 * SECOND;
/// TCP, one side has sent FIN.
pub const TCP_CLOSING_NS: u64 = 30 * SECOND;
/// TCP, both have.
pub const TCP_CLOSED_NS: u64 = 10 * SECOND;
/// After an RST.
pub const RESET_PENDING_NS: u64 = 10 * SECOND;
/// UDP, one direction seen.
pub const UDP_NEW_NS: u64 = 60 * SECOND;
/// UDP, both directions seen.
pub const UDP_ESTABLISHED_NS: u64 = 180 * SECOND;

/// Between marking a flow dead and freeing its entries.
pub const DEAD_NS: u64 = SECOND;

/// For flows of rules, and of services that are gone.
pub const DEFAULT: Timeouts = Timeouts {
    service: 0,
    new_ns: TCP_NEW_NS,
    established_ns: TCP_ESTABLISHED_NS,
    closing_ns: TCP_CLOSING_NS,
    udp_new_ns: UDP_NEW_NS,
    udp_established_ns: UDP_ESTABLISHED_NS,
};

/// Whether a protocol has no handshake: its flows are new until both directions were seen.
#[inline(always)]
pub const fn connectionless(protocol: u8) -> bool {
    protocol != TCP && protocol != SCTP
}

/// The idle timeout in a state. A flow that was made again by its hash is believed for as long as a handshake
/// may take, until both directions were seen.
#[inline(always)]
pub const fn idle_ns(protocol: u8, bits: u32, timeouts: &Timeouts) -> u64 {
    match (state::phase(bits), connectionless(protocol)) {
        (state::NEW, true) => timeouts.udp_new_ns,
        (_, true) => timeouts.udp_established_ns,
        (state::NEW, false) => timeouts.new_ns,
        (state::ESTABLISHED, false) if bits & state::TENTATIVE != 0 => timeouts.new_ns,
        (state::ESTABLISHED, false) => timeouts.established_ns,
        (state::CLOSING, false) => timeouts.closing_ns,
        (state::CLOSED, false) => TCP_CLOSED_NS,
        _ => RESET_PENDING_NS,
    }
}
