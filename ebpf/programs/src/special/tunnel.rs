//! ICMP errors about what was sent to an endpoint in an outer header: the client learns how large its packets may be.
//! All other errors about tunnels are the operator's to hear of, not the client's.

use core::ptr::addr_of;

use aya_ebpf::bindings::bpf_adj_room_mode::BPF_ADJ_ROOM_MAC;
use aya_ebpf::bindings::{BPF_F_ADJ_ROOM_DECAP_L3_IPV4, BPF_F_ADJ_ROOM_DECAP_L3_IPV6};
use lockstep_abi::UDP;
use lockstep_abi::flow::{FORWARD_DSR_L2, FORWARD_NAT, FORWARDING, PATH_DEAD};
use lockstep_abi::reason::Reason;
use lockstep_packet::encap::{GUE_PORT, IPIP, IPV6};
use lockstep_packet::offset::NETWORK;

use crate::complain;
use crate::direct::{ETHERTYPE, Outer, target};
use crate::family::{V4, V6};
use crate::forward::Translation;
use crate::hook::Tc;
use crate::lease::permitted;
use crate::slow::kept_key;
use crate::special::errors::keep;
use crate::special::family::{ICMP_HEADER, Special};
use crate::special::walk::{PACKET, QUOTED, Walk};

/// Bytes of UDP and GUE headers, and where they name the protocol inside.
const GUE_BYTES: u32 = 12;
const GUE_PROTOCOL: usize = 9;

/// Makes of the error the packet that was encapsulated, as if it had just been found too big. The stage that says so to
/// its sender; `None`: it is none of ours.
#[inline(always)]
pub(crate) fn open<F: Special + Outer>(hook: &Tc) -> Result<Option<u32>, Reason> {
    let (error, outer) = (Walk::of(PACKET)?, Walk::of(QUOTED)?);
    let outer_at = error.transport + ICMP_HEADER;
    let header = hook.load(error.transport).ok_or(Reason::Malformed)?;
    let Some(mtu_bytes) = F::told_mtu(&header) else {
        return Ok(None);
    };
    if F::walk(hook, outer_at, outer).is_err() || outer.is_later() {
        return Ok(None);
    }
    let (inner_at, protocol) = if outer.protocol == UDP {
        let Some(header) = hook.load::<[u8; GUE_BYTES as usize]>(outer.transport) else {
            return Ok(None);
        };
        if u16::from_be_bytes([header[2], header[3]]) != GUE_PORT {
            return Ok(None);
        }
        (outer.transport + GUE_BYTES, header[GUE_PROTOCOL])
    } else {
        (outer.transport, outer.protocol)
    };
    let left_bytes = mtu_bytes.saturating_sub(inner_at - outer_at);
    match protocol {
        IPIP => closed::<F, V4>(hook, outer_at, inner_at, left_bytes, BPF_F_ADJ_ROOM_DECAP_L3_IPV4.into()),
        IPV6 => closed::<F, V6>(hook, outer_at, inner_at, left_bytes, BPF_F_ADJ_ROOM_DECAP_L3_IPV6.into()),
        _ => Ok(None),
    }
}

/// With what kind of packet inside.
#[inline(always)]
fn closed<F: Special + Outer, I: Special + Outer>(
    hook: &Tc,
    outer_at: u32,
    inner_at: u32,
    mtu_bytes: u32,
    decapsulated: u64,
) -> Result<Option<u32>, Reason> {
    let walk = Walk::of(QUOTED)?;
    if I::walk(hook, inner_at, walk).is_err() || !keep::<I>(hook, inner_at, walk, false) {
        return Ok(None);
    }
    let key = kept_key::<I>()?;
    let Some(entry) = I::flows().get_ptr_mut(key) else {
        return Ok(None);
    };
    // SAFETY: a live map value; aligned words.
    let (translation, flags, path) = unsafe {
        let (flags, path) =
            (addr_of!((*entry).flags).read_volatile(), addr_of!((*entry).path).read_volatile());
        (Translation::of(entry), flags, path)
    };
    permitted(translation.address_index, translation.address_stamp)?;
    // SAFETY: a live map value.
    let target = unsafe { target(entry) }?;
    translation.prove(key)?;
    if path & PATH_DEAD != 0 || matches!(flags & FORWARDING, FORWARD_NAT | FORWARD_DSR_L2) {
        return Ok(None);
    }
    let to_be = hook.load::<F::Address>(outer_at + F::DESTINATION).ok_or(Reason::Malformed)?;
    if !F::same(&to_be, &F::narrow(target.address)) || target.family != F::NUMBER {
        return Ok(None);
    }
    let flags = if F::NUMBER == I::NUMBER { 0 } else { decapsulated };
    hook.room(NETWORK.wrapping_sub(inner_at) as i32, BPF_ADJ_ROOM_MAC, flags)?;
    hook.store(ETHERTYPE, &I::ETHERTYPE_BE)?;
    complain::note_relayed(hook, mtu_bytes);
    Ok(Some(I::STAGE_COMPLAIN))
}
