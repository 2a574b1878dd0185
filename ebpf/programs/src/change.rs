//! A packet of a known flow that may change its state.

use core::ptr::{addr_of, addr_of_mut};

use lockstep_abi::event::{CHANGED, FlowEvent};
use lockstep_abi::flow::{FlowKey4, FlowValue4, NO_SYNC, PATH_DEAD};
use lockstep_abi::lease::LeaseValue;
use lockstep_abi::map::SHARDS;
use lockstep_abi::reason::Reason;
use lockstep_abi::state;
use lockstep_packet::transition::{From, after, reopens};

use crate::atomic;
use crate::count::count;
use crate::lease::{may_begin, precise_ns};
use crate::maps::{EVENTS, LOST_EVENTS};

/// What follows.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Next {
    /// The flow's translation applies.
    Forward,
    /// There is no flow; one may be made.
    Open,
    /// The flow was over and is now claimed by this packet, which begins another in its place.
    Reopen,
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
    lease: &LeaseValue,
) -> Result<Next, Reason> {
    // SAFETY: the caller's promise.
    let protocol = unsafe { (*original).key.protocol };
    let from = if reply { From::Endpoint } else { From::Client };
    let epoch = lease.epoch;
    for _ in 0..TRIES {
        // SAFETY: the caller's promise; one aligned word.
        let old = unsafe { addr_of!((*original).state).read_volatile() };
        let bits = state::bits(old);
        if bits & state::DEAD != 0 {
            return Err(Reason::FlowDead);
        }
        if !reply && reopens(protocol, bits, flags) {
            // Before the claim, which would leave a dead flow behind where none may follow.
            may_begin(lease)?;
            // SAFETY: the caller's promise.
            return unsafe { claim(original, other, old) };
        }
        let new = after(protocol, bits, from, flags);
        if new == bits {
            return Ok(Next::Forward);
        }
        let word = state::word(new, state::n(old).wrapping_add(1));
        // SAFETY: the caller's promise. What is reported is read between the state and its swap: if the swap
        // succeeds, the flow was not reopened in between, and all of it is of one life.
        unsafe {
            let subject = Subject::of(original);
            let silent = (*original).flags & NO_SYNC != 0;
            if atomic::swap(addr_of_mut!((*original).state), old, word) {
                (*original).epoch = epoch;
                follow(original, other, word);
                count(Reason::FlowChanged);
                if !silent {
                    report(&subject, CHANGED, word, group, epoch);
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

/// Claims a flow whose key begins another connection: nothing changes a dead flow but who killed it. Its
/// entries stay where they are, since other CPUs may have them in hand; the other connection takes them over.
#[inline(always)]
unsafe fn claim(original: *mut FlowValue4, other: *mut FlowValue4, old: u64) -> Result<Next, Reason> {
    let dead = state::word(state::bits(old) | state::DEAD, state::n(old).wrapping_add(1));
    // SAFETY: the caller's promise.
    unsafe {
        // First, so that the sweeper does not free what has only now died.
        addr_of_mut!((*original).last_seen_ns).write_volatile(precise_ns());
        if !atomic::swap(addr_of_mut!((*original).state), old, dead) {
            return Err(Reason::Raced);
        }
        addr_of_mut!((*original).path).write_volatile(PATH_DEAD);
        addr_of_mut!((*other).path).write_volatile(PATH_DEAD);
    }
    Ok(Next::Reopen)
}

/// What an event says of a flow apart from its state.
pub(crate) struct Subject {
    pub(crate) key: FlowKey4,
    pub(crate) endpoint_be: u32,
    pub(crate) endpoint_port_be: u16,
    pub(crate) birth_ns: u64,
    pub(crate) service: u64,
    pub(crate) endpoint: u64,
}

impl Subject {
    /// # Safety
    /// `original` is a live value of the flow map.
    #[inline(always)]
    unsafe fn of(original: *const FlowValue4) -> Self {
        // SAFETY: the caller's promise; volatile, because the order matters.
        unsafe {
            Self {
                key: atomic::read_key(addr_of!((*original).key)),
                endpoint_be: addr_of!((*original).twin.source_be).read_volatile(),
                endpoint_port_be: addr_of!((*original).twin.source_port_be).read_volatile(),
                birth_ns: addr_of!((*original).birth_ns).read_volatile(),
                service: addr_of!((*original).service).read_volatile(),
                endpoint: addr_of!((*original).endpoint).read_volatile(),
            }
        }
    }
}

/// Tells user space of a flow's creation or change.
#[inline(always)]
pub(crate) fn report(subject: &Subject, kind: u32, word: u64, group: u64, epoch: u64) {
    let shard = subject.key.shard();
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
        key: subject.key,
        endpoint_be: subject.endpoint_be,
        endpoint_port_be: subject.endpoint_port_be,
        pad: 0,
        state_bits: state::bits(word) & state::REPLICATED,
        n: state::n(word),
        birth_ns: subject.birth_ns,
        epoch,
        group,
        service: subject.service,
        endpoint: subject.endpoint,
        now_ns: precise_ns(),
    });
    slot.submit(0);
}
