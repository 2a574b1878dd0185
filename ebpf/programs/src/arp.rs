//! ARP for owned addresses.

use lockstep_abi::address::{AnswerKey, AnswerValue};
use lockstep_abi::flow::Address;
use lockstep_abi::reason::Reason;
use lockstep_packet::{arp, offset};

use crate::count::{Verdict, count};
use crate::family::{Family, V4};
use crate::hook::{Hook, Tc};
use crate::hop::{Hop, send};
use crate::lease::permitted;
use crate::maps::{ANSWERS, INTERFACES};

const FRAME: u32 = offset::NETWORK + arp::LENGTH as u32;

/// Where the address is answered on this interface, if it is.
#[inline(always)]
pub(crate) fn answered<F: Family>(ifindex: u32, address_be: &F::Address) -> Option<AnswerValue> {
    let key = AnswerKey { ifindex, family: F::NUMBER, address: address_be.wide() };
    // SAFETY: an element that user space replaces as a whole.
    unsafe { ANSWERS.get(&key) }.copied()
}

/// The interface's MAC.
#[inline(always)]
pub(crate) fn mac(ifindex: u32) -> Option<[u8; 6]> {
    // SAFETY: a MAC that user space replaces as a whole.
    unsafe { INTERFACES.get(&ifindex) }.map(|interface| interface.mac)
}

/// Two MACs as words of a frame.
#[inline(always)]
pub(crate) fn hop(ifindex: u32, to: [u8; 6], from: [u8; 6]) -> Hop {
    let ([t0, t1, t2, t3, t4, t5], [f0, f1, f2, f3, f4, f5]) = (to, from);
    let macs = [[t0, t1, t2, t3], [t4, t5, f0, f1], [f2, f3, f4, f5]].map(u32::from_ne_bytes);
    Hop { ifindex, macs }
}

#[inline(always)]
pub(crate) fn answer(hook: &Tc) -> Verdict {
    hook.pull(FRAME);
    let Some(packet) = hook.at::<[u8; arp::LENGTH]>(offset::NETWORK) else {
        return hook.pass(Reason::PassArp);
    };
    // SAFETY: in bounds; bytes.
    let Some(question) = arp::question(unsafe { &*packet }) else {
        return hook.pass(Reason::PassArp);
    };
    let ifindex = hook.ifindex();
    let Some(answer) = answered::<V4>(ifindex, &question.target_be) else {
        return hook.pass(Reason::PassArp);
    };
    permitted(answer.address_index, answer.address_stamp)?;
    let Some(mac) = mac(ifindex) else {
        return hook.pass(Reason::PassArp);
    };
    // SAFETY: in bounds; bytes.
    unsafe { *packet = arp::answer(&question, mac) };
    let verdict = send(hook, &hop(ifindex, question.sender_mac, mac))?;
    count(Reason::ArpAnswered);
    Ok(verdict)
}
