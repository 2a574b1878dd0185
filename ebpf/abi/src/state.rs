//! The packed state of a flow: what both directions have shown, in the low half of a 64-bit word whose high
//! half is the change counter n.
//!
//! ```text
//! bit  0-2   phase               model::flow::FlowState, same order: new, established, closing, closed, reset-pending
//! bit  3-5   phase before reset-pending, to which any later packet returns
//! bit  8,9   SYN seen            client, endpoint
//! bit 10,11  FIN seen            client, endpoint
//! bit 12,13  RST seen            client, endpoint
//! bit 14,15  any packet seen     client, endpoint
//! bit 16     tentative           made again by its hash; not confirmed by the endpoint yet
//! bit 30     claimed             of a dead flow; local to this kernel, never replicated
//! bit 31     dead                likewise
//! ```

use crate::flow::{FORWARDING, PATH_DEAD, PATH_DIRECT, PATH_FAST};

/// Phase: SYN seen (TCP), or one packet in one direction (UDP).
pub const NEW: u32 = 0;
/// Phase: handshake complete (TCP), or both directions seen (UDP).
pub const ESTABLISHED: u32 = 1;
/// Phase: one side has sent FIN.
pub const CLOSING: u32 = 2;
/// Phase: both sides have.
pub const CLOSED: u32 = 3;
/// Phase: an RST was seen.
pub const RESET_PENDING: u32 = 4;

/// Mask of the phase.
pub const PHASE: u32 = 0b111;
/// Shift of the phase that a reset-pending flow returns to.
pub const BEFORE_RESET_SHIFT: u32 = 3;
/// Mask of the phase that a reset-pending flow returns to.
pub const BEFORE_RESET: u32 = 0b111 << BEFORE_RESET_SHIFT;

/// The client sent SYN; `<< 1`: the endpoint did. The same for the three below.
pub const SYN: u32 = 1 << 8;
/// FIN.
pub const FIN: u32 = 1 << 10;
/// RST.
pub const RST: u32 = 1 << 12;
/// Any packet.
pub const SEEN: u32 = 1 << 14;

/// Made again by its hash from the middle of a connection; the endpoint has not confirmed it yet. Until then each
/// packet needs a decision.
pub const TENTATIVE: u32 = 1 << 16;

/// The flow is over. A packet that may begin another puts that in its place; otherwise it is freed.
pub const DEAD: u32 = 1 << 31;
/// Somebody is about to put another flow in a dead one's place, or to free it: nobody else may.
pub const CLAIMED: u32 = 1 << 30;

/// The bits that another node may learn.
pub const REPLICATED: u32 = !(DEAD | CLAIMED);

/// The 64-bit word.
#[inline(always)]
pub const fn word(bits: u32, n: u32) -> u64 {
    (n as u64) << 32 | bits as u64
}

/// Low half of the word.
#[inline(always)]
pub const fn bits(word: u64) -> u32 {
    word as u32
}

/// Change counter: high half of the word.
#[inline(always)]
pub const fn n(word: u64) -> u32 {
    (word >> 32) as u32
}

/// The phase.
#[inline(always)]
pub const fn phase(bits: u32) -> u32 {
    bits & PHASE
}

/// Whether a flow is a connection, for limits and for the choice of the fewest: until both sides have ended it. What
/// comes later changes that no more, not even an RST. One that saw an RST before may be restored, and counts.
#[inline(always)]
pub const fn counts(bits: u32) -> bool {
    let phase = match phase(bits) {
        RESET_PENDING => (bits & BEFORE_RESET) >> BEFORE_RESET_SHIFT,
        phase => phase,
    };
    bits & DEAD == 0 && phase != CLOSED
}

/// [`crate::flow::FlowValue::path`] of both entries of a flow in this state and with these flags. A new flow waits
/// for its handshake and a reset-pending one to be restored, so each of their packets needs a decision.
#[inline(always)]
pub const fn path(bits: u32, flags: u32) -> u32 {
    if bits & DEAD != 0 {
        return PATH_DEAD;
    }
    let fast = match phase(bits) {
        ESTABLISHED | CLOSING | CLOSED if bits & TENTATIVE == 0 => PATH_FAST,
        _ => 0,
    };
    if flags & FORWARDING == 0 { fast } else { fast | PATH_DIRECT }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_counts_until_it_is_closed_or_dead() {
        let reset = |before| RESET_PENDING | before << BEFORE_RESET_SHIFT;
        for phase in [NEW, ESTABLISHED, CLOSING] {
            for bits in [phase, phase | TENTATIVE, reset(phase)] {
                assert!(counts(bits) && !counts(bits | DEAD), "{bits:#x}");
            }
        }
        for bits in [CLOSED, CLOSED | FIN | FIN << 1, reset(CLOSED)] {
            assert!(!counts(bits) && !counts(bits | DEAD), "{bits:#x}");
        }
    }
}
