//! Wrappers. Test-run does not reset the packet between repeats, so each repeat writes the header anew, for the
//! next flow, and then continues in the program under test.

use aya_ebpf::bindings::TC_ACT_SHOT;
use aya_ebpf::bindings::xdp_action::XDP_ABORTED;
use aya_ebpf::macros::{classifier, xdp};
use aya_ebpf::programs::{TcContext, XdpContext};

use crate::choose;
use crate::maps::{TARGET_TC, TARGET_XDP};
use crate::plan::{HEADER_V4, HEADER_V6, Plan, SOURCE};

#[xdp]
pub fn xdp_wrap4(ctx: XdpContext) -> u32 {
    if write4(ctx.data(), ctx.data_end()).is_some() {
        // SAFETY: the context is valid, and nothing here needs dropping.
        unsafe { TARGET_XDP.tail_call(&ctx, 0) };
    }
    XDP_ABORTED
}

#[xdp]
pub fn xdp_wrap6(ctx: XdpContext) -> u32 {
    if write6(ctx.data(), ctx.data_end()).is_some() {
        // SAFETY: the context is valid, and nothing here needs dropping.
        unsafe { TARGET_XDP.tail_call(&ctx, 0) };
    }
    XDP_ABORTED
}

#[classifier]
pub fn tc_wrap4(ctx: TcContext) -> i32 {
    if write4(ctx.data(), ctx.data_end()).is_some() {
        // SAFETY: the context is valid, and nothing here needs dropping.
        unsafe { TARGET_TC.tail_call(&ctx, 0) };
    }
    TC_ACT_SHOT
}

#[classifier]
pub fn tc_wrap6(ctx: TcContext) -> i32 {
    if write6(ctx.data(), ctx.data_end()).is_some() {
        // SAFETY: the context is valid, and nothing here needs dropping.
        unsafe { TARGET_TC.tail_call(&ctx, 0) };
    }
    TC_ACT_SHOT
}

/// Writes the next flow's IPv4 header.
#[inline(always)]
pub(crate) fn write4(data: usize, end: usize) -> Option<()> {
    let (plan, i) = choose::next()?;
    write::<HEADER_V4>(data, end, plan)?;
    let (port, low) = plan.varied_fields(i);
    let (port, low) = (port.to_be(), low.to_be());
    let (low_at, port_at) = if plan.varied == SOURCE { (28, 34) } else { (32, 36) };
    // SAFETY: below HEADER_V4, which `write` has compared with the packet's end.
    unsafe {
        put(data, low_at, low);
        put(data, port_at, port);
        put(data, 18, !low);
        put(data, 40, !sum(low, port));
    }
    Some(())
}

/// Writes the next flow's IPv6 header.
#[inline(always)]
pub(crate) fn write6(data: usize, end: usize) -> Option<()> {
    let (plan, i) = choose::next()?;
    write::<HEADER_V6>(data, end, plan)?;
    let (port, low) = plan.varied_fields(i);
    let (port, low) = (port.to_be(), low.to_be());
    let (low_at, port_at) = if plan.varied == SOURCE { (36, 54) } else { (52, 56) };
    // SAFETY: below HEADER_V6, which `write` has compared with the packet's end.
    unsafe {
        put(data, low_at, low);
        put(data, port_at, port);
        put(data, 60, !sum(low, port));
    }
    Some(())
}

#[inline(always)]
fn write<const LENGTH: usize>(data: usize, end: usize, plan: &Plan) -> Option<()> {
    if data + LENGTH > end {
        return None;
    }
    let packet = data as *mut u64;
    for word in 0..LENGTH / 8 {
        // SAFETY: LENGTH bytes of the packet were compared with its end; test-run aligns its data to a cache line.
        unsafe { packet.add(word).write_volatile(plan.header[word]) };
    }
    Some(())
}

/// # Safety
/// `at` is even, and two bytes there are within the packet.
#[inline(always)]
unsafe fn put(data: usize, at: usize, value: u16) {
    // SAFETY: the caller's promise.
    unsafe { ((data + at) as *mut u16).write_volatile(value) };
}

/// One's complement.
#[inline(always)]
fn sum(a: u16, b: u16) -> u16 {
    let sum = u32::from(a) + u32::from(b);
    (sum + (sum >> 16)) as u16
}
