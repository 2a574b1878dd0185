//! Which flow comes next.

use crate::maps::{PLAN, TURN};
use crate::plan::Plan;

/// The run's plan and the next flow of it: each comes once before any comes again, in an order without locality.
#[inline(always)]
pub(crate) fn next() -> Option<(&'static Plan, u32)> {
    let turn = TURN.get_ptr_mut(0)?;
    // SAFETY: the element is this CPU's own, and programs are not migrated while they run.
    let n = unsafe {
        *turn += 1;
        *turn - 1
    };
    let plan = PLAN.get(0)?;
    Some((plan, (n as u32).wrapping_mul(plan.step) & plan.mask))
}
