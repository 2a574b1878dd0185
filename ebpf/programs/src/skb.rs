//! Reading packets.

use aya_ebpf::programs::TcContext;
use lockstep_abi::TCP;
use lockstep_abi::flow::FlowKey4;
use lockstep_abi::reason::Reason;
use lockstep_packet::ipv4::Ipv4;
use lockstep_packet::{l4, offset};

/// Fields of the context.
pub(crate) struct Frame {
    /// `PACKET_HOST`, ...
    pub(crate) packet_type: u32,
    /// EtherType as it lies in memory.
    pub(crate) protocol_be: u16,
    /// A VLAN tag beside the packet.
    pub(crate) vlan: bool,
}

/// What the kernel knows of the frame.
#[inline(always)]
pub(crate) fn frame(ctx: &TcContext) -> Frame {
    // SAFETY: the context is valid while the program runs.
    let skb = unsafe { &*ctx.skb.skb };
    Frame { packet_type: skb.pkt_type, protocol_be: skb.protocol as u16, vlan: skb.vlan_present != 0 }
}

/// Where it came in.
#[inline(always)]
pub(crate) fn ifindex(ctx: &TcContext) -> u32 {
    // SAFETY: the context is valid while the program runs.
    unsafe { (*ctx.skb.skb).ifindex }
}

/// Reads the IPv4 header.
#[inline(always)]
pub(crate) fn ipv4(ctx: &TcContext) -> Result<Ipv4, Reason> {
    let header = ctx.load::<[u8; 20]>(offset::NETWORK as usize).map_err(|_| Reason::Malformed)?;
    Ipv4::parse(&header, ctx.len().wrapping_sub(offset::NETWORK))
}

/// Reads key and TCP flags (0 for UDP) of a TCP or UDP packet without IP options that is no fragment.
#[inline(always)]
pub(crate) fn transport(ctx: &TcContext, ip: &Ipv4) -> Result<(FlowKey4, u8), Reason> {
    // Eight bytes: a whole UDP header, so that a truncated one is malformed.
    let head = ctx.load::<[u8; 8]>(offset::TRANSPORT as usize).map_err(|_| Reason::Malformed)?;
    let key = l4::key(ip, [head[0], head[1], head[2], head[3]]);
    if ip.protocol != TCP {
        return Ok((key, 0));
    }
    // Up to the end of the fixed header, for the same reason.
    let rest = ctx.load::<[u8; 8]>(offset::TCP_FLAGS as usize).map_err(|_| Reason::Malformed)?;
    if l4::contradictory(rest[1]) {
        return Err(Reason::TcpFlags);
    }
    Ok((key, rest[1]))
}
