//! Neighbour discovery for owned IPv6 addresses.

use lockstep_abi::address::FLOATING;
use lockstep_abi::reason::Reason;
use lockstep_packet::header::{Ipv6Header, ipv6};
use lockstep_packet::icmp6;
use lockstep_packet::nd::{
    ADVERTISEMENT_LENGTH, HOP_LIMIT, MAX_SOLICITATION_LENGTH, advertisement, solicitation,
};
use lockstep_packet::offset::{ETHERNET, NETWORK};

use crate::arp::{answered, hop, mac};
use crate::count::{Verdict, count};
use crate::family::{Family, V6};
use crate::hook::{Hook, Tc};
use crate::hop::send;
use crate::lease::permitted;

const ADVERTISEMENT_FRAME: u32 = V6::TRANSPORT + ADVERTISEMENT_LENGTH as u32;
/// Where a frame names its sender.
const SENDER_MAC: u32 = ETHERNET + 6;

/// Answers a solicitation for an address that is answered on this interface; everything else is the stack's.
#[inline(always)]
pub(crate) fn answer(hook: &Tc) -> Verdict {
    let ip = V6::ip(hook).ok_or(Reason::Malformed)??;
    if ip.protocol != icmp6::PROTOCOL || hook.load::<u8>(V6::TRANSPORT) != Some(icmp6::SOLICITATION) {
        return hook.pass(if hook.is_ours() { Reason::PassNeighbour } else { Reason::PassNotOurs });
    }
    let length = ip.total.wrapping_sub(V6::TRANSPORT - NETWORK);
    let Some(message) = message(hook, length) else {
        return hook.pass(Reason::PassNeighbour);
    };
    let Some(question) = solicitation(&ip.source_be, &ip.destination_be, ip.ttl, &message, length) else {
        return hook.pass(Reason::PassNeighbour);
    };
    let ifindex = hook.ifindex();
    let (Some(known), Some(own)) = (answered::<V6>(ifindex, &question.target_be), mac(ifindex)) else {
        return hook.pass(Reason::PassNeighbour);
    };
    let (address, _) = permitted(known.address_index, known.address_stamp)?;
    let answer = advertisement(&question, own, address.flags & FLOATING != 0);
    let asker = hook.load::<[u8; 6]>(SENDER_MAC).ok_or(Reason::Malformed)?;
    let header = ipv6(&Ipv6Header {
        source_be: question.target_be,
        destination_be: answer.destination_be,
        next_header: icmp6::PROTOCOL,
        hop_limit: HOP_LIMIT,
        traffic_class: 0,
        flow_label: 0,
        payload_bytes: ADVERTISEMENT_LENGTH as u32,
    });
    hook.resize(ADVERTISEMENT_FRAME)?;
    hook.store_anew(NETWORK, &header)?;
    hook.store_anew(V6::TRANSPORT, &answer.message)?;
    let verdict = send(hook, &hop(ifindex, answer.destination_mac.unwrap_or(asker), own))?;
    count(Reason::SolicitationAnswered);
    Ok(verdict)
}

/// The message, with zeros behind it.
#[inline(always)]
fn message(hook: &Tc, length: u32) -> Option<[u8; MAX_SOLICITATION_LENGTH]> {
    let mut message = [0; MAX_SOLICITATION_LENGTH];
    match length {
        40 => message = hook.load(V6::TRANSPORT)?,
        32 => message[..32].copy_from_slice(&hook.load::<[u8; 32]>(V6::TRANSPORT)?),
        24 => message[..24].copy_from_slice(&hook.load::<[u8; 24]>(V6::TRANSPORT)?),
        _ => return None,
    }
    Some(message)
}
