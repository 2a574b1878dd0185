//! How a flow's state changes with a packet.
//!
//! ```text
//!            both directions seen,           FIN of one side      FIN of both
//!            last without SYN
//!   new ──────────────────────► established ───────────► closing ───────────► closed
//!    │                              │                       │                    │
//!    └───────── RST ────────────────┴───────────────────────┴────────────────────┘
//!                                       │ ▲
//!                                       ▼ │ any packet but RST: back to the phase before
//!                                  reset-pending
//! ```
//!
//! An RST never closes a flow by itself: endpoints check whether it is in their window (RFC 5961), the
//! dataplane cannot. UDP and ICMP go from new to established when both directions were seen. SCTP's chunks are told in
//! TCP's flags (`l4::chunk_flags`). With direct return the endpoint's packets are never seen: the client's count for
//! both.

use lockstep_abi::SCTP;
use lockstep_abi::state;
use lockstep_abi::state::{
    BEFORE_RESET, BEFORE_RESET_SHIFT, CLOSED, CLOSING, ESTABLISHED, NEW, PHASE, RESET_PENDING, TENTATIVE,
    phase,
};
use lockstep_abi::timeout::connectionless;

use crate::l4;

/// The sender of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum From {
    /// The original direction.
    Client,
    /// The reply direction.
    Endpoint,
}

impl From {
    #[inline(always)]
    const fn bit(self, client_bit: u32) -> u32 {
        match self {
            From::Client => client_bit,
            From::Endpoint => client_bit << 1,
        }
    }
}

/// State bits of a flow made by its first packet.
#[inline(always)]
pub const fn first(protocol: u8) -> u32 {
    if connectionless(protocol) { NEW | state::SEEN } else { NEW | state::SEEN | state::SYN }
}

/// State bits of a flow made again by its hash, from the middle of a connection: established if the endpoint agrees.
#[inline(always)]
pub const fn recovered() -> u32 {
    ESTABLISHED | state::SEEN | TENTATIVE
}

/// Whether the endpoint refuses a flow that was made again: it does not know the connection, so that it was another
/// endpoint's, or is over.
#[inline(always)]
pub const fn refuses(bits: u32, from: From, flags: u8) -> bool {
    bits & TENTATIVE != 0 && matches!(from, From::Endpoint) && flags & l4::RST != 0
}

/// Whether a packet without a flow may make one.
#[inline(always)]
pub const fn may_open(protocol: u8, flags: u8) -> bool {
    connectionless(protocol) || l4::opens(flags)
}

/// Whether a packet of the client on a live entry begins another connection: a SYN, and the old one is over
/// or may be. On a flow that is new or established it is a retransmission or an attack, and goes to the
/// same endpoint.
#[inline(always)]
pub const fn reopens(protocol: u8, bits: u32, flags: u8) -> bool {
    !connectionless(protocol) && l4::opens(flags) && matches!(phase(bits), CLOSING | CLOSED | RESET_PENDING)
}

/// The state bits after a packet. Equal to `bits` when nothing changed: then there is no new version, and no
/// event. `flags` are TCP's; ignored for UDP.
#[inline(always)]
pub const fn after(protocol: u8, bits: u32, from: From, flags: u8) -> u32 {
    let mut new = bits | from.bit(state::SEEN);
    if connectionless(protocol) {
        return if phase(new) == NEW && both(new, state::SEEN) { with_phase(new, ESTABLISHED) } else { new };
    }
    if matches!(from, From::Endpoint) && flags & l4::RST == 0 {
        new &= !TENTATIVE;
    }
    if flags & l4::RST != 0 {
        new |= from.bit(state::RST);
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
    if flags & l4::SYN != 0 {
        return new | from.bit(state::SYN);
    }
    if phase(new) == NEW && both(new, state::SEEN) {
        new = with_phase(new, ESTABLISHED);
    }
    if flags & l4::FIN != 0 {
        new |= from.bit(state::FIN);
        new = with_phase(new, if both(new, state::FIN) { CLOSED } else { CLOSING });
    }
    new
}

/// The same of a flow whose replies go past this node: a packet of the client's that does not begin the connection
/// shows that the endpoint answers, and its FIN is the last that will be seen.
#[inline(always)]
pub const fn after_direct(protocol: u8, bits: u32, flags: u8) -> u32 {
    let seen = state::SEEN | state::SEEN << 1;
    if connectionless(protocol) {
        return with_phase(bits | seen, ESTABLISHED);
    }
    // An echoed cookie is the endpoint's, and the client may say nothing more for long.
    let echoed = protocol == SCTP && flags & l4::ACK != 0;
    let flags = if echoed { flags & !l4::SYN } else { flags };
    let opens = flags & l4::SYN != 0;
    after(protocol, if opens { bits } else { bits | seen }, From::Client, flags)
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
