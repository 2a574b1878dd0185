//! What a drop is answered with: ICMP errors for packets that are too big or have lived too long, RST for those of
//! unknown connections. The tc program's; XDP leaves such packets to it.

mod family;
mod report;
mod reset;

use core::ptr::addr_of_mut;

use aya_ebpf::bindings::__sk_buff;
use lockstep_abi::reason::Reason;

use crate::count::{Verdict, count};
use crate::family::Family;
use crate::hook::{Hook, Tc};
use crate::lease::precise_ns;
use crate::load::in_rate;
use crate::maps::{COMPLAINTS, FIB};

pub(crate) use family::Complain;

/// Answers in a second, and in a burst.
const INTERVAL_NS: u64 = 1_000_000_000 / 1000;
const BURST_NS: u64 = 100_000_000;

/// Whether a packet that is dropped for this reason is answered.
#[inline(always)]
const fn answered(reason: Reason) -> bool {
    matches!(reason, Reason::FragNeeded | Reason::TtlExceeded | Reason::MissReset)
}

/// The hook's action for a verdict of a stage.
#[inline(always)]
pub(crate) fn finish<H: Hook, F: Family>(hook: &H, verdict: Verdict) -> i32 {
    let reason = match verdict {
        Err(reason) if answered(reason) => reason,
        other => return H::action(other),
    };
    if H::IN_FRONT {
        return H::action(hook.pass(Reason::XdpPassed));
    }
    let skb: *mut __sk_buff = hook.context().cast();
    // SAFETY: the context is valid while the program runs; the words are for programs to leave notes in.
    unsafe {
        (*skb).cb[0] = reason as u32;
        (*skb).cb[1] = 0;
    }
    hook.tail_call(F::STAGE_COMPLAIN);
    H::action(Err(reason))
}

/// In the packet's second note: the packet was forwarded, and the error about it is another's. Not among the MACs of who
/// sent this one is where it goes.
const RELAYED: u32 = 1;

/// Notes that this packet was found too big elsewhere, for the stage.
#[inline(always)]
pub(crate) fn note_relayed(hook: &Tc, mtu_bytes: u32) {
    let mtu_bytes = if mtu_bytes < 0xffff { mtu_bytes } else { 0xffff };
    if let Some(fib) = FIB.get_ptr_mut(0) {
        // SAFETY: the element is this CPU's own, and programs of one hook do not nest; the context is valid.
        unsafe {
            (*fib).__bindgen_anon_1.mtu_result = mtu_bytes as u16;
            (*hook.skb()).cb[0] = Reason::FragNeeded as u32;
            (*hook.skb()).cb[1] = RELAYED;
        }
    }
}

/// The stage. The packet is dropped in any case, and counted under the reason why; its answer goes in its place, if it
/// gets one.
#[inline(always)]
pub(crate) fn complain<F: Complain>(hook: &Tc) -> i32 {
    // SAFETY: the context is valid while the program runs.
    let (reason, relayed) = unsafe { (Reason::of((*hook.skb()).cb[0]), (*hook.skb()).cb[1] == RELAYED) };
    let answer = if matches!(reason, Reason::MissReset) {
        reset::reset::<F>(hook)
    } else {
        if !relayed {
            count(reason);
        }
        report::report::<F>(hook, reason, relayed)
    };
    match answer {
        Ok(action) => action,
        Err(reason) => {
            if let Some(reason) = reason {
                count(reason);
            }
            Tc::DROP
        }
    }
}

/// An answer, or what else the drop counts as.
type Answer = Result<i32, Option<Reason>>;

/// Whether one more may be answered now: whoever sends what is dropped is not to send by us what it likes.
#[inline(always)]
fn admitted() -> bool {
    let Some(arrival) = COMPLAINTS.get_ptr_mut(0) else {
        return false;
    };
    // SAFETY: a live array element.
    unsafe { in_rate(addr_of_mut!(*arrival), INTERVAL_NS, BURST_NS, precise_ns()) }
}
