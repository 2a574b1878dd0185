//! Ports and flags of a plain TCP or UDP packet.

use lockstep_abi::TCP;
use lockstep_abi::flow::FlowKey;
use lockstep_abi::reason::Reason;
use lockstep_packet::ip::Ip;
use lockstep_packet::l4::{self, TcpHeader, UdpHeader};

use crate::family::Family;
use crate::hook::Hook;

/// Key and TCP flags (0 for UDP). `None` if the fixed header is out of reach.
#[inline(always)]
pub(crate) fn transport<H: Hook, F: Family>(
    hook: &H,
    ip: &Ip<F::Address>,
) -> Option<Result<(FlowKey<F::Address>, u8), Reason>> {
    // A whole header, so that a truncated one is malformed.
    let (source_port_be, destination_port_be, flags) = if ip.protocol == TCP {
        let header = hook.at::<TcpHeader>(F::TRANSPORT)?;
        // SAFETY: in bounds; the eBPF machine reads words at any address.
        unsafe { ((*header).source_be, (*header).destination_be, (*header).flags) }
    } else {
        let header = hook.at::<UdpHeader>(F::TRANSPORT)?;
        // SAFETY: the same.
        unsafe { ((*header).source_be, (*header).destination_be, 0) }
    };
    if l4::contradictory(flags) {
        return Some(Err(Reason::TcpFlags));
    }
    let key = FlowKey {
        source_be: ip.source_be,
        destination_be: ip.destination_be,
        source_port_be,
        destination_port_be,
        protocol: ip.protocol,
        pad: [0; 3],
    };
    Some(Ok((key, flags)))
}

/// Where the checksum of TCP or UDP stands in a frame.
#[inline(always)]
pub(crate) fn checksum_offset<F: Family>(protocol: u8) -> u32 {
    use lockstep_packet::offset::{TCP_CHECKSUM, UDP_CHECKSUM};
    F::TRANSPORT + if protocol == TCP { TCP_CHECKSUM } else { UDP_CHECKSUM }
}
