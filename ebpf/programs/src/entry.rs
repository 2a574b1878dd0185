//! The program at the hook: what is ours, and the fast path.

use core::ptr::addr_of;

use aya_ebpf::macros::classifier;
use aya_ebpf::programs::TcContext;
use lockstep_abi::flow::{PATH_FAST, REPLY};
use lockstep_abi::map::{STAGE_LOCAL, STAGE_SLOW};
use lockstep_abi::reason::Reason;
use lockstep_abi::{TCP, UDP};
use lockstep_packet::l4;

use crate::count::{Verdict, action, count, pass};
use crate::forward::{forward, take, touch};
use crate::lease::permitted;
use crate::maps::{FLOWS, STAGES};
use crate::skb;

// linux/if_packet.h
const PACKET_HOST: u32 = 0;
const PACKET_BROADCAST: u32 = 1;

const IPV4_BE: u16 = 0x0800u16.to_be();
const ARP_BE: u16 = 0x0806u16.to_be();

#[classifier]
pub fn entry(ctx: TcContext) -> i32 {
    action(ingress(&ctx))
}

#[inline(always)]
fn ingress(ctx: &TcContext) -> Verdict {
    let frame = skb::frame(ctx);
    if frame.vlan {
        return pass(Reason::PassNotOurs);
    }
    if frame.protocol_be == ARP_BE
        && (frame.packet_type == PACKET_HOST || frame.packet_type == PACKET_BROADCAST)
    {
        return stage(ctx, STAGE_LOCAL);
    }
    if frame.packet_type != PACKET_HOST {
        return pass(Reason::PassNotOurs);
    }
    if frame.protocol_be != IPV4_BE {
        return pass(Reason::PassNotIpv4);
    }
    let ip = skb::ipv4(ctx)?;
    if ip.protocol != TCP && ip.protocol != UDP {
        return stage(ctx, STAGE_LOCAL);
    }
    if ip.fragment || ip.options {
        return stage(ctx, STAGE_SLOW);
    }
    let (key, flags) = skb::transport(ctx, &ip)?;
    if l4::needs_decision(flags) {
        return stage(ctx, STAGE_SLOW);
    }
    let Some(entry) = FLOWS.get_ptr_mut(&key) else {
        return stage(ctx, STAGE_SLOW);
    };
    // SAFETY: a live map value; `path` is one aligned word.
    if unsafe { addr_of!((*entry).path).read_volatile() } != PATH_FAST {
        return stage(ctx, STAGE_SLOW);
    }
    // SAFETY: a live map value.
    let translation = unsafe { take(entry, &key) }?;
    let vip = if translation.kind == REPLY { translation.twin.destination_be } else { key.destination_be };
    permitted(translation.address_index, vip)?;
    // SAFETY: a live map value.
    unsafe { touch(entry) };
    let verdict = forward(ctx, &ip, &translation)?;
    count(Reason::ForwardedFast);
    Ok(verdict)
}

/// Continues in another program; returns only when that is missing.
#[inline(always)]
fn stage(ctx: &TcContext, index: u32) -> Verdict {
    // SAFETY: the context is valid, and nothing here needs dropping.
    unsafe { STAGES.tail_call(ctx, index) };
    Err(Reason::StageMissing)
}
