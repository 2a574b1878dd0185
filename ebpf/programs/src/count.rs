//! Verdicts, each counted under its name (I14).

use lockstep_abi::reason::Reason;

use crate::maps::COUNTERS;

/// What a stage returns: the hook's action, or why the packet is dropped.
pub(crate) type Verdict = Result<i32, Reason>;

/// Counts one.
#[inline(always)]
pub(crate) fn count(reason: Reason) {
    if let Some(counter) = COUNTERS.get_ptr_mut(reason as u32) {
        // SAFETY: the element is this CPU's own, and programs are not migrated while they run.
        unsafe { *counter += 1 };
    }
}
