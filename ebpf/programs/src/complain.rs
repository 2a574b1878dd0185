//! What a drop is answered with: ICMP errors for packets that are too big or have lived too long, RST for those of
//! unknown connections. The tc program's; XDP leaves such packets to it.

use aya_ebpf::bindings::__sk_buff;
use lockstep_abi::reason::Reason;

use crate::count::Verdict;
use crate::family::Family;
use crate::hook::Hook;

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
    unsafe { (*skb).cb[0] = reason as u32 };
    hook.tail_call(F::STAGE_COMPLAIN);
    H::action(Err(reason))
}
