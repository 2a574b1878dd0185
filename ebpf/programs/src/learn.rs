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

use crate::atomic::same_key;
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
        written(replace::<F>(entry), if birth_ns == told.birth_ns { CHANGED } else { MADE })
    }
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

/// A live element is another flow's for whoever has it in hand: both entries are put in as a whole.
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
