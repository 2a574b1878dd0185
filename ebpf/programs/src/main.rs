//! The eBPF programs: thin shells that move bytes between the packet, the maps and `lockstep-packet`.
//!
//! One pipeline at two hooks. [`entry`] stands at the hook and does the fast path; it tail-calls [`slow`] when a TCP or
//! UDP packet misses or needs a decision, at XDP for a SYN by way of [`open`]. tc does everything; XDP, where an
//! interface has it, stands in front and hands on what is not plain TCP or UDP. [`age`] and [`learn`] are never attached:
//! user space runs them.

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
mod learn;
mod lease;
mod load;
mod maps;
mod open;
mod reopen;
mod skb;
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

/// A stage for plain TCP and UDP at XDP, and its second part. That is no program: it is a global function, which the
/// verifier looks at by itself.
macro_rules! xdp_slow_stage {
    ($stage:ident = $leave:ident, $family:ty) => {
        #[xdp]
        pub fn $stage(ctx: XdpContext) -> u32 {
            let hook = Xdp(ctx);
            let raw = hook.raw();
            slow::slow::<Xdp, $family>(&hook, |made| $leave(raw, made)) as u32
        }

        #[inline(never)]
        #[unsafe(no_mangle)]
        extern "C" fn $leave(raw: *mut xdp_md, made: u32) -> i32 {
            slow::left::<Xdp, $family>(&Xdp(XdpContext::new(raw)), made)
        }
    };
}

xdp_slow_stage!(xdp_slow4 = xdp_leave4, V4);
xdp_slow_stage!(xdp_slow6 = xdp_leave6, V6);

#[xdp]
pub fn xdp_open4(ctx: XdpContext) -> u32 {
    open::open::<Xdp, V4>(&Xdp(ctx)) as u32
}

#[xdp]
pub fn xdp_open6(ctx: XdpContext) -> u32 {
    open::open::<Xdp, V6>(&Xdp(ctx)) as u32
}

/// A function that the verifier looks at by itself.
macro_rules! part {
    ($name:ident = $part:path) => {
        #[inline(never)]
        #[unsafe(no_mangle)]
        extern "C" fn $name(raw: *mut __sk_buff) -> i32 {
            $part(&Tc(TcContext::new(raw)))
        }
    };
}

/// A stage for plain TCP and UDP at tc, and its two parts.
macro_rules! tc_slow_stage {
    ($stage:ident = $begin:ident, $leave:ident, $family:ty) => {
        #[classifier]
        pub fn $stage(ctx: TcContext) -> i32 {
            let hook = Tc(ctx);
            let raw = hook.raw();
            slow::slow_in_parts::<Tc, $family>(&hook, || $begin(raw), |made| $leave(raw, made))
        }

        part!($begin = slow::begun::<Tc, $family>);

        #[inline(never)]
        #[unsafe(no_mangle)]
        extern "C" fn $leave(raw: *mut __sk_buff, made: u32) -> i32 {
            slow::left::<Tc, $family>(&Tc(TcContext::new(raw)), made)
        }
    };
}

tc_slow_stage!(tc_slow4 = tc_begin4, tc_leave4, V4);
tc_slow_stage!(tc_slow6 = tc_begin6, tc_leave6, V6);

part!(encapsulate4 = encapsulated::<V4>);
part!(encapsulate6 = encapsulated::<V6>);

/// A part of the stages that send a packet its flow's way.
#[inline(always)]
fn encapsulated<F: direct::Encapsulated>(hook: &Tc) -> i32 {
    slow::answer(direct::encapsulate::<F>(hook).map(Some))
}

/// A stage for everything else, and its parts.
macro_rules! special_stage {
    ($stage:ident = $read:ident, $track:ident, $leave:ident, $tell:ident, $family:ty) => {
        #[classifier]
        pub fn $stage(ctx: TcContext) -> i32 {
            let hook = Tc(ctx);
            special::special::<$family>(
                &hook,
                special::Parts { read: $read, track: $track, leave: $leave, tell: $tell },
            )
        }

        part!($read = special::read::<$family>);
        part!($track = special::tracked::<$family>);
        part!($leave = special::left::<$family>);
        part!($tell = special::told::<$family>);
    };
}

special_stage!(tc_special4 = special_read4, special_track4, special_leave4, special_tell4, V4);
special_stage!(tc_special6 = special_read6, special_track6, special_leave6, special_tell6, V6);

#[classifier]
pub fn tc_complain4(ctx: TcContext) -> i32 {
    complain::complain::<V4>(&Tc(ctx))
}

#[classifier]
pub fn tc_complain6(ctx: TcContext) -> i32 {
    complain::complain::<V6>(&Tc(ctx))
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

#[classifier]
pub fn learn4(ctx: TcContext) -> i32 {
    learn::learn::<V4>(&ctx)
}

#[classifier]
pub fn learn6(ctx: TcContext) -> i32 {
    learn::learn::<V6>(&ctx)
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 4] = *b"GPL\0";

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    // Nothing here panics in a verified program: the verifier refuses one that could reach this loop.
    loop {}
}
