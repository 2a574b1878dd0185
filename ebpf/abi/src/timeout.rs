//! How long a flow may stay idle.

use crate::{UDP, state};

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

/// The idle timeout in a state.
#[inline(always)]
pub const fn idle_ns(protocol: u8, bits: u32) -> u64 {
    match (state::phase(bits), protocol == UDP) {
        (state::NEW, true) => UDP_NEW_NS,
        (_, true) => UDP_ESTABLISHED_NS,
        (state::NEW, false) => TCP_NEW_NS,
        (state::ESTABLISHED, false) => TCP_ESTABLISHED_NS,
        (state::CLOSING, false) => TCP_CLOSING_NS,
        (state::CLOSED, false) => TCP_CLOSED_NS,
        _ => RESET_PENDING_NS,
    }
}
