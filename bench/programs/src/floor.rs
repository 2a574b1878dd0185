//! The floor: what any balancer must at least do. Parse Ethernet, IP and TCP, look one key up, send the packet
//! out. Everything the shipped programs cost above this is theirs to justify.

use aya_ebpf::bindings::TC_ACT_SHOT;
use aya_ebpf::bindings::xdp_action::{XDP_DROP, XDP_TX};
use aya_ebpf::helpers::generated::bpf_redirect;
use aya_ebpf::macros::{classifier, xdp};
use aya_ebpf::programs::{TcContext, XdpContext};

use crate::maps::{Key4, Key6, TABLE4, TABLE6};

const IPV4_BE: u16 = 0x0800u16.to_be();
const IPV6_BE: u16 = 0x86ddu16.to_be();
const TCP: u8 = 6;

#[xdp]
pub fn xdp_floor4(ctx: XdpContext) -> u32 {
    verdict(floor4(ctx.data(), ctx.data_end()))
}

#[xdp]
pub fn xdp_floor6(ctx: XdpContext) -> u32 {
    verdict(floor6(ctx.data(), ctx.data_end()))
}

#[classifier]
pub fn tc_floor4(ctx: TcContext) -> i32 {
    redirect(&ctx, floor4(ctx.data(), ctx.data_end()))
}

#[classifier]
pub fn tc_floor6(ctx: TcContext) -> i32 {
    redirect(&ctx, floor6(ctx.data(), ctx.data_end()))
}

#[inline(always)]
fn verdict(hit: Option<()>) -> u32 {
    if hit.is_some() { XDP_TX } else { XDP_DROP }
}

#[inline(always)]
fn redirect(ctx: &TcContext, hit: Option<()>) -> i32 {
    if hit.is_none() {
        return TC_ACT_SHOT;
    }
    // SAFETY: the context is valid while the program runs; the helper takes no pointers.
    unsafe { bpf_redirect((*ctx.skb.skb).ifindex, 0) as i32 }
}

/// Reads `T` at a fixed offset that has been compared with the packet's end.
///
/// # Safety
/// The bytes are within the packet.
#[inline(always)]
unsafe fn read<T: Copy>(data: usize, at: usize) -> T {
    // SAFETY: the caller's promise.
    unsafe { ((data + at) as *const T).read_unaligned() }
}

#[inline(always)]
fn floor4(data: usize, end: usize) -> Option<()> {
    if data + 54 > end {
        return None;
    }
    // SAFETY: all of it is below 54.
    let key: Key4 = unsafe {
        if read::<u16>(data, 12) != IPV4_BE || read::<u8>(data, 14) != 0x45 || read::<u8>(data, 23) != TCP {
            return None;
        }
        [word(data, 26), word(data, 30), word(data, 34), u32::from(TCP)]
    };
    TABLE4.get_ptr(&key)?;
    swap_macs(data);
    Some(())
}

#[inline(always)]
fn floor6(data: usize, end: usize) -> Option<()> {
    if data + 74 > end {
        return None;
    }
    let mut key: Key6 = [0; 10];
    // SAFETY: all of it is below 74.
    unsafe {
        if read::<u16>(data, 12) != IPV6_BE || read::<u8>(data, 20) != TCP {
            return None;
        }
        for (i, part) in key.iter_mut().take(9).enumerate() {
            *part = word(data, 22 + 4 * i);
        }
    }
    key[9] = u32::from(TCP);
    TABLE6.get_ptr(&key)?;
    swap_macs(data);
    Some(())
}

/// Two halves: headers of IP in Ethernet lie two bytes off.
///
/// # Safety
/// Four bytes at the even offset `at` are within the packet.
#[inline(always)]
unsafe fn word(data: usize, at: usize) -> u32 {
    // SAFETY: the caller's promise. The BPF target of these kernels reads unaligned words; as C does it.
    unsafe { ((data + at) as *const u32).read_volatile() }
}

/// Of a packet that is at least as long as an Ethernet header.
#[inline(always)]
fn swap_macs(data: usize) {
    let halves = data as *mut u16;
    for i in 0..3 {
        // SAFETY: within the first twelve bytes, which the callers have compared with the packet's end.
        unsafe {
            let (to, from) = (halves.add(i), halves.add(i + 3));
            let kept = to.read_volatile();
            to.write_volatile(from.read_volatile());
            from.write_volatile(kept);
        }
    }
}
