//! Programs that do nothing: what a call costs by itself.

use aya_ebpf::bindings::TC_ACT_OK;
use aya_ebpf::bindings::xdp_action::{XDP_DROP, XDP_PASS};
use aya_ebpf::macros::{classifier, xdp};
use aya_ebpf::programs::{TcContext, XdpContext};

#[xdp]
pub fn xdp_empty(_: XdpContext) -> u32 {
    XDP_PASS
}

#[xdp]
pub fn xdp_drop(_: XdpContext) -> u32 {
    XDP_DROP
}

#[classifier]
pub fn tc_empty(_: TcContext) -> i32 {
    TC_ACT_OK
}
