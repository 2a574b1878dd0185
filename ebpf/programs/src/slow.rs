//! Plain TCP and UDP packets that need a decision: misses, handshakes, ends of connections.

use lockstep_abi::flow::{FORWARDING, FlowKey};
use lockstep_abi::reason::Reason;
use lockstep_packet::offset::NETWORK;

use crate::complain::finish;
use crate::count::Verdict;
use crate::direct;
use crate::family::Family;
use crate::forward::{begun, forward};
use crate::hook::Hook;
use crate::track::{Tracked, drafted, flow, track};
use crate::transport::transport;

/// Headers that are looked at: IPv6 and TCP.
const HEADERS: u32 = NETWORK + 40 + 20;

/// What a stage is made of: two functions that the verifier looks at by themselves, because it would follow every way
/// through the second from every end of the first. They share the packet and [`kept_key`].
pub(crate) struct Parts<T, L> {
    /// Finds, brings on or makes the flow: [`tracked`].
    pub(crate) track: T,
    /// Sends the packet the flow's way, which was [made](made) just now or not: [`left`].
    pub(crate) leave: L,
}

#[inline(always)]
pub(crate) fn slow<H: Hook, F: Family>(hook: &H, parts: Parts<impl Fn() -> i32, impl Fn(u32) -> i32>) -> i32 {
    finish::<H, F>(hook, decide::<H>(hook, parts))
}

#[inline(always)]
fn decide<H: Hook>(hook: &H, parts: Parts<impl Fn() -> i32, impl Fn(u32) -> i32>) -> Verdict {
    hook.pull(HEADERS);
    let tracked = (parts.track)();
    let made = made(tracked);
    if made == FOUND
        && let Some(action) = verdict::<H>(tracked)?
    {
        return Ok(action);
    }
    verdict::<H>((parts.leave)(made)).map(|action| action.unwrap_or(H::PASS))
}

/// What a part answers: the flow is found.
const FLOW: i32 = 0;
/// Of actions, which are -1 and up.
const ACTION: i32 = 2;
/// Beyond all actions: the flow was made just now. Above it, for which endpoint.
const MADE: i32 = 1 << 8;

/// What the second part is told: the flow was there before.
const FOUND: u32 = 0;
/// What the second part is told: it was made just now, for no endpoint; from there on, for the endpoint of that index.
const FOR_NOBODY: u32 = 1;

/// The first part's answer.
#[inline(always)]
fn outcome(tracked: Result<Tracked, Reason>) -> i32 {
    match tracked {
        Ok(Tracked::Flow) => FLOW,
        // NOBODY is one less than 0.
        Ok(Tracked::Made(endpoint)) => MADE + endpoint.wrapping_add(1) as i32,
        Ok(Tracked::Action(action)) => answer(Ok(Some(action))),
        Err(reason) => answer(Err(reason)),
    }
}

/// What the second part is told of the first one's answer.
#[inline(always)]
const fn made(outcome: i32) -> u32 {
    if outcome >= MADE { (outcome - MADE) as u32 + FOR_NOBODY } else { FOUND }
}

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

/// The first part.
#[inline(always)]
pub(crate) fn tracked<H: Hook, F: Family>(hook: &H) -> i32 {
    outcome(begin::<H, F>(hook))
}

#[inline(always)]
fn begin<H: Hook, F: Family>(hook: &H) -> Result<Tracked, Reason> {
    let ip = F::ip(hook).ok_or(Reason::Malformed)??;
    let room = F::key_room().ok_or(Reason::FlowInsertFailed)?;
    // SAFETY: the element is this CPU's own, and programs of one hook do not nest.
    let flags = unsafe { transport::<H, F>(hook, &ip, room) }.ok_or(Reason::Malformed)??;
    let key = kept_key::<F>()?;
    track::<H, F>(hook, key, flags)
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
