//! The eBPF programs: thin shells that move bytes between the packet, the maps and `lockstep-packet`.
//!
//! One pipeline at two hooks. [`entry`] stands at the hook and does the fast path; it tail-calls [`slow`] when a TCP or
//! UDP packet misses or needs a decision. tc does everything; XDP, where an interface has it, stands in front and
//! hands on what is not plain TCP or UDP. [`age`] is never attached: the sweeper runs it.

#![no_std]
#![no_main]
#![allow(internal_features, reason = "the BPF target has compare-and-swap only as an intrinsic")]
#![feature(core_intrinsics)]

mod age;
mod arp;
mod atomic;
mod change;
mod choose;
mod complain;
mod count;
mod create;
mod direct;
mod egress;
mod entry;
mod event;
mod family;
mod forward;
mod guard;
mod hook;
mod hop;
mod insert;
mod lease;
mod load;
mod maps;
mod slow;
mod special;
mod track;
mod transport;

use aya_ebpf::macros::{classifier, xdp};
use aya_ebpf::programs::{TcContext, XdpContext};

use crate::family::{V4, V6};
use crate::hook::{Hook, Tc, Xdp};

#[classifier]
pub fn tc_entry(ctx: TcContext) -> i32 {
    let hook = Tc(ctx);
    Tc::action(entry::ingress(&hook))
}

#[classifier]
pub fn tc_slow4(ctx: TcContext) -> i32 {
    slow::slow::<Tc, V4>(&Tc(ctx))
}

#[classifier]
pub fn tc_slow6(ctx: TcContext) -> i32 {
    slow::slow::<Tc, V6>(&Tc(ctx))
}

#[classifier]
pub fn tc_special4(ctx: TcContext) -> i32 {
    special::special::<V4>(&Tc(ctx))
}

#[classifier]
pub fn tc_special6(ctx: TcContext) -> i32 {
    special::special::<V6>(&Tc(ctx))
}

#[classifier]
pub fn tc_arp(ctx: TcContext) -> i32 {
    Tc::action(arp::answer(&Tc(ctx)))
}

#[xdp]
pub fn xdp_entry(ctx: XdpContext) -> u32 {
    let hook = Xdp(ctx);
    Xdp::action(entry::ingress(&hook)) as u32
}

#[xdp]
pub fn xdp_slow4(ctx: XdpContext) -> u32 {
    slow::slow::<Xdp, V4>(&Xdp(ctx)) as u32
}

#[xdp]
pub fn xdp_slow6(ctx: XdpContext) -> u32 {
    slow::slow::<Xdp, V6>(&Xdp(ctx)) as u32
}

#[classifier]
pub fn age4(ctx: TcContext) -> i32 {
    age::age::<V4>(ctx)
}

#[classifier]
pub fn age6(ctx: TcContext) -> i32 {
    age::age::<V6>(ctx)
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 4] = *b"GPL\0";

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    // Nothing here panics in a verified program: the verifier refuses one that could reach this loop.
    loop {}
}
