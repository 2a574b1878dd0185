//! Plain TCP and UDP packets that need a decision: misses, handshakes, ends of connections.

use lockstep_abi::flow::{FORWARDING, FlowKey};
use lockstep_abi::reason::Reason;
use lockstep_packet::offset::NETWORK;

use crate::complain::finish;
use crate::count::Verdict;
use crate::direct;
use crate::family::Family;
use crate::forward::{self, by_drafted_hop, forward};
use crate::hook::Hook;
use crate::track::{Tracked, drafted, flow, track};
use crate::transport::transport;

/// Headers that are looked at: IPv6 and TCP.
const HEADERS: u32 = NETWORK + 40 + 20;

/// What the second part is told: the flow was there before.
const FOUND: u32 = 0;
/// What the second part is told: it was made just now, for no endpoint; from there on, for the endpoint of that index.
const FOR_NOBODY: u32 = 1;

/// The stage: [`begin`], and [`left`] as `leave`, a function that the verifier looks at by itself, because it would follow
/// every way through that from every end of what is before. Both share the packet and [`kept_key`].
#[inline(always)]
pub(crate) fn slow<H: Hook, F: Family>(hook: &H, leave: impl FnOnce(u32) -> i32) -> i32 {
    finish::<H, F>(hook, begin::<H, F>(hook, |made| sent::<H>(leave(made))))
}

/// The same where the stack has no room for both: [`begun`] as `begin`, a function of its own as well.
#[inline(always)]
pub(crate) fn slow_in_parts<H: Hook, F: Family>(
    hook: &H,
    begin: impl FnOnce() -> i32,
    leave: impl FnOnce(u32) -> i32,
) -> i32 {
    let verdict = sent::<H>(begin()).and_then(|action| {
        if action < ON_ITS_FLOW { Ok(action) } else { sent::<H>(leave((action - ON_ITS_FLOW) as u32)) }
    });
    finish::<H, F>(hook, verdict)
}

/// Finds, brings on or makes the flow. A packet that has made one whose next hop is known is sent there at once; what
/// becomes of any other that has a flow, `leave` says, which is told of it.
#[inline(always)]
fn begin<H: Hook, F: Family>(hook: &H, leave: impl FnOnce(u32) -> Verdict) -> Verdict {
    hook.pull(HEADERS);
    let ip = F::ip(hook).ok_or(Reason::Malformed)??;
    let room = F::key_room().ok_or(Reason::FlowInsertFailed)?;
    // SAFETY: the element is this CPU's own, and programs of one hook do not nest.
    let flags = unsafe { transport::<H, F>(hook, &ip, room) }.ok_or(Reason::Malformed)??;
    let key = kept_key::<F>()?;
    let made = match track::<H, F>(hook, key, flags)? {
        Tracked::Action(action) => return Ok(action),
        Tracked::Flow => FOUND,
        Tracked::Made(endpoint) => {
            if let Some(translation) = drafted::<F>()
                && let Some(action) = by_drafted_hop::<H, F>(hook, &ip, &translation)?
            {
                return Ok(action);
            }
            // NOBODY is one less than 0.
            endpoint.wrapping_add(FOR_NOBODY + 1)
        }
    };
    leave(made)
}

/// The first part, where it is one.
#[inline(always)]
pub(crate) fn begun<H: Hook, F: Family>(hook: &H) -> i32 {
    answer(begin::<H, F>(hook, |made| Ok(ON_ITS_FLOW + made as i32)).map(Some))
}

/// What [`begun`] answers instead of an action, and beyond all of them: the packet has a flow. Above it, what the second
/// part is told.
const ON_ITS_FLOW: i32 = 1 << 8;

#[inline(always)]
fn sent<H: Hook>(answer: i32) -> Verdict {
    verdict::<H>(answer).map(|action| action.unwrap_or(H::PASS))
}

/// What a part answers: the flow is found.
const FLOW: i32 = 0;
/// Of actions, which are -1 and up.
const ACTION: i32 = 2;

/// A part's answer: a flow, an action, or a reason below zero.
#[inline(always)]
pub(crate) fn answer(verdict: Result<Option<i32>, Reason>) -> i32 {
    match verdict {
        Ok(None) => FLOW,
        Ok(Some(action)) => action + ACTION,
        Err(reason) => -1 - (reason as i32),
    }
}

#[inline(always)]
pub(crate) fn verdict<H: Hook>(answer: i32) -> Result<Option<i32>, Reason> {
    match answer {
        FLOW => Ok(None),
        action if action > 0 => Ok(Some(action - ACTION)),
        reason => Err(Reason::of((-1 - reason) as u32)),
    }
}

/// The second part, of the same packet.
#[inline(always)]
pub(crate) fn left<H: Hook, F: Family>(hook: &H, made: u32) -> i32 {
    answer(end::<H, F>(hook, made).map(Some))
}

#[inline(always)]
fn end<H: Hook, F: Family>(hook: &H, made: u32) -> Verdict {
    let ip = F::ip(hook).ok_or(Reason::Malformed)??;
    let key = kept_key::<F>()?;
    if made != FOUND
        && let Some(translation) = drafted::<F>()
    {
        return forward::begun::<H, F>(hook, &ip, key, &translation, made.wrapping_sub(FOR_NOBODY + 1));
    }
    let (translation, flags) = flow::<F>(key)?;
    if flags & FORWARDING == 0 {
        forward::<H, F>(hook, &ip, key, &translation)
    } else {
        direct::forward::<H, F>(hook, &ip, key, &translation)
    }
}

/// The packet's key, where it takes no room on the stack, which is short.
#[inline(always)]
pub(crate) fn kept_key<F: Family>() -> Result<&'static FlowKey<F::Address>, Reason> {
    let room = F::key_room().ok_or(Reason::FlowInsertFailed)?;
    // SAFETY: the element is this CPU's own, and programs of one hook do not nest.
    Ok(unsafe { &*room })
}
