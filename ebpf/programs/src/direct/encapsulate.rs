//! In an outer header to the endpoint: IP in IP, or Generic UDP Encapsulation, over either family. At tc.

use core::ptr::addr_of;

use aya_ebpf::bindings::bpf_adj_room_mode::BPF_ADJ_ROOM_MAC;
use aya_ebpf::bindings::{
    BPF_F_ADJ_ROOM_ENCAP_L3_IPV4, BPF_F_ADJ_ROOM_ENCAP_L3_IPV6, BPF_F_ADJ_ROOM_ENCAP_L4_UDP,
    BPF_F_ADJ_ROOM_FIXED_GSO,
};
use lockstep_abi::address::AddressValue;
use lockstep_abi::flow::{FORWARD_DSR_GUE, FORWARDING, FlowKey};
use lockstep_abi::reason::Reason;
use lockstep_abi::service::TargetValue;
use lockstep_packet::encap::{
    GUE_IPV4, GUE_IPV6, IN_IPV4, IN_IPV6, IPIP, IPV6, Inner, gue_ipv4, gue_ipv6, in_ipv4, in_ipv6,
};
use lockstep_packet::offset::NETWORK;
use lockstep_packet::select::flow_hash;

use crate::count::{Verdict, count};
use crate::direct::target;
use crate::family::{Family, V4, V6};
use crate::forward::Translation;
use crate::hook::{Hook, Tc};
use crate::hop::{self, Way};
use crate::maps::{ADDRESSES, Address6, FIB};
use crate::slow::kept_key;
use crate::track::flow;

/// Where a frame names its payload's protocol.
pub(crate) const ETHERTYPE: u32 = 12;

/// An outer header's family.
pub(crate) trait Outer: Family {
    const IN_IP: u32;
    const GUE: u32;
    const ETHERTYPE_BE: u16;
    const ROOM: u64;

    /// Writes the outer header into its room.
    fn write(
        hook: &Tc,
        inner: &Inner,
        gue: bool,
        source_be: &Self::Address,
        to_be: &Self::Address,
    ) -> Result<(), Reason>;
}

impl Outer for V4 {
    const IN_IP: u32 = IN_IPV4;
    const GUE: u32 = GUE_IPV4;
    const ETHERTYPE_BE: u16 = 0x0800u16.to_be();
    const ROOM: u64 = BPF_F_ADJ_ROOM_ENCAP_L3_IPV4 as u64;

    #[inline(always)]
    fn write(hook: &Tc, inner: &Inner, gue: bool, source_be: &u32, to_be: &u32) -> Result<(), Reason> {
        if gue {
            hook.store_anew(NETWORK, &gue_ipv4(inner, *source_be, *to_be))
        } else {
            hook.store_anew(NETWORK, &in_ipv4(inner, *source_be, *to_be))
        }
    }
}

impl Outer for V6 {
    const IN_IP: u32 = IN_IPV6;
    const GUE: u32 = GUE_IPV6;
    const ETHERTYPE_BE: u16 = 0x86ddu16.to_be();
    const ROOM: u64 = BPF_F_ADJ_ROOM_ENCAP_L3_IPV6 as u64;

    #[inline(always)]
    fn write(
        hook: &Tc,
        inner: &Inner,
        gue: bool,
        source_be: &Address6,
        to_be: &Address6,
    ) -> Result<(), Reason> {
        if gue {
            hook.store_anew(NETWORK, &gue_ipv6(inner, *source_be, *to_be))
        } else {
            hook.store_anew(NETWORK, &in_ipv6(inner, *source_be, *to_be))
        }
    }
}

/// The family of the packet inside.
pub(crate) trait Encapsulated: Family {
    fn inner(hook: &Tc, bytes: u32, hash: u32) -> Option<Inner>;
}

impl Encapsulated for V4 {
    #[inline(always)]
    fn inner(hook: &Tc, bytes: u32, hash: u32) -> Option<Inner> {
        Some(Inner::of_ipv4(&hook.load(NETWORK)?, bytes, hash))
    }
}

impl Encapsulated for V6 {
    #[inline(always)]
    fn inner(hook: &Tc, bytes: u32, hash: u32) -> Option<Inner> {
        Some(Inner::of_ipv6(&hook.load(NETWORK)?, bytes, hash))
    }
}

/// The packet whose key is kept, of a flow with direct return.
#[inline(always)]
pub(crate) fn encapsulate<F: Encapsulated>(hook: &Tc) -> Verdict {
    let key = kept_key::<F>()?;
    let (translation, kind) = flow::<F>(key)?;
    // SAFETY: a live map value.
    let target = unsafe { target(translation.entry()) }?;
    translation.prove(key)?;
    // SAFETY: a live array element that user space may be replacing; its endpoint was compared.
    let family = unsafe { addr_of!(target.family).read_volatile() };
    let gue = kind & FORWARDING == FORWARD_DSR_GUE;
    if family == V6::NUMBER {
        into::<F, V6>(hook, key, &translation, target, gue)
    } else {
        into::<F, V4>(hook, key, &translation, target, gue)
    }
}

#[inline(always)]
fn into<F: Encapsulated, O: Outer>(
    hook: &Tc,
    key: &FlowKey<F::Address>,
    translation: &Translation<F::Address>,
    target: &TargetValue,
    gue: bool,
) -> Verdict {
    let ip = F::ip(hook).ok_or(Reason::Malformed)??;
    let outer = ADDRESSES.get(target.outer_source).ok_or(Reason::TargetGone)?;
    // SAFETY: a live array element that user space may be replacing.
    let (stamp, family) =
        unsafe { (addr_of!(outer.stamp).read_volatile(), addr_of!(outer.family).read_volatile()) };
    if stamp == 0 || family != O::NUMBER {
        return Err(Reason::TargetGone);
    }
    let (source_be, to_be) = (O::narrow(outer.address), O::narrow(target.address));
    let overhead = if gue { O::GUE } else { O::IN_IP };
    let bytes = hook.largest_behind(F::TRANSPORT, ip.protocol);
    let bytes = if bytes == 0 { 0 } else { bytes + overhead };
    let protocol = if gue {
        lockstep_abi::UDP
    } else if F::NUMBER == V6::NUMBER {
        IPV6
    } else {
        IPIP
    };
    let way = match hop::kept::<Tc>(translation.hop, || bytes) {
        Some(hop) => Way::Known(hop, 0),
        None => match hop::find::<Tc, O>(hook, bytes, protocol, &source_be, &to_be) {
            Ok(way) => way,
            Err(reason) => {
                less(overhead);
                return Err(reason);
            }
        },
    };
    if let Way::Known(_, word @ 1..) = way {
        translation.keep_hop(word);
    }
    write::<F, O>(hook, key, outer, target, gue)?;
    let action = match way {
        Way::Known(hop, _) => hop::send(hook, &hop)?,
        Way::Unresolved(fib) => hop::resolve(fib)?,
    };
    count(Reason::ForwardedSlow);
    Ok(action)
}

/// The MTU that the sender will be told, if it is told one: what is left for its packets.
#[inline(always)]
fn less(overhead: u32) {
    if let Some(fib) = FIB.get_ptr_mut(0) {
        // SAFETY: the element is this CPU's own, and programs of one hook do not nest.
        unsafe {
            let mtu_bytes = (*fib).__bindgen_anon_1.mtu_result;
            (*fib).__bindgen_anon_1.mtu_result = mtu_bytes.saturating_sub(overhead as u16);
        }
    }
}

#[inline(never)]
fn write<F: Encapsulated, O: Outer>(
    hook: &Tc,
    key: &FlowKey<F::Address>,
    source: &AddressValue,
    target: &TargetValue,
    gue: bool,
) -> Result<(), Reason> {
    let ip = F::ip(hook).ok_or(Reason::Malformed)??;
    // The time to live inside is less by this hop.
    let deltas = crate::hook::Deltas { addresses: 0, ports: 0 };
    F::rewrite(hook, &ip, &key.reversed(), deltas).ok_or(Reason::RewriteFailed)?;
    let there = hook.length().wrapping_sub(NETWORK);
    let inner_bytes = if ip.total == 0 { there } else { ip.total };
    let inner = F::inner(hook, inner_bytes, flow_hash(key)).ok_or(Reason::RewriteFailed)?;
    let (bytes, udp) = if gue { (O::GUE, u64::from(BPF_F_ADJ_ROOM_ENCAP_L4_UDP)) } else { (O::IN_IP, 0) };
    // The segments of an aggregate keep their size: that they fit was asked before.
    let flags = O::ROOM | udp | u64::from(BPF_F_ADJ_ROOM_FIXED_GSO);
    hook.room(bytes as i32, BPF_ADJ_ROOM_MAC, flags)?;
    O::write(hook, &inner, gue, &O::narrow(source.address), &O::narrow(target.address))?;
    hook.store(ETHERTYPE, &O::ETHERTYPE_BE)
}
