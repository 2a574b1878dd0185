//! Wrappers that forget: each repeat first removes both entries of one flow from the dataplane's own table, so that
//! its SYN makes it anew, with everything warm.

use aya_ebpf::bindings::TC_ACT_SHOT;
use aya_ebpf::bindings::xdp_action::XDP_ABORTED;
use aya_ebpf::macros::{classifier, xdp};
use aya_ebpf::programs::{TcContext, XdpContext};
use lockstep_abi::flow::{FlowKey4, FlowKey6};

use crate::maps::{FLOWS4, FLOWS6, FORGET, TARGET_TC, TARGET_XDP};
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
