//! The eBPF programs: thin shells that move bytes between the packet, the maps and `lockstep-packet`.
//!
//! One pipeline at two hooks. [`entry`] stands at the hook and does the fast path; it tail-calls [`slow`] when a TCP or
//! UDP packet misses or needs a decision. tc does everything; XDP, where an interface has it, stands in front and
//! hands on what is not plain TCP or UDP. [`age`] and [`learn`] are never attached: user space runs them.

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

/// A stage for plain TCP and UDP, and its two parts. The parts are no programs: they are global functions, which the
/// verifier looks at by themselves.
macro_rules! slow_stage {
    ($kind:ident $stage:ident($context:ty) -> $result:ty = $track:ident, $leave:ident, $hook:ident($raw:ty), $family:ty) => {
        #[$kind]
        pub fn $stage(ctx: $context) -> $result {
            let hook = $hook(ctx);
            let raw = hook.raw();
            slow::slow::<$hook, $family>(
                &hook,
                slow::Parts { track: || $track(raw), leave: |made| $leave(raw, made) },
            ) as $result
        }

        #[inline(never)]
        #[unsafe(no_mangle)]
        extern "C" fn $track(raw: *mut $raw) -> i32 {
            slow::tracked::<$hook, $family>(&$hook(<$context>::new(raw)))
        }

        #[inline(never)]
        #[unsafe(no_mangle)]
        extern "C" fn $leave(raw: *mut $raw, made: u32) -> i32 {
            slow::left::<$hook, $family>(&$hook(<$context>::new(raw)), made)
        }
    };
}

slow_stage!(classifier tc_slow4(TcContext) -> i32 = tc_track4, tc_leave4, Tc(__sk_buff), V4);
slow_stage!(classifier tc_slow6(TcContext) -> i32 = tc_track6, tc_leave6, Tc(__sk_buff), V6);
slow_stage!(xdp xdp_slow4(XdpContext) -> u32 = xdp_track4, xdp_leave4, Xdp(xdp_md), V4);
slow_stage!(xdp xdp_slow6(XdpContext) -> u32 = xdp_track6, xdp_leave6, Xdp(xdp_md), V6);

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
