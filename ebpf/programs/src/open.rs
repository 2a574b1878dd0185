//! A SYN that most likely begins a flow, at XDP: the flow is made without being looked for, since of a table that is
//! larger than the processor's caches each look costs as much as an entry does. The kernel refuses what is there.
//!
//! Only what most SYNs need is done here, and nothing that could not be done twice: all else is left to the stage of all
//! decisions, which then finds everything as it was.

use lockstep_packet::l4;

use crate::count::Verdict;
use crate::create::{Addressed, create_at_once, exact};
use crate::family::Family;
use crate::forward::by_hop;
use crate::hook::Hook;
use crate::lease::{may_begin, permitted_now};
use crate::slow::kept_key;
use crate::track::{addressed, drafted};
use crate::transport::transport;

/// The stage.
#[inline(always)]
pub(crate) fn open<H: Hook, F: Family>(hook: &H) -> i32 {
    H::action(begun::<H, F>(hook).unwrap_or_else(|| hook.stage(F::STAGE_SLOW)))
}

/// `None`: the other stage decides.
#[inline(always)]
fn begun<H: Hook, F: Family>(hook: &H) -> Option<Verdict> {
    let ip = F::ip(hook)?.ok()?;
    if !ip.may_be_forwarded() {
        return None;
    }
    let room = F::key_room()?;
    // SAFETY: the element is this CPU's own, and programs of one hook do not nest.
    let flags = unsafe { transport::<H, F>(hook, &ip, room) }?.ok()?;
    if !l4::opens(flags) {
        return None;
    }
    let key = kept_key::<F>().ok()?;
    let exact = exact::<F>(key);
    let index = addressed::<F>(key, exact)?;
    let (value, lease) = permitted_now(index).ok()?;
    may_begin(lease).ok()?;
    let hop = create_at_once::<H, F>(hook, key, &Addressed { index, value, lease, exact })?;
    Some(by_hop::<H, F>(hook, &ip, &drafted::<F>()?, &hop))
}
