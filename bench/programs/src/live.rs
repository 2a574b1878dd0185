//! Both ends of a live run (`BPF_F_TEST_XDP_LIVE_FRAMES`): who makes the frames, and who counts what arrives.

use aya_ebpf::bindings::xdp_action::{XDP_ABORTED, XDP_DROP, XDP_TX};
use aya_ebpf::macros::xdp;
use aya_ebpf::programs::XdpContext;

use crate::maps::ARRIVED;
use crate::wrap::{write4, write6};

/// Recycled pages keep what the last user left in them: the header is written whole, each time.
#[xdp]
pub fn xdp_generate4(ctx: XdpContext) -> u32 {
    if write4(ctx.data(), ctx.data_end()).is_some() { XDP_TX } else { XDP_ABORTED }
}

#[xdp]
pub fn xdp_generate6(ctx: XdpContext) -> u32 {
    if write6(ctx.data(), ctx.data_end()).is_some() { XDP_TX } else { XDP_ABORTED }
}

#[xdp]
pub fn xdp_sink(_: XdpContext) -> u32 {
    if let Some(arrived) = ARRIVED.get_ptr_mut(0) {
        // SAFETY: the element is this CPU's own, and programs are not migrated while they run.
        unsafe { *arrived += 1 };
    }
    XDP_DROP
}
