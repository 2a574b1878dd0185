//! Direct server return: the packet goes to the endpoint as it is, and the endpoint answers the client itself.

mod encapsulate;

use core::ptr::addr_of;

use lockstep_abi::flow::{FORWARD_DSR_L2, FORWARDING, FlowKey, FlowValue};
use lockstep_abi::reason::Reason;
use lockstep_abi::service::TargetValue;
use lockstep_packet::ip::Ip;

use crate::count::{Verdict, count};
use crate::family::Family;
use crate::forward::Translation;
use crate::hook::Hook;
use crate::hop::{self, Way};
use crate::maps::TARGETS;
use crate::slow::verdict;

pub(crate) use encapsulate::{ETHERTYPE, Encapsulated, Outer, encapsulate};

/// The endpoint of a flow.
///
/// # Safety
/// `entry` points to a live value of the flow map.
#[inline(always)]
pub(crate) unsafe fn target<A>(entry: *const FlowValue<A>) -> Result<&'static TargetValue, Reason> {
    // SAFETY: the caller's promise.
    let (index, endpoint) =
        unsafe { (addr_of!((*entry).target).read_volatile(), addr_of!((*entry).endpoint).read_volatile()) };
    let target = TARGETS.get(u32::from(index)).ok_or(Reason::TargetGone)?;
    if target.endpoint == endpoint { Ok(target) } else { Err(Reason::TargetGone) }
}

/// Sends a client's packet to the flow's endpoint. A router between them would see a packet of its own network: with
/// encapsulation the time to live is the outer header's affair, without it nothing routes the packet any more. Either
/// way this is a hop, and counts as one.
#[inline(always)]
pub(crate) fn forward<H: Hook, F: Family>(
    hook: &H,
    ip: &Ip<F::Address>,
    key: &FlowKey<F::Address>,
    translation: &Translation<F::Address>,
) -> Verdict {
    if !ip.may_be_forwarded() {
        return Err(Reason::TtlExceeded);
    }
    // SAFETY: a live map value.
    let target = unsafe { target(translation.entry()) }?;
    // SAFETY: the same; one aligned word.
    let kind = unsafe { addr_of!((*translation.entry()).flags).read_volatile() };
    translation.prove(key)?;
    if kind & FORWARDING != FORWARD_DSR_L2 {
        if H::IN_FRONT {
            return hook.pass(Reason::XdpPassed);
        }
        let answer = F::encapsulate(hook.context().cast());
        return verdict::<H>(answer).map(|action| action.unwrap_or(H::PASS));
    }
    let bytes = hook.largest(F::TRANSPORT, ip.protocol);
    if let Some(hop) = hop::kept::<H>(translation.hop, || bytes) {
        let verdict = hop::send(hook, &hop)?;
        count(Reason::ForwardedSlow);
        return Ok(verdict);
    }
    let endpoint = F::narrow(target.address);
    match hop::find::<H, F>(hook, bytes, ip.protocol, &key.source_be, &endpoint)? {
        Way::Known(hop, word) => {
            translation.keep_hop(word);
            let verdict = hop::send(hook, &hop)?;
            count(Reason::ForwardedSlow);
            Ok(verdict)
        }
        Way::Unresolved(_) if H::IN_FRONT => hook.pass(Reason::XdpPassed),
        Way::Unresolved(fib) => {
            count(Reason::ForwardedSlow);
            hop::resolve(fib)
        }
    }
}
