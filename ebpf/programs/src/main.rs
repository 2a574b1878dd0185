//! The eBPF programs: thin shells that move bytes between the packet, the maps and `lockstep-packet`.
//!
//! One pipeline at tc ingress: [`entry`] is attached and does the fast path; it tail-calls [`slow`] when a
//! packet misses or needs a decision, and [`local`] for ARP and everything that is neither TCP nor UDP.
//! [`age`] is never attached: the sweeper runs it.

#![no_std]
#![no_main]
#![allow(internal_features, reason = "the BPF target has compare-and-swap only as an intrinsic")]
#![feature(core_intrinsics)]

mod age;
mod atomic;
mod change;
mod count;
mod create;
mod entry;
mod forward;
mod guard;
mod lease;
mod local;
mod maps;
mod skb;
mod slow;

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 4] = *b"GPL\0";

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    // Nothing here panics in a verified program: the verifier refuses one that could reach this loop.
    loop {}
}
