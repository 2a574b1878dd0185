//! ARP and ping for owned addresses, and every protocol that is not balanced.

use aya_ebpf::helpers::generated::bpf_redirect;
use aya_ebpf::macros::classifier;
use aya_ebpf::programs::TcContext;
use lockstep_abi::address::{AnswerKey, AnswerValue};
use lockstep_abi::reason::Reason;
use lockstep_packet::ipv4::{Ipv4, ttl_words};
use lockstep_packet::{arp, icmp, offset};

use crate::count::{Verdict, action, count, pass};
use crate::guard::{self, guarded, not_served};
use crate::lease::permitted;
use crate::maps::{ADDRESS_INDEX, ANSWERS, INTERFACES};
use crate::skb;

const ICMP: u8 = 1;
const ARP_BE: u16 = 0x0806u16.to_be();
const ANSWER_TTL: u8 = 64;

#[classifier]
pub fn local(ctx: TcContext) -> i32 {
    action(answer(&ctx))
}

#[inline(always)]
fn answer(ctx: &TcContext) -> Verdict {
    if skb::frame(ctx).protocol_be == ARP_BE {
        return answer_arp(ctx);
    }
    let ip = skb::ipv4(ctx)?;
    // SAFETY: elements of this map are replaced only while their address is not in use.
    let owned = unsafe { ADDRESS_INDEX.get(&ip.destination_be) }.copied();
    let kind = if ip.protocol == ICMP && !ip.fragment && !ip.options {
        ctx.load::<u8>(offset::TRANSPORT as usize).map_err(|_| Reason::Malformed)?
    } else {
        icmp::ECHO_REPLY
    };
    let Some(index) = owned else {
        let (from_endpoint, reason) = if ip.fragment {
            (guarded(guard::address(ip.source_be)), Reason::Fragment)
        } else {
            (icmp::is_error(kind) && guarded(guard::address(ip.source_be)), Reason::IcmpError)
        };
        return not_served(ctx, &ip, from_endpoint, reason);
    };
    permitted(index, ip.destination_be)?;
    if ip.fragment {
        return Err(Reason::Fragment);
    }
    if ip.options {
        return Err(Reason::IpOptions);
    }
    if icmp::is_error(kind) {
        return Err(Reason::IcmpError);
    }
    if ip.protocol != ICMP
        || kind != icmp::ECHO_REQUEST
        || answered(skb::ifindex(ctx), ip.destination_be).is_none()
    {
        return Err(Reason::NoService);
    }
    let verdict = pong(ctx, &ip).map_err(|_| Reason::RewriteFailed)?;
    count(Reason::PingAnswered);
    Ok(verdict)
}

#[inline(always)]
fn answered(ifindex: u32, address_be: u32) -> Option<AnswerValue> {
    // SAFETY: one aligned word is used of it.
    unsafe { ANSWERS.get(&AnswerKey { ifindex, address_be }) }.copied()
}

#[inline(always)]
fn answer_arp(ctx: &TcContext) -> Verdict {
    let Ok(packet) = ctx.load::<[u8; arp::LENGTH]>(offset::NETWORK as usize) else {
        return pass(Reason::PassArp);
    };
    let Some(question) = arp::question(&packet) else {
        return pass(Reason::PassArp);
    };
    let ifindex = skb::ifindex(ctx);
    let Some(answer) = answered(ifindex, question.target_be) else {
        return pass(Reason::PassArp);
    };
    permitted(answer.address_index, question.target_be)?;
    // SAFETY: a MAC that user space replaces as a whole.
    let Some(interface) = (unsafe { INTERFACES.get(&ifindex) }) else {
        return pass(Reason::PassArp);
    };
    let mac = interface.mac;
    let reply = arp::answer(&question, mac);
    let [d0, d1, d2, d3, d4, d5] = question.sender_mac;
    let [s0, s1, s2, s3, s4, s5] = mac;
    let macs = [d0, d1, d2, d3, d4, d5, s0, s1, s2, s3, s4, s5];
    ctx.store(offset::NETWORK as usize, &reply, 0).map_err(|_| Reason::RewriteFailed)?;
    ctx.store(offset::ETHERNET as usize, &macs, 0).map_err(|_| Reason::RewriteFailed)?;
    count(Reason::ArpAnswered);
    // SAFETY: a helper without pointers.
    Ok(unsafe { bpf_redirect(ifindex, 0) } as i32)
}

/// Turns an echo request around. Swapping addresses leaves the header's sum as it is.
#[inline(always)]
fn pong(ctx: &TcContext, ip: &Ipv4) -> Result<i32, i64> {
    let (request, reply) =
        (u16::from_ne_bytes([icmp::ECHO_REQUEST, 0]), u16::from_ne_bytes([icmp::ECHO_REPLY, 0]));
    let (from, to) = ttl_words(ip.ttl, ANSWER_TTL, ip.protocol);
    ctx.l4_csum_replace(offset::ICMP_CHECKSUM as usize, u64::from(request), u64::from(reply), 2)?;
    ctx.l3_csum_replace(offset::IPV4_CHECKSUM as usize, u64::from(from), u64::from(to), 2)?;
    ctx.store(offset::TTL as usize, &ANSWER_TTL, 0)?;
    ctx.store(offset::TRANSPORT as usize, &icmp::ECHO_REPLY, 0)?;
    ctx.store(offset::ADDRESSES as usize, &[ip.destination_be, ip.source_be], 0)?;
    let macs = ctx.load::<[[u8; 6]; 2]>(offset::ETHERNET as usize)?;
    ctx.store(offset::ETHERNET as usize, &[macs[1], macs[0]], 0)?;
    // SAFETY: a helper without pointers.
    Ok(unsafe { bpf_redirect(skb::ifindex(ctx), 0) } as i32)
}
