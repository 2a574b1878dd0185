//! Everything of IP that is not plain TCP or UDP: ping, other protocols, fragments, options. At tc.

use lockstep_abi::checksum::{add, apply, replace};
use lockstep_abi::reason::Reason;
use lockstep_packet::ip::Ip;
use lockstep_packet::offset::{ETHERNET, NETWORK};

use crate::arp::answered;
use crate::complain::finish;
use crate::count::{Verdict, count};
use crate::egress::portless;
use crate::family::Family;
use crate::hook::{Hook, Tc};
use crate::hop::Macs;
use crate::lease::permitted_now;

/// Headers that are looked at: IPv6 and the first words behind it.
const HEADERS: u32 = NETWORK + 40 + 8;

#[inline(always)]
pub(crate) fn special<F: Family>(hook: &Tc) -> i32 {
    finish::<Tc, F>(hook, decide::<F>(hook))
}

#[inline(always)]
fn decide<F: Family>(hook: &Tc) -> Verdict {
    hook.pull(HEADERS);
    let ip = F::ip(hook).ok_or(Reason::Malformed)??;
    if !hook.is_ours() {
        return hook.pass(Reason::PassNotOurs);
    }
    let icmp = ip.protocol == F::ICMP && ip.is_plain();
    let kind = if icmp { hook.read::<u8>(F::TRANSPORT).ok_or(Reason::Malformed)? } else { 0 };
    let Some(index) = F::address_index(&ip.destination_be) else {
        let reason = if ip.fragment {
            Some(Reason::Fragment)
        } else if icmp && F::is_error(kind) {
            Some(Reason::IcmpError)
        } else {
            None
        };
        return portless::<Tc, F>(hook, &ip, reason);
    };
    permitted_now(index)?;
    if ip.fragment {
        return Err(Reason::Fragment);
    }
    if ip.options {
        return Err(Reason::IpOptions);
    }
    if icmp && F::is_error(kind) {
        return Err(Reason::IcmpError);
    }
    if !icmp || kind != F::ECHO_REQUEST || answered::<F>(hook.ifindex(), &ip.destination_be).is_none() {
        return Err(Reason::NoService);
    }
    let verdict = pong::<F>(hook, &ip).ok_or(Reason::RewriteFailed)?;
    count(Reason::PingAnswered);
    Ok(verdict)
}

/// Turns an echo request around. Swapping addresses leaves all sums as they are.
#[inline(always)]
fn pong<F: Family>(hook: &Tc, ip: &Ip<F::Address>) -> Option<i32> {
    let first = hook.at::<[u16; 2]>(F::TRANSPORT)?;
    // SAFETY: in bounds; the eBPF machine reads and writes words at any address.
    unsafe {
        let code = (*first)[0].to_ne_bytes()[1];
        let answer = u16::from_ne_bytes([F::ECHO_REPLY, code]);
        let difference = replace(u32::from((*first)[0]), u32::from(answer));
        *first = [answer, apply((*first)[1], add(difference, 0))];
    }
    F::turn_around(hook, ip)?;
    let macs = hook.at::<Macs>(ETHERNET)?;
    // SAFETY: the same.
    unsafe {
        let [a, b, c, d, e, f] = *macs;
        *macs = [d, e, f, a, b, c];
    }
    Some(hook.send(hook.ifindex()))
}
