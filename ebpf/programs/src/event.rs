//! Telling user space of a flow's creation or change.

use aya_ebpf::bindings::{BPF_RB_FORCE_WAKEUP, BPF_RB_NO_WAKEUP};
use lockstep_abi::event::{AWAKE, FlowEvent};
use lockstep_abi::flow::{Address, FlowValue, KIND, NO_SYNC, SYNC_LATE};
use lockstep_abi::map::SHARDS;
use lockstep_abi::reason::Reason;
use lockstep_abi::state;

use crate::atomic::{self, copy_key};
use crate::count::count;
use crate::lease::tick_ns;
use crate::maps::{EVENT_READER, EVENTS, LOST_EVENTS};

/// Puts an event into the ring about a flow in this state, unless the flow's policy is to be silent. `flow` is a copy
/// of the original entry, or what that was made of.
#[inline(never)]
pub(crate) fn report<A: Address>(flow: &FlowValue<A>, kind: u32, word: u64, group: u64, epoch: u64) {
    report_now(flow, kind, word, group, epoch);
}

/// [`report`], where a call would cost.
#[inline(always)]
pub(crate) fn report_now<A: Address>(flow: &FlowValue<A>, kind: u32, word: u64, group: u64, epoch: u64) {
    let bits = state::bits(word);
    let early = flow.flags & SYNC_LATE != 0 && state::phase(bits) == state::NEW;
    if flow.flags & NO_SYNC != 0 || early {
        return;
    }
    let shard = flow.key.shard();
    let Some(mut slot) = EVENTS.reserve::<FlowEvent<A>>(0) else {
        count(Reason::EventLost);
        if let Some(lost) = LOST_EVENTS.get_ptr_mut(shard % SHARDS) {
            // SAFETY: a live array element.
            unsafe { atomic::add(lost, 1) };
        }
        return;
    };
    let event = slot.as_mut_ptr();
    // SAFETY: room for an event, each field of which is written.
    unsafe {
        (*event).kind = kind;
        (*event).shard = shard;
        copy_key(&raw mut (*event).key, &flow.key);
        copy_key(&raw mut (*event).reply_key, &flow.twin);
        (*event).state_bits = bits & state::REPLICATED;
        (*event).n = state::n(word);
        (*event).birth_ns = flow.birth_ns;
        (*event).epoch = epoch;
        (*event).group = group;
        (*event).service = flow.service;
        (*event).endpoint = flow.endpoint;
        (*event).now_ns = tick_ns();
        (*event).flags = flow.flags & !KIND;
        (*event).pad = 0;
    }
    slot.submit(BPF_RB_NO_WAKEUP.into());
    // After the event is there to be read, which is a full barrier: a reader that goes to sleep says so before it
    // looks for the last time.
    if let Some(reader) = EVENT_READER.get_ptr(0) {
        // SAFETY: a live array element; one aligned word.
        if unsafe { reader.read_volatile() } != AWAKE {
            wake();
        }
    }
}

/// Makes the ring's descriptor readable, by a record that nobody gets to see.
#[cold]
#[inline(never)]
fn wake() {
    // A ring without room has no sleeping reader for long: what filled it woke it.
    if let Some(slot) = EVENTS.reserve::<u64>(0) {
        slot.discard(BPF_RB_FORCE_WAKEUP.into());
    }
}
