//! Plain TCP and UDP packets that need a decision: misses, handshakes, ends of connections.

use lockstep_abi::flow::{FORWARDING, FlowKey};
use lockstep_abi::reason::Reason;
use lockstep_packet::offset::NETWORK;

use crate::complain::finish;
use crate::count::Verdict;
use crate::direct;
use crate::family::Family;
use crate::forward::{begun, by_kept_hop, forward};
use crate::hook::Hook;
use crate::track::{Tracked, drafted, flow, track};
use crate::transport::transport;

/// Headers that are looked at: IPv6 and TCP.
const HEADERS: u32 = NETWORK + 40 + 20;

/// What the first part has made of a packet.
pub(crate) enum Begun {
    /// Everything: the hook's action.
    Done(i32),
    /// A flow, whose way the second part sends the packet. It is told this.
    Flow(u32),
}

/// [`Begun::Flow`]: it was there before.
const FOUND: u32 = 0;
/// [`Begun::Flow`]: it was made just now, for no endpoint; from there on, for the endpoint of that index.
const FOR_NOBODY: u32 = 1;

/// The two parts: [`begin`] and [`left`]. The second is a function that the verifier looks at by itself, because it would
/// follow every way through that from every end of the first. Both share the packet and [`kept_key`].
#[inline(always)]
pub(crate) fn slow<H: Hook, F: Family>(
    hook: &H,
    begin: impl FnOnce(&H) -> Result<Begun, Reason>,
    leave: impl FnOnce(u32) -> i32,
) -> i32 {
    finish::<H, F>(hook, decide::<H>(hook, begin, leave))
}

#[inline(always)]
fn decide<H: Hook>(
    hook: &H,
    begin: impl FnOnce(&H) -> Result<Begun, Reason>,
    leave: impl FnOnce(u32) -> i32,
) -> Verdict {
    match begin(hook)? {
        Begun::Done(action) => Ok(action),
        Begun::Flow(made) => verdict::<H>(leave(made)).map(|action| action.unwrap_or(H::PASS)),
    }
}

/// The first part: finds, brings on or makes the flow. A packet that has made one whose next hop is known is sent there
/// at once.
#[inline(always)]
pub(crate) fn begin<H: Hook, F: Family>(hook: &H) -> Result<Begun, Reason> {
    hook.pull(HEADERS);
    let ip = F::ip(hook).ok_or(Reason::Malformed)??;
    let room = F::key_room().ok_or(Reason::FlowInsertFailed)?;
    // SAFETY: the element is this CPU's own, and programs of one hook do not nest.
    let flags = unsafe { transport::<H, F>(hook, &ip, room) }.ok_or(Reason::Malformed)??;
    let key = kept_key::<F>()?;
    match track::<H, F>(hook, key, flags)? {
        Tracked::Action(action) => Ok(Begun::Done(action)),
        Tracked::Flow => Ok(Begun::Flow(FOUND)),
        Tracked::Made(endpoint) => {
            if let Some(translation) = drafted::<F>()
                && let Some(action) = by_kept_hop::<H, F>(hook, &ip, key, &translation)?
            {
                return Ok(Begun::Done(action));
            }
            // NOBODY is one less than 0.
            Ok(Begun::Flow(endpoint.wrapping_add(FOR_NOBODY + 1)))
        }
    }
}

/// [`begin`] where it is a function that the verifier looks at by itself: at tc the stack has no room for both parts.
#[inline(always)]
pub(crate) fn begin_packed<H: Hook, F: Family>(hook: &H) -> i32 {
    match begin::<H, F>(hook) {
        Ok(Begun::Done(action)) => answer(Ok(Some(action))),
        Ok(Begun::Flow(FOUND)) => answer(Ok(None)),
        Ok(Begun::Flow(made)) => MADE + made as i32,
        Err(reason) => answer(Err(reason)),
    }
}

/// What [`begin_packed`] answered.
#[inline(always)]
pub(crate) fn unpacked<H: Hook>(answer: i32) -> Result<Begun, Reason> {
    if answer >= MADE {
        return Ok(Begun::Flow((answer - MADE) as u32));
    }
    verdict::<H>(answer).map(|action| action.map_or(Begun::Flow(FOUND), Begun::Done))
}

/// What a part answers: the flow is found.
const FLOW: i32 = 0;
/// Of actions, which are -1 and up.
const ACTION: i32 = 2;
/// Beyond all actions: the flow was made just now. Above it, for which endpoint.
const MADE: i32 = 1 << 8;

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
        return begun::<H, F>(hook, &ip, key, &translation, made.wrapping_sub(FOR_NOBODY + 1));
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
