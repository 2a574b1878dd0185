//! Entries that are there already: a flow in the place of one that is over, and the reply entry of an attempt that came
//! too late.
//!
//! Who writes over a reply entry in place, or removes one that it has only just written, claims it first, by its state
//! word, which is 0 otherwise: what one CPU takes back here no other writes to here. Orphans (`track.rs`, the sweeper) and what
//! is left of half a flow (`insert.rs`) are removed without a claim; a SYN that met one of them repairs it when it is repeated.

use core::ptr::{addr_of, addr_of_mut};

use aya_ebpf::bindings::BPF_NOEXIST;
use lockstep_abi::flow::{Address, FORWARDING, FlowValue};
use lockstep_abi::reason::Reason;
use lockstep_abi::state;

use crate::atomic::{copy_key, same_key, swap};
use crate::family::Family;
use crate::insert::{EEXIST, Source, refusal, reply_of, reserve};

/// Removes the reply entry of a flow that was there before, unless somebody who has made that anew has written this
/// entry meanwhile.
#[cold]
#[inline(never)]
pub(crate) fn take_back<F: Family>(flow: &FlowValue<F::Address>) {
    let Some(reply) = F::flows().get_ptr_mut(&flow.twin) else {
        return;
    };
    // SAFETY: a live map value; aligned words.
    unsafe {
        if !claim(reply) {
            return;
        }
        if addr_of!((*reply).generation).read_volatile() == flow.generation {
            // The claim goes with it, so that who still has it in hand gets none.
            let _ = F::flows().remove(&flow.twin);
        } else {
            release(reply);
        }
    }
}

/// Claims a reply entry. False: somebody else has.
///
/// # Safety
/// `reply` points to a live value of the flow map.
#[inline(always)]
unsafe fn claim<A>(reply: *mut FlowValue<A>) -> bool {
    // SAFETY: the caller's promise.
    unsafe { swap(addr_of_mut!((*reply).state), 0, state::word(state::CLAIMED, 0)) }
}

/// Gives up the claim.
///
/// # Safety
/// As before.
#[inline(always)]
unsafe fn release<A>(reply: *mut FlowValue<A>) {
    // SAFETY: the caller's promise; one aligned word, which nobody else writes while it is claimed.
    unsafe { addr_of_mut!((*reply).state).write_volatile(0) }
}

/// Puts a flow in the place of the dead one that this packet has claimed. Live elements are changed in place
/// and never freed here: another CPU may have them in hand. The old reply entry, if the endpoint or the port is
/// another now, stays dead until the sweeper finds that its original names another twin.
#[inline(always)]
pub(crate) fn take_over<F: Family>(
    flow: &mut FlowValue<F::Address>,
    source: Source,
    blocks: u64,
) -> Result<bool, Reason> {
    let original = F::flows().get_ptr_mut(&flow.key).ok_or(Reason::Raced)?;
    // SAFETY: a live map value; the claim keeps everybody else from changing it.
    let claimed = unsafe { addr_of!((*original).state).read_volatile() };
    if state::bits(claimed) & state::DEAD == 0 {
        return Err(Reason::Raced);
    }
    // The count goes on, so that no word of the state ever comes back.
    flow.state = state::word(state::bits(flow.state), state::n(claimed).wrapping_add(1));
    if flow.flags & FORWARDING == 0 {
        if source.translate && !source.keep_port {
            // A port of its own: the old one waits with the old entry.
            reserve::<F>(flow, &source, blocks)?;
        } else {
            return_to::<F>(reply_of::<F>(flow).ok_or(Reason::FlowInsertFailed)?)?;
        }
    }
    // SAFETY: a live map value.
    unsafe { replace(original, flow) };
    Ok(true)
}

/// Writes the reply entry of a reopened flow, over the old one if the endpoint is the same. Mostly it is, so that is looked
/// for first.
#[inline(always)]
fn return_to<F: Family>(reply: &mut FlowValue<F::Address>) -> Result<(), Reason> {
    let Some(holder) = F::flows().get_ptr_mut(&reply.key) else {
        let inserted = F::flows().insert(&reply.key, &*reply, u64::from(BPF_NOEXIST));
        return inserted.map_err(|error| if error == EEXIST { Reason::Raced } else { refusal(error) });
    };
    // SAFETY: a live map value.
    unsafe {
        if !same_key(addr_of!((*holder).twin), &reply.twin) {
            return Err(Reason::ReplyTupleTaken);
        }
        if !claim(holder) {
            return Err(Reason::Raced);
        }
        // Taken back before it was claimed, it is another flow's now.
        if !same_key(addr_of!((*holder).key), &reply.key) {
            release(holder);
            return Err(Reason::Raced);
        }
        // To the same client, from the same address.
        reply.hop = addr_of!((*holder).hop).read_volatile();
        replace(holder, reply);
    }
    Ok(())
}

/// Writes a value over another of the same key, so that readers see one of the two or notice. The state is last: with it
/// a reply's claim ends.
#[inline(always)]
unsafe fn replace<A: Address>(entry: *mut FlowValue<A>, value: &FlowValue<A>) {
    // SAFETY: the caller's promise; volatile, because the order is the protocol (see FlowValue).
    unsafe {
        addr_of_mut!((*entry).generation).write_volatile(value.generation);
        copy_key(addr_of_mut!((*entry).twin), &value.twin);
        addr_of_mut!((*entry).last_seen_ns).write_volatile(value.last_seen_ns);
        addr_of_mut!((*entry).hop).write_volatile(value.hop);
        addr_of_mut!((*entry).address_delta).write_volatile(value.address_delta);
        addr_of_mut!((*entry).port_delta).write_volatile(value.port_delta);
        addr_of_mut!((*entry).address_index).write_volatile(value.address_index);
        addr_of_mut!((*entry).address_stamp).write_volatile(value.address_stamp);
        addr_of_mut!((*entry).birth_ns).write_volatile(value.birth_ns);
        addr_of_mut!((*entry).epoch).write_volatile(value.epoch);
        addr_of_mut!((*entry).service).write_volatile(value.service);
        addr_of_mut!((*entry).endpoint).write_volatile(value.endpoint);
        addr_of_mut!((*entry).mark).write_volatile(value.mark);
        addr_of_mut!((*entry).flags).write_volatile(value.flags);
        addr_of_mut!((*entry).service_slot).write_volatile(value.service_slot);
        addr_of_mut!((*entry).target).write_volatile(value.target);
        addr_of_mut!((*entry).generation_end).write_volatile(value.generation_end);
        addr_of_mut!((*entry).path).write_volatile(value.path);
        addr_of_mut!((*entry).state).write_volatile(value.state);
    }
}
