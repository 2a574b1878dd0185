//! A bare lookup over many keys: what the memory behind a table of that size costs, whoever asks. The `pick`
//! programs are the same without the lookup, to be subtracted.

use aya_ebpf::bindings::xdp_action::{XDP_DROP, XDP_PASS};
use aya_ebpf::macros::xdp;
use aya_ebpf::programs::XdpContext;

use crate::choose;
use crate::maps::{Key4, Key6, TABLE4, TABLE6};
use crate::plan::Plan;

#[xdp]
pub fn xdp_lookup4(_: XdpContext) -> u32 {
    let Some((plan, i)) = choose::next() else { return XDP_DROP };
    if TABLE4.get_ptr(&key4(plan, i)).is_some() { XDP_PASS } else { XDP_DROP }
}

#[xdp]
pub fn xdp_pick4(_: XdpContext) -> u32 {
    let Some((plan, i)) = choose::next() else { return XDP_DROP };
    core::hint::black_box(key4(plan, i));
    XDP_PASS
}

#[xdp]
pub fn xdp_lookup6(_: XdpContext) -> u32 {
    let Some((plan, i)) = choose::next() else { return XDP_DROP };
    if TABLE6.get_ptr(&key6(plan, i)).is_some() { XDP_PASS } else { XDP_DROP }
}

#[xdp]
pub fn xdp_pick6(_: XdpContext) -> u32 {
    let Some((plan, i)) = choose::next() else { return XDP_DROP };
    core::hint::black_box(key6(plan, i));
    XDP_PASS
}

// The keys of the packets that a wrapper would make, cut out of the plan's header (whose words are as the packet
// has them), with the source varied.

#[inline(always)]
pub(crate) fn key4(plan: &Plan, i: u32) -> Key4 {
    let (port, low) = plan.varied_fields(i);
    let (network, transport) = (plan.header[3], plan.header[4]);
    [
        join((network >> 16) as u16, low.to_be()),
        join((network >> 48) as u16, transport as u16),
        join(port.to_be(), (transport >> 32) as u16),
        6,
    ]
}

#[inline(always)]
pub(crate) fn key6(plan: &Plan, i: u32) -> Key6 {
    let (port, low) = plan.varied_fields(i);
    let h = &plan.header;
    [
        join((h[2] >> 48) as u16, h[3] as u16),
        (h[3] >> 16) as u32,
        join((h[3] >> 48) as u16, h[4] as u16),
        join((h[4] >> 16) as u16, low.to_be()),
        join((h[4] >> 48) as u16, h[5] as u16),
        (h[5] >> 16) as u32,
        join((h[5] >> 48) as u16, h[6] as u16),
        (h[6] >> 16) as u32,
        join(port.to_be(), h[7] as u16),
        6,
    ]
}

/// Two halves that lie one behind the other in memory.
#[inline(always)]
fn join(first: u16, second: u16) -> u32 {
    u32::from(first) | u32::from(second) << 16
}
