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
mod words;

use aya_ebpf::bindings::{__sk_buff, xdp_md};
use aya_ebpf::macros::{classifier, xdp};
use aya_ebpf::programs::{TcContext, XdpContext};

use crate::family::{V4, V6};
use crate::hook::{Hook, Tc, Xdp};

#[classifier]
pub fn tc_entry(ctx: TcContext) -> i32 {
    let hook = Tc(ctx);
    Tc::action(entry::ingress(&hook))
}

/// A stage for plain TCP and UDP, and its two parts. The parts are no programs: they are global functions, which the
/// verifier looks at by themselves.
macro_rules! slow_stage {
    ($kind:ident $stage:ident($context:ty) -> $result:ty = $track:ident, $leave:ident, $hook:ident($raw:ty), $family:ty) => {
        #[$kind]
        pub fn $stage(ctx: $context) -> $result {
            let hook = $hook(ctx);
            let raw = hook.raw();
            slow::slow::<$hook, $family>(&hook, slow::Parts { track: || $track(raw), leave: || $leave(raw) })
                as $result
        }

        #[inline(never)]
        #[unsafe(no_mangle)]
        extern "C" fn $track(raw: *mut $raw) -> i32 {
            slow::tracked::<$hook, $family>(&$hook(<$context>::new(raw)))
        }

        #[inline(never)]
        #[unsafe(no_mangle)]
        extern "C" fn $leave(raw: *mut $raw) -> i32 {
            slow::left::<$hook, $family>(&$hook(<$context>::new(raw)))
        }
    };
}

slow_stage!(classifier tc_slow4(TcContext) -> i32 = tc_track4, tc_leave4, Tc(__sk_buff), V4);
slow_stage!(classifier tc_slow6(TcContext) -> i32 = tc_track6, tc_leave6, Tc(__sk_buff), V6);
slow_stage!(xdp xdp_slow4(XdpContext) -> u32 = xdp_track4, xdp_leave4, Xdp(xdp_md), V4);
slow_stage!(xdp xdp_slow6(XdpContext) -> u32 = xdp_track6, xdp_leave6, Xdp(xdp_md), V6);

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
