//! Translation and the way out.

use core::mem::{size_of, zeroed};
use core::ptr::addr_of;

use aya_ebpf::bindings::{
    BPF_F_INVALIDATE_HASH, BPF_F_MARK_MANGLED_0, BPF_F_PSEUDO_HDR, BPF_FIB_LKUP_RET_FRAG_NEEDED,
    BPF_FIB_LKUP_RET_FWD_DISABLED, BPF_FIB_LKUP_RET_NO_NEIGH, BPF_FIB_LKUP_RET_SUCCESS,
    BPF_FIB_LKUP_RET_UNSUPP_LWT, bpf_fib_lookup as FibParams, bpf_redir_neigh,
};
use aya_ebpf::helpers::generated::{bpf_fib_lookup, bpf_redirect, bpf_redirect_neigh};
use aya_ebpf::programs::TcContext;
use lockstep_abi::UDP;
use lockstep_abi::checksum::{add, replace};
use lockstep_abi::flow::{FlowKey4, FlowValue4, LAST_SEEN_GRAIN_NS};
use lockstep_abi::reason::Reason;
use lockstep_packet::ipv4::{Ipv4, ttl_words};
use lockstep_packet::offset;

use crate::atomic::read_key;
use crate::count::{Verdict, count};
use crate::lease::coarse_ns;
use crate::skb;

const AF_INET: u8 = 2;

/// What a packet of one direction needs of its flow, copied out of the entry.
#[derive(Clone, Copy)]
pub(crate) struct Translation {
    pub(crate) kind: u32,
    pub(crate) twin: FlowKey4,
    pub(crate) address_index: u32,
    address_delta: u32,
    port_delta: u32,
}

/// Copies a flow's translation out of its entry, and proves that the entry was this flow's all the time.
///
/// # Safety
/// `entry` points to a live value of the flow map.
#[inline(always)]
pub(crate) unsafe fn take(entry: *const FlowValue4, key: &FlowKey4) -> Result<Translation, Reason> {
    // SAFETY: the caller's promise; each read is volatile because the memory may be reused while it is read,
    // and their order is the protocol (see FlowValue4).
    unsafe {
        let generation = addr_of!((*entry).generation_end).read_volatile();
        let translation = Translation {
            kind: addr_of!((*entry).kind).read_volatile(),
            twin: read_key(addr_of!((*entry).twin)),
            address_index: addr_of!((*entry).address_index).read_volatile(),
            address_delta: addr_of!((*entry).address_delta).read_volatile(),
            port_delta: addr_of!((*entry).port_delta).read_volatile(),
        };
        if addr_of!((*entry).generation).read_volatile() != generation
            || read_key(addr_of!((*entry).key)) != *key
        {
            return Err(Reason::FlowRecycled);
        }
        Ok(translation)
    }
}

/// Notes that the direction is in use.
///
/// # Safety
/// `entry` points to a live value of the flow map.
#[inline(always)]
pub(crate) unsafe fn touch(entry: *mut FlowValue4) {
    let now = coarse_ns();
    // SAFETY: the caller's promise; one aligned word, of which any recent value will do.
    unsafe {
        if now.wrapping_sub((*entry).last_seen_ns) as i64 > LAST_SEEN_GRAIN_NS as i64 {
            (*entry).last_seen_ns = now;
        }
    }
}

/// Asks the kernel's routing table. Also answers whether it would forward at all.
#[inline(always)]
pub(crate) fn route(
    ctx: &TcContext,
    protocol: u8,
    source_be: u32,
    destination_be: u32,
    params: &mut FibParams,
) -> u32 {
    params.family = AF_INET;
    params.l4_protocol = protocol;
    params.__bindgen_anon_3.ipv4_src = source_be;
    params.__bindgen_anon_4.ipv4_dst = destination_be;
    params.ifindex = skb::ifindex(ctx);
    // tot_len stays 0: the kernel then compares the packet itself with the MTU, segments of an aggregate
    // one by one.
    // SAFETY: context and parameters are valid and of the stated size.
    unsafe { bpf_fib_lookup(ctx.skb.skb.cast(), params, size_of::<FibParams>() as i32, 0) as u32 }
}

/// Empty parameters for [`route`].
#[inline(always)]
pub(crate) fn no_route() -> FibParams {
    // SAFETY: integers only.
    unsafe { zeroed() }
}

/// Rewrites the packet and sends it to its next hop.
#[inline(always)]
pub(crate) fn forward(ctx: &TcContext, ip: &Ipv4, translation: &Translation) -> Verdict {
    if !ip.may_be_forwarded() {
        return Err(Reason::TtlExceeded);
    }
    let out = translation.twin.reversed();
    let mut next = no_route();
    let unresolved = match route(ctx, ip.protocol, out.source_be, out.destination_be, &mut next) {
        BPF_FIB_LKUP_RET_SUCCESS => false,
        BPF_FIB_LKUP_RET_NO_NEIGH => true,
        BPF_FIB_LKUP_RET_FRAG_NEEDED => return Err(Reason::FragNeeded),
        BPF_FIB_LKUP_RET_FWD_DISABLED => return Err(Reason::ForwardingOff),
        BPF_FIB_LKUP_RET_UNSUPP_LWT => return Err(Reason::NextHopUnsupported),
        _ => return Err(Reason::NoRoute),
    };
    rewrite(ctx, ip, &out, translation).map_err(|_| Reason::RewriteFailed)?;
    if unresolved {
        return neighbour(&next);
    }
    let [d0, d1, d2, d3, d4, d5] = next.dmac;
    let [s0, s1, s2, s3, s4, s5] = next.smac;
    let macs = [d0, d1, d2, d3, d4, d5, s0, s1, s2, s3, s4, s5];
    ctx.store(offset::ETHERNET as usize, &macs, 0).map_err(|_| Reason::RewriteFailed)?;
    // SAFETY: a helper without pointers.
    Ok(unsafe { bpf_redirect(next.ifindex, 0) } as i32)
}

/// The kernel resolves the neighbour and queues the packet meanwhile.
#[inline(always)]
fn neighbour(next: &FibParams) -> Verdict {
    if next.family != AF_INET {
        return Err(Reason::NextHopUnsupported);
    }
    // SAFETY: integers only.
    let mut hop: bpf_redir_neigh = unsafe { zeroed() };
    hop.nh_family = u32::from(AF_INET);
    // SAFETY: the family says which of the union's fields the kernel filled: the gateway, or the destination.
    hop.__bindgen_anon_1.ipv4_nh = unsafe { next.__bindgen_anon_4.ipv4_dst };
    count(Reason::ForwardedUnresolved);
    // SAFETY: the parameters are valid and of the stated size.
    Ok(unsafe { bpf_redirect_neigh(next.ifindex, &mut hop, size_of::<bpf_redir_neigh>() as i32, 0) } as i32)
}

/// Writes new addresses, ports, time to live and checksums. A partial checksum holds the pseudo header only,
/// so it takes the difference of the addresses and not that of the ports; the kernel knows which it has.
#[inline(always)]
fn rewrite(ctx: &TcContext, ip: &Ipv4, out: &FlowKey4, translation: &Translation) -> Result<(), i64> {
    let (checksum, mangled) = if ip.protocol == UDP {
        (offset::UDP_CHECKSUM, u64::from(BPF_F_MARK_MANGLED_0))
    } else {
        (offset::TCP_CHECKSUM, 0)
    };
    let ttl = ip.ttl - 1;
    let (from, to) = ttl_words(ip.ttl, ttl, ip.protocol);
    let header = add(translation.address_delta, replace(u32::from(from), u32::from(to)));
    ctx.l4_csum_replace(
        checksum as usize,
        0,
        u64::from(translation.address_delta),
        u64::from(BPF_F_PSEUDO_HDR) | mangled,
    )?;
    ctx.l4_csum_replace(checksum as usize, 0, u64::from(translation.port_delta), mangled)?;
    ctx.l3_csum_replace(offset::IPV4_CHECKSUM as usize, 0, u64::from(header), 0)?;
    ctx.store(offset::TTL as usize, &ttl, 0)?;
    ctx.store(
        offset::ADDRESSES as usize,
        &[out.source_be, out.destination_be],
        u64::from(BPF_F_INVALIDATE_HASH),
    )?;
    ctx.store(offset::TRANSPORT as usize, &[out.source_port_be, out.destination_port_be], 0)
}
