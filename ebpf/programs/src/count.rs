//! Verdicts, each counted under its name (I14).

use aya_ebpf::bindings::{TC_ACT_SHOT, TC_ACT_UNSPEC};
use lockstep_abi::reason::Reason;

use crate::maps::COUNTERS;

/// What a stage returns: tc's action, or why the packet is dropped.
pub(crate) type Verdict = Result<i32, Reason>;

/// Counts one.
#[inline(always)]
pub(crate) fn count(reason: Reason) {
    if let Some(counter) = COUNTERS.get_ptr_mut(reason as u32) {
        // SAFETY: the element is this CPU's own, and programs are not migrated while they run.
        unsafe { *counter += 1 };
    }
}

/// To the next program of the hook, or the stack.
#[inline(always)]
pub(crate) fn pass(reason: Reason) -> Verdict {
    count(reason);
    Ok(TC_ACT_UNSPEC)
}

/// tc's action for a verdict; drops are counted here.
#[inline(always)]
pub(crate) fn action(verdict: Verdict) -> i32 {
    match verdict {
        Ok(action) => action,
        Err(reason) => {
            count(reason);
            TC_ACT_SHOT
        }
    }
}
