//! Everything of IP that is not plain TCP or UDP: ICMP, SCTP, fragments, options and extension headers, neighbour
//! discovery. At tc.

mod errors;
mod family;
mod leave;
mod neighbour;
mod read;
mod tunnel;
pub(crate) mod walk;

use aya_ebpf::bindings::__sk_buff;
use lockstep_abi::checksum::{add, apply, replace};
use lockstep_abi::reason::Reason;
use lockstep_packet::fragment::Role;
use lockstep_packet::icmp::Class;
use lockstep_packet::ip::Ip;
use lockstep_packet::offset::NETWORK;

use crate::arp::answered;
use crate::complain::finish;
use crate::count::{Verdict, count};
use crate::direct::Outer;
use crate::egress::portless;
use crate::family::Family;
use crate::hook::{Hook, Tc};
use crate::lease::permitted_now;
use crate::slow::{answer, kept_key, verdict};
use crate::special::read::Kind;
use crate::special::walk::{PACKET, Walk};
use crate::track::{Tracked, track};

pub(crate) use crate::special::family::{ICMP_HEADER, Special, address_of, sum_of};
pub(crate) use crate::special::leave::go;

/// Headers that are looked at through pointers: IPv6 and the first words behind it. Others are loaded.
const HEADERS: u32 = NETWORK + 40 + 8;

/// What the stage is made of: functions that the verifier looks at by themselves. They share the packet, its walk and
/// its key.
pub(crate) struct Parts {
    /// What the packet is: [`read::read`].
    pub(crate) read: extern "C" fn(*mut __sk_buff) -> i32,
    /// Finds, brings on or makes its flow: [`tracked`].
    pub(crate) track: extern "C" fn(*mut __sk_buff) -> i32,
    /// Sends it its flow's way: [`left`].
    pub(crate) leave: extern "C" fn(*mut __sk_buff) -> i32,
    /// Forwards an ICMP error: [`told`].
    pub(crate) tell: extern "C" fn(*mut __sk_buff) -> i32,
}

#[inline(always)]
pub(crate) fn special<F: Special>(hook: &Tc, parts: Parts) -> i32 {
    finish::<Tc, F>(hook, decide::<F>(hook, parts))
}

#[inline(always)]
fn decide<F: Special>(hook: &Tc, parts: Parts) -> Verdict {
    hook.pull(HEADERS);
    if !hook.is_ours() {
        // Of IPv6, what goes to many.
        return verdict::<Tc>(neighbour(hook.raw())).map(|action| action.unwrap_or(Tc::PASS));
    }
    match Kind::unpack((parts.read)(hook.raw())) {
        Kind::Flow => on_flow::<F>(hook, parts),
        Kind::Error => match verdict::<Tc>((parts.tell)(hook.raw()))? {
            Some(errors::UNCHANGED) => {
                let action = leave(hook, &parts)?;
                count(Reason::IcmpErrorForwarded);
                Ok(action)
            }
            Some(stage @ errors::FIRST_STAGE..) => hook.stage((stage - errors::FIRST_STAGE) as u32),
            Some(action) => Ok(action),
            None => refuse::<F>(hook, Reason::IcmpErrorWithoutFlow, Some(Reason::IcmpError)),
        },
        Kind::Solicitation | Kind::Neighbour if F::NUMBER == 6 => {
            verdict::<Tc>(neighbour(hook.raw())).map(|action| action.unwrap_or(Tc::PASS))
        }
        Kind::Refused(reason) => refuse::<F>(hook, reason, Some(reason)),
        _ => refuse::<F>(hook, Reason::NoService, None),
    }
}

/// Drops what is for an owned address, which is not served that, for the first reason; what an endpoint sent for the
/// other, if there is one.
#[inline(always)]
fn refuse<F: Family>(hook: &Tc, owned: Reason, endpoint: Option<Reason>) -> Verdict {
    let endpoint = endpoint.map_or(NO_REASON, |reason| reason as u32);
    verdict::<Tc>(refused::<F>(hook, owned as u32, endpoint)).map(|action| action.unwrap_or(Tc::PASS))
}

/// No [`Reason`].
const NO_REASON: u32 = u32::MAX;

/// [`refuse`] in one word, with a stack of its own.
#[inline(never)]
fn refused<F: Family>(hook: &Tc, owned: u32, endpoint: u32) -> i32 {
    let endpoint = if endpoint == NO_REASON { None } else { Some(Reason::of(endpoint)) };
    answer(refusal::<F>(hook, Reason::of(owned), endpoint).map(Some))
}

#[inline(always)]
fn refusal<F: Family>(hook: &Tc, owned: Reason, endpoint: Option<Reason>) -> Verdict {
    let ip = F::ip(hook).ok_or(Reason::Malformed)??;
    if let Some(index) = F::address_index(&ip.destination_be) {
        permitted_now(index)?;
        return Err(owned);
    }
    portless::<Tc, F>(hook, &ip, endpoint)
}

#[inline(always)]
fn on_flow<F: Special>(hook: &Tc, parts: Parts) -> Verdict {
    match verdict::<Tc>((parts.track)(hook.raw())) {
        Ok(Some(action)) => Ok(action),
        Ok(None) => leave(hook, &parts),
        Err(Reason::NoService) => ping::<F>(hook),
        Err(reason) => Err(reason),
    }
}

#[inline(always)]
fn leave(hook: &Tc, parts: &Parts) -> Verdict {
    verdict::<Tc>((parts.leave)(hook.raw())).map(|action| action.unwrap_or(Tc::PASS))
}

/// The part that finds the flow.
#[inline(always)]
pub(crate) fn tracked<F: Special>(hook: &Tc) -> i32 {
    answer(flow::<F>(hook).map(|tracked| match tracked {
        Tracked::Flow | Tracked::Made(_) => None,
        Tracked::Action(action) => Some(action),
    }))
}

#[inline(always)]
fn flow<F: Special>(hook: &Tc) -> Result<Tracked, Reason> {
    let walk = Walk::of(PACKET)?;
    let key = kept_key::<F>()?;
    let begins_nothing = if walk.is_later() {
        Some(Reason::FragmentWithoutFirst)
    } else if walk.protocol == F::ICMP && matches!(F::class(walk.icmp), Class::EchoReply) {
        Some(Reason::ReplyWithoutFlow)
    } else {
        None
    };
    if let Some(reason) = begins_nothing
        && F::flows().get_ptr(key).is_none()
    {
        let owned = if walk.is_later() { reason } else { Reason::NoService };
        return refuse::<F>(hook, owned, Some(reason)).map(Tracked::Action);
    }
    track::<Tc, F>(hook, key, walk.flags)
}

/// The part that sends the packet its flow's way.
#[inline(always)]
pub(crate) fn left<F: Special>(hook: &Tc) -> i32 {
    answer(leave::leave::<F>(hook).map(Some))
}

/// The part that forwards an ICMP error.
#[inline(always)]
pub(crate) fn told<F: Special + Outer>(hook: &Tc) -> i32 {
    answer(errors::forward::<F>(hook))
}

/// The part that says what a packet is.
#[inline(always)]
pub(crate) fn read<F: Special>(hook: &Tc) -> i32 {
    read::read::<F>(hook).pack()
}

/// The part that answers neighbours.
#[inline(never)]
#[unsafe(no_mangle)]
extern "C" fn neighbour(raw: *mut __sk_buff) -> i32 {
    answer(neighbour::answer(&Tc(aya_ebpf::programs::TcContext::new(raw))).map(Some))
}

/// An address that has no service for echo answers by itself, where it is answered at all.
#[inline(always)]
fn ping<F: Special>(hook: &Tc) -> Verdict {
    let walk = Walk::of(PACKET)?;
    let ip = F::ip(hook).ok_or(Reason::Malformed)??;
    let asked = walk.protocol == F::ICMP && walk.icmp == F::ECHO_REQUEST && walk.role() == Role::Whole;
    if !asked || walk.transport != F::TRANSPORT || answered::<F>(hook.ifindex(), &ip.destination_be).is_none()
    {
        return Err(Reason::NoService);
    }
    let verdict = pong::<F>(hook, &ip)?;
    count(Reason::PingAnswered);
    Ok(verdict)
}

/// Turns an echo request around. Swapping addresses leaves all sums as they are.
#[inline(always)]
fn pong<F: Family>(hook: &Tc, ip: &Ip<F::Address>) -> Verdict {
    let first = hook.at::<[u16; 2]>(F::TRANSPORT).ok_or(Reason::RewriteFailed)?;
    // SAFETY: in bounds; the eBPF machine reads and writes words at any address.
    unsafe {
        let code = (*first)[0].to_ne_bytes()[1];
        let answer = u16::from_ne_bytes([F::ECHO_REPLY, code]);
        let difference = replace(u32::from((*first)[0]), u32::from(answer));
        *first = [answer, apply((*first)[1], add(difference, 0))];
    }
    F::turn_around(hook, ip).ok_or(Reason::RewriteFailed)?;
    hook.back()
}
