//! RST for a packet of a connection that nobody knows (RFC 9293, 3.10.7.1).

use lockstep_abi::TCP;
use lockstep_abi::checksum::{add, fold};
use lockstep_abi::reason::Reason;
use lockstep_packet::l4::{self, TcpHeader};
use lockstep_packet::offset::NETWORK;
use lockstep_packet::sum;

use super::family::pseudo;
use super::{Answer, Complain, admitted};
use crate::count::count;
use crate::hook::{Hook, Tc};

/// Bytes of a TCP header without options, and its length as it says it.
const LENGTH: u32 = 20;
const OFFSET: u8 = 5 << 4;

/// Headers that are looked at through pointers.
const HEADERS: u32 = NETWORK + 40 + LENGTH;

#[inline(always)]
pub(super) fn reset<F: Complain>(hook: &Tc) -> Answer {
    hook.pull(HEADERS);
    let ip = F::ip(hook).ok_or(None)?.map_err(|_| None)?;
    // Behind options it would have to be looked for; SCTP has an answer of its own.
    if !ip.is_plain() || ip.protocol != TCP {
        return Err(Some(Reason::Miss));
    }
    let at = hook.at::<TcpHeader>(F::TRANSPORT).ok_or(None)?;
    // SAFETY: in bounds; the eBPF machine reads words at any address.
    let segment = unsafe { at.read_unaligned() };
    if segment.flags & l4::RST != 0 {
        return Err(Some(Reason::Miss));
    }
    if !admitted() {
        count(Reason::Miss);
        return Err(Some(Reason::IcmpLimited));
    }
    let total = if ip.total == 0 { hook.length().wrapping_sub(NETWORK) } else { ip.total };
    let mut answer = TcpHeader {
        source_be: segment.destination_be,
        destination_be: segment.source_be,
        offset: OFFSET,
        ..TcpHeader::default()
    };
    if segment.flags & l4::ACK != 0 {
        answer.sequence_be = segment.acknowledgement_be;
        answer.flags = l4::RST;
    } else {
        let header = F::HEADER + u32::from(segment.offset >> 4) * 4;
        let data = total.wrapping_sub(header) + l4::occupied(segment.flags);
        answer.acknowledgement_be = u32::from_be(segment.sequence_be).wrapping_add(data).to_be();
        answer.flags = l4::RST | l4::ACK;
    }
    // A packet whose checksum a device is to make keeps that wish, and whether it has it cannot be seen here. The window
    // of an RST means nothing: it is chosen so that the whole checksum is the sum of the pseudo header, which is what a
    // device wants to find there.
    let pseudo = fold(pseudo::<F>(&ip, TCP, LENGTH));
    let rest = sum::bytes(&answer.bytes());
    answer.window_be = !fold(add(rest, add(u32::from(pseudo), u32::from(pseudo))));
    answer.checksum = pseudo;
    let send = || {
        hook.resize(NETWORK + F::HEADER + LENGTH)?;
        F::head(hook, &ip, TCP, LENGTH)?;
        hook.store_anew(F::TRANSPORT, &answer)?;
        hook.back()
    };
    let action = send().map_err(Some)?;
    count(Reason::MissReset);
    Ok(action)
}
