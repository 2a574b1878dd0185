//! A packet of a known flow that may change its state.

use core::ptr::{addr_of, addr_of_mut};

use aya_ebpf::helpers::generated::bpf_ktime_get_ns;
use lockstep_abi::event::{CHANGED, FlowEvent};
use lockstep_abi::flow::{FlowValue4, NO_SYNC, PATH_DEAD};
use lockstep_abi::map::SHARDS;
use lockstep_abi::reason::Reason;
use lockstep_abi::state;
use lockstep_packet::transition::{From, after, reopens};

use crate::atomic;
use crate::count::count;
use crate::maps::{EVENTS, FLOWS, LOST_EVENTS};

/// What follows.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Next {
    /// The flow's translation applies.
    Forward,
    /// There is no flow (any more); one may be made.
    Open,
}

/// How often a lost compare-and-swap is tried again before the packet is dropped.
const TRIES: u32 = 4;

/// Brings the flow to the state after this packet.
///
/// # Safety
/// `original` and `other` are live values of the flow map: the two entries of one flow.
#[inline(always)]
pub(crate) unsafe fn change(
    original: *mut FlowValue4,
    other: *mut FlowValue4,
    reply: bool,
    flags: u8,
    group: u64,
    epoch: u64,
) -> Result<Next, Reason> {
    // SAFETY: the caller's promise.
    let protocol = unsafe { (*original).key.protocol };
    let from = if reply { From::Endpoint } else { From::Client };
    for _ in 0..TRIES {
        // SAFETY: the caller's promise; one aligned word.
        let old = unsafe { addr_of!((*original).state).read_volatile() };
        let bits = state::bits(old);
        if bits & state::DEAD != 0 {
            return Err(Reason::FlowDead);
        }
        if !reply && reopens(protocol, bits, flags) {
            // SAFETY: the caller's promise.
            return unsafe { end(original, other, old) };
        }
        let new = after(protocol, bits, from, flags);
        if new == bits {
            return Ok(Next::Forward);
        }
        let word = state::word(new, state::n(old).wrapping_add(1));
        // SAFETY: the caller's promise.
        unsafe {
            if atomic::swap(addr_of_mut!((*original).state), old, word) {
                (*original).epoch = epoch;
                follow(original, other, word);
                count(Reason::FlowChanged);
                if (*original).flags & NO_SYNC == 0 {
                    report(original, CHANGED, word, group, epoch);
                }
                return Ok(Next::Forward);
            }
        }
    }
    Err(Reason::Raced)
}

/// Makes both entries' `path` follow the state. Whoever wrote last has seen the last state.
#[inline(always)]
unsafe fn follow(original: *mut FlowValue4, other: *mut FlowValue4, mut word: u64) {
    for _ in 0..TRIES {
        let path = state::path(state::bits(word));
        // SAFETY: the caller's promise; aligned words.
        unsafe {
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

/// Ends a flow whose key begins another connection. Only the winner of the swap frees the entries. They may
/// be reused at once: readers compare generation and key.
#[inline(always)]
unsafe fn end(original: *mut FlowValue4, other: *mut FlowValue4, old: u64) -> Result<Next, Reason> {
    let dead = state::word(state::bits(old) | state::DEAD, state::n(old).wrapping_add(1));
    // SAFETY: the caller's promise.
    unsafe {
        if !atomic::swap(addr_of_mut!((*original).state), old, dead) {
            return Err(Reason::Raced);
        }
        addr_of_mut!((*original).path).write_volatile(PATH_DEAD);
        addr_of_mut!((*other).path).write_volatile(PATH_DEAD);
        let (key, twin) =
            (atomic::read_key(addr_of!((*original).key)), atomic::read_key(addr_of!((*original).twin)));
        // Nobody else frees a flow that died just now, so both are there.
        let _ = FLOWS.remove(&twin);
        let _ = FLOWS.remove(&key);
    }
    Ok(Next::Open)
}

/// Tells user space of a flow's creation or change.
///
/// # Safety
/// `original` is a live value of the flow map.
#[inline(always)]
pub(crate) unsafe fn report(original: *const FlowValue4, kind: u32, word: u64, group: u64, epoch: u64) {
    // SAFETY: the caller's promise.
    let value = unsafe { &*original };
    let shard = value.key.shard();
    let Some(mut slot) = EVENTS.reserve::<FlowEvent>(0) else {
        count(Reason::EventLost);
        if let Some(lost) = LOST_EVENTS.get_ptr_mut(shard % SHARDS) {
            // SAFETY: a live array element.
            unsafe { atomic::add(lost, 1) };
        }
        return;
    };
    slot.write(FlowEvent {
        kind,
        shard,
        key: value.key,
        endpoint_be: value.twin.source_be,
        endpoint_port_be: value.twin.source_port_be,
        pad: 0,
        state_bits: state::bits(word) & state::REPLICATED,
        n: state::n(word),
        birth_ns: value.birth_ns,
        epoch,
        group,
        service: value.service,
        endpoint: value.endpoint,
        // SAFETY: a helper without arguments.
        now_ns: unsafe { bpf_ktime_get_ns() },
    });
    slot.submit(0);
}
