//! Wrappers that forget: each repeat first removes both entries of one flow from the dataplane's own table, so that
//! its SYN makes it anew, with everything warm. And what is the least that a new flow costs: its two entries.

use aya_ebpf::bindings::xdp_action::{XDP_ABORTED, XDP_PASS};
use aya_ebpf::bindings::{BPF_NOEXIST, TC_ACT_SHOT};
use aya_ebpf::helpers::generated::bpf_ktime_get_ns;
use aya_ebpf::macros::{classifier, xdp};
use aya_ebpf::maps::HashMap;
use aya_ebpf::programs::{TcContext, XdpContext};
use lockstep_abi::flow::{FlowKey4, FlowKey6, FlowValue4, FlowValue6};
use lockstep_abi::{TCP, UDP};

use crate::choose;
use crate::lookup::{key4, key6};
use crate::maps::{FLOWS4, FLOWS6, FORGET, REMOVAL_NS, TARGET_TC, TARGET_XDP, VALUE};
use crate::wrap::{write4, write6};

#[xdp]
pub fn xdp_again4(ctx: XdpContext) -> u32 {
    if forget4().is_some() && write4(ctx.data(), ctx.data_end()).is_some() {
        // SAFETY: the context is valid, and nothing here needs dropping.
        unsafe { TARGET_XDP.tail_call(&ctx, 0) };
    }
    XDP_ABORTED
}

#[xdp]
pub fn xdp_again6(ctx: XdpContext) -> u32 {
    if forget6().is_some() && write6(ctx.data(), ctx.data_end()).is_some() {
        // SAFETY: the context is valid, and nothing here needs dropping.
        unsafe { TARGET_XDP.tail_call(&ctx, 0) };
    }
    XDP_ABORTED
}

#[classifier]
pub fn tc_again4(ctx: TcContext) -> i32 {
    if forget4().is_some() && write4(ctx.data(), ctx.data_end()).is_some() {
        // SAFETY: the context is valid, and nothing here needs dropping.
        unsafe { TARGET_TC.tail_call(&ctx, 0) };
    }
    TC_ACT_SHOT
}

#[classifier]
pub fn tc_again6(ctx: TcContext) -> i32 {
    if forget6().is_some() && write6(ctx.data(), ctx.data_end()).is_some() {
        // SAFETY: the context is valid, and nothing here needs dropping.
        unsafe { TARGET_TC.tail_call(&ctx, 0) };
    }
    TC_ACT_SHOT
}

/// The same, which notes how long the removal takes: what is measured behind it is not looked at.
#[xdp]
pub fn xdp_timed4(ctx: XdpContext) -> u32 {
    if timed(forget4).is_some() && write4(ctx.data(), ctx.data_end()).is_some() {
        // SAFETY: the context is valid, and nothing here needs dropping.
        unsafe { TARGET_XDP.tail_call(&ctx, 0) };
    }
    XDP_ABORTED
}

#[xdp]
pub fn xdp_timed6(ctx: XdpContext) -> u32 {
    if timed(forget6).is_some() && write6(ctx.data(), ctx.data_end()).is_some() {
        // SAFETY: the context is valid, and nothing here needs dropping.
        unsafe { TARGET_XDP.tail_call(&ctx, 0) };
    }
    XDP_ABORTED
}

#[inline(always)]
fn timed(removal: impl FnOnce() -> Option<()>) -> Option<()> {
    // SAFETY: a helper without arguments.
    let begun = unsafe { bpf_ktime_get_ns() };
    removal()?;
    // SAFETY: the same.
    let ended = unsafe { bpf_ktime_get_ns() };
    let total = REMOVAL_NS.get_ptr_mut(0)?;
    // SAFETY: the element is this CPU's own.
    unsafe { *total += ended - begun };
    Some(())
}

/// The floor of new flows over a table that fills: two insertions for each flow.
#[xdp]
pub fn xdp_fill4(_: XdpContext) -> u32 {
    let Some((plan, i)) = choose::next() else { return XDP_ABORTED };
    if fill(&FLOWS4, key4(plan, i)).is_some() { XDP_PASS } else { XDP_ABORTED }
}

#[xdp]
pub fn xdp_fill6(_: XdpContext) -> u32 {
    let Some((plan, i)) = choose::next() else { return XDP_ABORTED };
    if fill(&FLOWS6, key6(plan, i)).is_some() { XDP_PASS } else { XDP_ABORTED }
}

/// Inserts a tuple, and the same of another protocol for the other direction.
#[inline(always)]
fn fill<const WORDS: usize, K, V>(flows: &HashMap<K, V>, mut tuple: [u32; WORDS]) -> Option<()> {
    const { assert!(size_of::<K>() == size_of::<[u32; WORDS]>() && size_of::<V>() <= size_of::<FlowValue6>()) };
    let value = VALUE.get_ptr(0)?.cast::<V>();
    for protocol in [TCP, UDP] {
        tuple[WORDS - 1] = u32::from(protocol);
        // SAFETY: a key is a tuple, and the element is as large as the larger value; nobody writes it during a run.
        flows.insert(unsafe { &*tuple.as_ptr().cast() }, unsafe { &*value }, BPF_NOEXIST.into()).ok()?;
    }
    Some(())
}

/// The floor of a new flow: two insertions.
#[xdp]
pub fn xdp_insert4(_: XdpContext) -> u32 {
    if insert4().is_some() { XDP_PASS } else { XDP_ABORTED }
}

#[xdp]
pub fn xdp_insert6(_: XdpContext) -> u32 {
    if insert6().is_some() { XDP_PASS } else { XDP_ABORTED }
}

#[inline(always)]
fn insert4() -> Option<()> {
    let value = VALUE.get_ptr(0)?.cast::<FlowValue4>();
    for entry in 0..2 {
        let key = FORGET.get_ptr(entry)?.cast::<FlowKey4>();
        // SAFETY: elements are as large as what they are taken for; nobody writes them during a run.
        FLOWS4.insert(unsafe { &*key }, unsafe { &*value }, BPF_NOEXIST.into()).ok()?;
    }
    Some(())
}

#[inline(always)]
fn insert6() -> Option<()> {
    let value = VALUE.get_ptr(0)?;
    for entry in 0..2 {
        let key = FORGET.get_ptr(entry)?.cast::<FlowKey6>();
        // SAFETY: elements are a key and a value; nobody writes them during a run.
        FLOWS6.insert(unsafe { &*key }, unsafe { &*value }, BPF_NOEXIST.into()).ok()?;
    }
    Some(())
}

#[inline(always)]
fn forget4() -> Option<()> {
    for entry in 0..2 {
        let key = FORGET.get_ptr(entry)?.cast::<FlowKey4>();
        // SAFETY: an element is as large as the larger key; nobody writes it during a run.
        let _absent = FLOWS4.remove(unsafe { &*key });
    }
    Some(())
}

#[inline(always)]
fn forget6() -> Option<()> {
    for entry in 0..2 {
        let key = FORGET.get_ptr(entry)?.cast::<FlowKey6>();
        // SAFETY: an element is a key; nobody writes it during a run.
        let _absent = FLOWS6.remove(unsafe { &*key });
    }
    Some(())
}
