//! Taking in what another node says of its flows; see `lockstep_abi::learn`.

use core::ffi::c_void;
use core::marker::PhantomData;
use core::ptr::{addr_of, addr_of_mut};

use aya_ebpf::bindings::{BPF_ANY, BPF_NOEXIST};
use aya_ebpf::helpers::generated::bpf_loop;
use aya_ebpf::programs::TcContext;
use lockstep_abi::flow::{FORWARD_NAT, FORWARDING, FlowKey, FlowValue, ORIGINAL, REPLY};
use lockstep_abi::learn::{
    CHANGED, DEFERRED, LEARN_BATCH, LEARN_HEADER, LearnEntry, MADE, REMOVED, STALE, Stamp,
};
use lockstep_abi::state;

use crate::atomic::{self, same_key};
use crate::change::follow;
use crate::family::Family;

const EEXIST: i32 = -17;
const ENOENT: i32 = -2;

struct Run<F> {
    /// How many entries were considered.
    done: i32,
    /// Whether one of them was left to user space, which is to do it before any removal that follows: that may be of the same
    /// flow, and leaves nothing behind that would hold the flow back.
    deferred: bool,
    family: PhantomData<F>,
}

#[inline(always)]
pub(crate) fn learn<F: Family>(ctx: &TcContext) -> i32 {
    let Ok(count) = ctx.load::<u32>(LEARN_HEADER) else { return 0 };
    let count = if count > LEARN_BATCH { LEARN_BATCH } else { count };
    let mut run = Run::<F> { done: 0, deferred: false, family: PhantomData };
    // A loop helper, so that the verifier looks at one round and not at all of them.
    // SAFETY: the callback has the signature that the helper calls, and `run` outlives the call.
    unsafe { bpf_loop(count, round::<F> as *mut c_void, addr_of_mut!(run).cast(), 0) };
    run.done
}

extern "C" fn round<F: Family>(index: u32, run: *mut Run<F>) -> i64 {
    let Some(entry) = F::learnt(index) else { return 1 };
    // SAFETY: the pointer given to bpf_loop above, and a live array element that user space leaves alone meanwhile.
    unsafe {
        let outcome = if (*entry).removes == 0 {
            consider::<F>(&*entry)
        } else if (*run).deferred {
            DEFERRED
        } else {
            remove::<F>(&*entry)
        };
        addr_of_mut!((*entry).outcome).write_volatile(outcome);
        (*run).deferred |= outcome == DEFERRED;
        (*run).done += 1;
    }
    0
}

#[inline(always)]
fn consider<F: Family>(entry: &LearnEntry<F::Address>) -> i32 {
    let told = &entry.original;
    let Some(held) = F::flows().get_ptr_mut(&told.key) else {
        return written(make::<F>(entry), MADE);
    };
    // SAFETY: a live map value; words that packets change are read and written one at a time.
    unsafe {
        if (*held).kind() != ORIGINAL {
            return DEFERRED;
        }
        let birth_ns = (*held).birth_ns;
        let word = addr_of!((*held).state).read_volatile();
        let epoch = addr_of!((*held).epoch).read_volatile();
        if !stamp(told).supersedes(&Stamp::of(epoch, birth_ns, word)) {
            if (*held).mark != told.mark {
                addr_of_mut!((*held).mark).write_volatile(told.mark);
            }
            return STALE;
        }
        if !same_key(addr_of!((*held).twin), &told.twin) {
            // Another endpoint than before: its tuple is free again.
            let left = remove_reply::<F>(&told.key, &(*held).twin);
            if left != 0 {
                return left;
            }
        }
        if birth_ns != told.birth_ns {
            return written(replace::<F>(entry), MADE);
        }
        if change::<F>(entry, held, word) {
            return CHANGED;
        }
        written(replace::<F>(entry), CHANGED)
    }
}

/// Writes what packets change of a flow into the entries that it has, as they do: who has those in hand goes on. False: more
/// than that differs, or somebody else was at it, and both entries are to be put in anew.
///
/// # Safety
/// `held` is the live original of `entry`'s key, of the same birth, whose state was `word`.
#[inline(always)]
unsafe fn change<F: Family>(
    entry: &LearnEntry<F::Address>,
    held: *mut FlowValue<F::Address>,
    word: u64,
) -> bool {
    let told = &entry.original;
    // SAFETY: the caller's promise, and live map values; aligned words, each read or written by itself.
    unsafe {
        let same = (*held).service == told.service
            && (*held).endpoint == told.endpoint
            && (*held).flags == told.flags
            && (*held).address_index == told.address_index
            && (*held).address_stamp == told.address_stamp
            && (*held).service_slot == told.service_slot
            && (*held).target == told.target
            && same_key(addr_of!((*held).twin), &told.twin);
        // What is dead may be freed at any time.
        if !same || state::bits(word) & (state::DEAD | state::CLAIMED) != 0 {
            return false;
        }
        let other = if told.flags & FORWARDING == FORWARD_NAT {
            let Some(reply) = F::flows().get_ptr_mut(&told.twin) else { return false };
            if (*reply).kind() != REPLY || !same_key(addr_of!((*reply).twin), &told.key) {
                return false;
            }
            reply
        } else {
            held
        };
        // First: who ends the flow right after the swap says when it died.
        addr_of_mut!((*held).last_seen_ns).write_volatile(told.last_seen_ns);
        addr_of_mut!((*other).last_seen_ns).write_volatile(told.last_seen_ns);
        if !atomic::swap(addr_of_mut!((*held).state), word, told.state) {
            return false;
        }
        addr_of_mut!((*held).epoch).write_volatile(told.epoch);
        addr_of_mut!((*other).epoch).write_volatile(told.epoch);
        addr_of_mut!((*held).mark).write_volatile(told.mark);
        addr_of_mut!((*other).mark).write_volatile(told.mark);
        follow(held, other, told.state);
    }
    true
}

/// What the table holds goes unless it is newer. The entries are another flow's as soon as they are free.
#[inline(always)]
fn remove<F: Family>(entry: &LearnEntry<F::Address>) -> i32 {
    let told = &entry.original;
    let Some(held) = F::flows().get_ptr_mut(&told.key) else { return STALE };
    // SAFETY: a live map value; words that packets change are read one at a time.
    let twin = unsafe {
        if (*held).kind() != ORIGINAL {
            return STALE;
        }
        let word = addr_of!((*held).state).read_volatile();
        let epoch = addr_of!((*held).epoch).read_volatile();
        if Stamp::of(epoch, (*held).birth_ns, word).supersedes(&stamp(told)) {
            return STALE;
        }
        (*held).twin
    };
    // The reply first: without its original nobody would know it again.
    let left = remove_reply::<F>(&told.key, &twin);
    if left != 0 {
        return left;
    }
    match F::flows().remove(&told.key) {
        Ok(()) | Err(ENOENT) => REMOVED,
        Err(error) => error,
    }
}

/// Removes the reply entry of the flow `key`, if `twin` is its own. 0, or what the kernel said.
#[inline(always)]
fn remove_reply<F: Family>(key: &FlowKey<F::Address>, twin: &FlowKey<F::Address>) -> i32 {
    let Some(reply) = F::flows().get_ptr_mut(twin) else { return 0 };
    // SAFETY: a live map value, of whose key and kind nothing changes.
    let own = unsafe { (*reply).kind() == REPLY && same_key(addr_of!((*reply).twin), key) };
    if !own {
        return 0;
    }
    match F::flows().remove(twin) {
        Ok(()) | Err(ENOENT) => 0,
        Err(error) => error,
    }
}

#[inline(always)]
fn stamp<A>(told: &FlowValue<A>) -> Stamp {
    Stamp::of(told.epoch, told.birth_ns, told.state)
}

#[inline(always)]
fn written(result: Result<(), i32>, outcome: i32) -> i32 {
    match result {
        Ok(()) => outcome,
        // Somebody was first.
        Err(EEXIST) => DEFERRED,
        Err(error) => error,
    }
}

/// The original decides whether the flow is new. This node does not forward meanwhile; of whoever opens its lease in
/// between, the slow path repairs a missing reply.
#[inline(always)]
fn make<F: Family>(entry: &LearnEntry<F::Address>) -> Result<(), i32> {
    F::flows().insert(&entry.original.key, &entry.original, u64::from(BPF_NOEXIST))?;
    with_reply::<F>(entry)
}

/// Of a flow that is another now, or is held otherwise: a live element is another flow's for whoever has it in hand, so both
/// entries are put in as a whole.
#[inline(always)]
fn replace<F: Family>(entry: &LearnEntry<F::Address>) -> Result<(), i32> {
    F::flows().insert(&entry.original.key, &entry.original, u64::from(BPF_ANY))?;
    with_reply::<F>(entry)
}

/// Half a flow is none: where the reply does not go in, the original is taken out.
#[inline(always)]
fn with_reply<F: Family>(entry: &LearnEntry<F::Address>) -> Result<(), i32> {
    if entry.original.flags & FORWARDING != FORWARD_NAT {
        return Ok(());
    }
    F::flows().insert(&entry.reply.key, &entry.reply, u64::from(BPF_ANY)).inspect_err(|_| {
        let _ = F::flows().remove(&entry.original.key);
    })
}
