//! A packet of a known flow that may change its state.

use core::ptr::{addr_of, addr_of_mut};

use lockstep_abi::event::CHANGED;
use lockstep_abi::flow::{FORWARDING, FlowKey, FlowValue, PATH_DEAD};
use lockstep_abi::lease::LeaseValue;
use lockstep_abi::reason::Reason;
use lockstep_abi::state;
use lockstep_packet::transition::{From, after, after_direct, may_open, refuses, reopens};

use crate::atomic;
use crate::count::count;
use crate::event::report;
use crate::family::Family;
use crate::insert::DRAFT_ROOM;
use crate::lease::{may_begin, tick_ns};
use crate::load;
use crate::words;

/// What follows.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Next {
    /// The flow's translation applies.
    Forward,
    /// There is no flow; one may be made.
    Open,
    /// The flow was over and is now claimed by this packet, which begins another in its place, or [`release`]s it.
    Reopen,
}

/// How often a lost compare-and-swap is tried again before the packet is dropped.
const TRIES: u32 = 4;

/// Brings the flow to the state after this packet.
///
/// # Safety
/// `original` and `other` are live values of the flow map: the two entries of one flow, or the same one twice where
/// replies are not seen.
#[inline(always)]
pub(crate) unsafe fn change<F: Family>(
    original: *mut FlowValue<F::Address>,
    other: *mut FlowValue<F::Address>,
    from: From,
    flags: u8,
    group: u64,
    lease: &LeaseValue,
) -> Result<Next, Reason> {
    // SAFETY: the caller's promise.
    let (protocol, kind) = unsafe { ((*original).key.protocol, (*original).flags) };
    let epoch = lease.epoch;
    for _ in 0..TRIES {
        // SAFETY: the caller's promise; one aligned word.
        let old = unsafe { addr_of!((*original).state).read_volatile() };
        let bits = state::bits(old);
        let dead = bits & state::DEAD != 0;
        if !dead && refuses(bits, from, flags) {
            // SAFETY: the caller's promise.
            unsafe { end(original, other, old, state::DEAD) }?;
            return Err(Reason::RecoveryRefused);
        }
        let over = if dead { may_open(protocol, flags) } else { reopens(protocol, bits, flags) };
        if matches!(from, From::Client) && over && bits & state::CLAIMED == 0 {
            // Before the claim, which would leave a dead flow behind where none may follow.
            may_begin(lease)?;
            // SAFETY: the caller's promise.
            unsafe { end(original, other, old, state::DEAD | state::CLAIMED) }?;
            return Ok(Next::Reopen);
        }
        if dead {
            return Err(Reason::FlowDead);
        }
        let new = if kind & FORWARDING == 0 {
            after(protocol, bits, from, flags)
        } else {
            after_direct(protocol, bits, flags)
        };
        if new == bits {
            return Ok(Next::Forward);
        }
        let word = state::word(new, state::n(old).wrapping_add(1));
        // SAFETY: the caller's promise. What is reported is read between the state and its swap: if the swap
        // succeeds, the flow was not reopened in between, and all of it is of one life.
        unsafe {
            let copy = F::scratch(DRAFT_ROOM).ok_or(Reason::Raced)?;
            words::copy(copy, original);
            if atomic::swap(addr_of_mut!((*original).state), old, word) {
                (*original).epoch = epoch;
                if state::counts(bits) && !state::counts(new) {
                    load::left(copy);
                }
                follow(original, other, word);
                count(Reason::FlowChanged);
                report(&*copy, CHANGED, word, group, epoch);
                return Ok(Next::Forward);
            }
        }
    }
    Err(Reason::Raced)
}

/// Ends a flow that was made again by its hash and that its endpoint refuses otherwise than by RST. A flow that the
/// endpoint has confirmed stays.
///
/// # Safety
/// `original` and `reply` are live values of the flow map: the two entries of one flow.
#[inline(always)]
pub(crate) unsafe fn refused<A>(original: *mut FlowValue<A>, reply: *mut FlowValue<A>) -> Result<(), Reason> {
    // SAFETY: the caller's promise.
    unsafe {
        let old = addr_of!((*original).state).read_volatile();
        if state::bits(old) & state::DEAD != 0 {
            return Err(Reason::FlowDead);
        }
        if state::bits(old) & state::TENTATIVE == 0 {
            return Ok(());
        }
        end(original, reply, old, state::DEAD)?;
    }
    Err(Reason::RecoveryRefused)
}

/// Makes both entries' `path` follow the state. Whoever wrote last has seen the last state.
#[inline(never)]
pub(crate) unsafe fn follow<A>(original: *mut FlowValue<A>, other: *mut FlowValue<A>, mut word: u64) {
    for _ in 0..TRIES {
        // SAFETY: the caller's promise; aligned words.
        unsafe {
            let path = state::path(state::bits(word), (*original).flags);
            addr_of_mut!((*original).path).write_volatile(path);
            addr_of_mut!((*other).path).write_volatile(path);
            let now = addr_of!((*original).state).read_volatile();
            if now == word {
                return;
            }
            word = now;
        }
    }
}

/// Ends a flow that must go, or whose key begins another connection: then this packet has `how` claim it. Its entries
/// stay where they are, since other CPUs may have them in hand; another connection takes them over.
#[inline(never)]
unsafe fn end<A>(
    original: *mut FlowValue<A>,
    other: *mut FlowValue<A>,
    old: u64,
    how: u32,
) -> Result<(), Reason> {
    let dead = state::word(state::bits(old) | how, state::n(old).wrapping_add(1));
    // SAFETY: the caller's promise.
    unsafe {
        // First, so that the sweeper does not free what has only now died.
        addr_of_mut!((*original).last_seen_ns).write_volatile(tick_ns());
        if !atomic::swap(addr_of_mut!((*original).state), old, dead) {
            return Err(Reason::Raced);
        }
        addr_of_mut!((*original).path).write_volatile(PATH_DEAD);
        addr_of_mut!((*other).path).write_volatile(PATH_DEAD);
        if state::counts(state::bits(old)) {
            load::left(original);
        }
    }
    Ok(())
}

/// Gives up the claim on a dead flow that no other took the place of.
#[cold]
#[inline(never)]
pub(crate) fn release<F: Family>(key: &FlowKey<F::Address>) {
    let Some(original) = F::flows().get_ptr_mut(key) else {
        return;
    };
    // SAFETY: a live map value; nobody else changes the state of a flow that is claimed.
    unsafe {
        let old = addr_of!((*original).state).read_volatile();
        let bits = state::bits(old);
        if bits & state::CLAIMED != 0 {
            let word = state::word(bits & !state::CLAIMED, state::n(old).wrapping_add(1));
            atomic::swap(addr_of_mut!((*original).state), old, word);
        }
    }
}
