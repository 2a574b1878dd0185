//! What stands at the hook: what is ours, and the fast path.

use core::ptr::addr_of;

use lockstep_abi::flow::PATH_FAST;
use lockstep_abi::map::STAGE_ARP;
use lockstep_abi::reason::Reason;
use lockstep_abi::{TCP, UDP};
use lockstep_packet::l4;

use crate::count::{Verdict, count};
use crate::family::{Family, V4, V6};
use crate::forward::{Translation, leave, touch};
use crate::hook::Hook;
use crate::hop;
use crate::lease::check;
use crate::transport::{Room, transport};

const IPV4_BE: u16 = 0x0800u16.to_be();
const IPV6_BE: u16 = 0x86ddu16.to_be();
const ARP_BE: u16 = 0x0806u16.to_be();

#[inline(always)]
pub(crate) fn ingress<H: Hook>(hook: &H) -> Verdict {
    match hook.ethertype_be() {
        Some(IPV4_BE) => family::<H, V4>(hook),
        Some(IPV6_BE) => family::<H, V6>(hook),
        Some(ARP_BE) if !H::IN_FRONT => hook.stage(STAGE_ARP),
        None => hook.pass(Reason::PassNotOurs),
        Some(_) if H::IN_FRONT => hook.pass(Reason::XdpPassed),
        Some(_) => hook.pass(Reason::PassNotIp),
    }
}

#[inline(always)]
fn family<H: Hook, F: Family>(hook: &H) -> Verdict {
    if !hook.is_ours() {
        return not_ours::<H, F>(hook);
    }
    let Some(ip) = F::ip(hook) else {
        return hook.stage(F::STAGE_SLOW);
    };
    let ip = ip?;
    if !ip.is_plain() || (ip.protocol != TCP && ip.protocol != UDP) {
        return special::<H, F>(hook);
    }
    let mut room = Room::new();
    // SAFETY: room for a key.
    let Some(flags) = (unsafe { transport::<H, F>(hook, &ip, room.as_mut_ptr()) }) else {
        return hook.stage(F::STAGE_SLOW);
    };
    let flags = flags?;
    // SAFETY: it was written.
    let key = unsafe { room.key() };
    // The stage of all decisions does what that leaves.
    if H::IN_FRONT && l4::opens(flags) {
        hook.tail_call(F::STAGE_OPEN);
    }
    if l4::needs_decision(flags) || !ip.may_be_forwarded() {
        return hook.stage(F::STAGE_SLOW);
    }
    let Some(entry) = F::flows().get_ptr_mut(key) else {
        return hook.stage(F::STAGE_SLOW);
    };
    // SAFETY: a live map value; `path` is one aligned word.
    if unsafe { addr_of!((*entry).path).read_volatile() } != PATH_FAST {
        return hook.stage(F::STAGE_SLOW);
    }
    // SAFETY: a live map value.
    let translation = unsafe { Translation::of(entry) };
    check(translation.address_index, translation.address_stamp)?;
    let Some(hop) = hop::kept::<H>(translation.hop, || hook.largest(F::TRANSPORT, ip.protocol)) else {
        return hook.stage(F::STAGE_SLOW);
    };
    // SAFETY: a live map value.
    unsafe { touch(entry) };
    let verdict = leave::<H, F>(hook, &ip, key, &translation, &hop)?;
    count(Reason::ForwardedFast);
    Ok(verdict)
}

/// To the tc program's stage for everything else.
#[inline(always)]
fn special<H: Hook, F: Family>(hook: &H) -> Verdict {
    if H::IN_FRONT { hook.pass(Reason::XdpPassed) } else { hook.stage(F::STAGE_SPECIAL) }
}

/// Neighbour solicitations go to many stations: a multicast group that few addresses share.
#[inline(always)]
fn not_ours<H: Hook, F: Family>(hook: &H) -> Verdict {
    if H::IN_FRONT {
        return hook.pass(Reason::XdpPassed);
    }
    if F::NUMBER == V6::NUMBER && hook.is_multicast() {
        return hook.stage(F::STAGE_SPECIAL);
    }
    hook.pass(Reason::PassNotOurs)
}
