//! ICMP errors: too big, and lived too long.
//!
//! A packet of IPv4 that does not fit is answered also when its sender allows fragments: nothing is fragmented here. A
//! sender that takes no notice would not get such a packet through.

use core::ptr::addr_of;

use aya_ebpf::bindings::bpf_adj_room_mode::BPF_ADJ_ROOM_MAC;
use lockstep_abi::checksum::{add, fold};
use lockstep_abi::reason::Reason;
use lockstep_abi::{TCP, UDP};
use lockstep_packet::ip::Ip;
use lockstep_packet::offset::{NETWORK, TCP_CHECKSUM, UDP_CHECKSUM};

use super::family::pseudo;
use super::{Answer, Complain, admitted};
use crate::atomic::same_key;
use crate::count::{Verdict, count};
use crate::hook::{Hook, Tc};
use crate::hop;
use crate::maps::{ADDRESSES, FIB};
use crate::slow::kept_key;
use crate::special::walk::{PACKET, Walk};
use crate::special::{ICMP_HEADER, address_of, go};

/// Headers that are looked at through pointers.
const HEADERS: u32 = NETWORK + 40;

#[inline(always)]
pub(super) fn report<F: Complain>(hook: &Tc, reason: Reason, relayed: bool) -> Answer {
    hook.pull(HEADERS);
    // Of a packet that was quoted the end may be missing.
    let ip = F::ip_of(hook, u32::MAX).ok_or(None)?.map_err(|_| None)?;
    let walk = Walk::of(PACKET).map_err(|_| None)?;
    F::walk(hook, NETWORK, walk).map_err(|_| None)?;
    let icmp = if walk.protocol == F::ICMP { hook.load(walk.transport).unwrap_or(0) } else { 0 };
    if !F::may_be_reported(&ip, walk.protocol, icmp, walk.offset_bytes) {
        return Err(None);
    }
    let source_be = source::<F>(&ip).ok_or(None)?;
    if !admitted() {
        return Err(Some(Reason::IcmpLimited));
    }
    let too_big = matches!(reason, Reason::FragNeeded);
    let mtu_bytes = if too_big { mtu().ok_or(None)? } else { 0 };
    quote::<F>(hook, &ip, &source_be, mtu_bytes).map_err(Some)?;
    if relayed {
        return forward::<F>(hook, &source_be, &ip.source_be).map_err(Some);
    }
    let action = hook.back().map_err(Some)?;
    count(if too_big { Reason::SentTooBig } else { Reason::SentTimeExceeded });
    Ok(action)
}

/// Sends another's error on to whom it concerns.
#[inline(always)]
fn forward<F: Complain>(hook: &Tc, source_be: &F::Address, to_be: &F::Address) -> Verdict {
    let bytes = hook.length().wrapping_sub(NETWORK);
    let way = hop::find::<Tc, F>(hook, bytes, F::ICMP, source_be, to_be)?;
    let action = go(hook, way)?;
    count(Reason::IcmpErrorForwarded);
    Ok(action)
}

/// The MTU that the routing table answered.
#[inline(always)]
fn mtu() -> Option<u32> {
    let fib = FIB.get_ptr(0)?;
    // SAFETY: the element is this CPU's own, and programs of one hook do not nest.
    let mtu_bytes = u32::from(unsafe { (*fib).__bindgen_anon_1.mtu_result });
    if mtu_bytes == 0 { None } else { Some(mtu_bytes) }
}

/// Who answers: the address that the packet was sent to, or else the one that its flow is under. Never one of the
/// node's own, which mean nothing to the sender and change with the owner.
#[inline(always)]
fn source<F: Complain>(ip: &Ip<F::Address>) -> Option<F::Address> {
    if F::address_index(&ip.destination_be).is_some() {
        return Some(ip.destination_be);
    }
    let key = kept_key::<F>().ok()?;
    let entry = F::flows().get_ptr(key)?;
    // SAFETY: a live map value; aligned words.
    let (index, stamp) = unsafe {
        if !same_key(addr_of!((*entry).key), key) {
            return None;
        }
        (addr_of!((*entry).address_index).read_volatile(), addr_of!((*entry).address_stamp).read_volatile())
    };
    let address = ADDRESSES.get(u32::from(index))?;
    // SAFETY: a live array element that user space may be replacing.
    let found = unsafe { addr_of!(address.stamp).read_volatile() };
    if found == u32::from(stamp) && found != 0 && F::same(&key.source_be, &ip.source_be) {
        Some(address_of::<F>(address))
    } else {
        None
    }
}

/// Makes the packet its own quotation, behind the headers of an error.
#[inline(always)]
fn quote<F: Complain>(
    hook: &Tc,
    ip: &Ip<F::Address>,
    source_be: &F::Address,
    mtu_bytes: u32,
) -> Result<(), Reason> {
    let there = hook.length().wrapping_sub(NETWORK);
    let packet = if ip.total == 0 || ip.total > there { there } else { ip.total };
    // In whole words, which is how they are summed.
    let quoted = if packet < F::QUOTED { packet } else { F::QUOTED } & !3;
    hook.resize(NETWORK + quoted)?;
    let walk = Walk::of(PACKET)?;
    let kept = hook.sum(NETWORK, quoted).ok_or(Reason::Malformed)?;
    let sum = complete::<F>(hook, ip, walk, quoted, kept)?;
    hook.room((F::HEADER + ICMP_HEADER) as i32, BPF_ADJ_ROOM_MAC, 0)?;
    F::tell(hook, source_be, &ip.source_be, mtu_bytes, quoted, sum)
}

/// A packet whose checksum a device is to make keeps that wish: the device would write the field in the quotation, over
/// which the error's checksum is made. So the field is given the value that the device will find for it: the
/// one's complement half of what is missing to zero, since then what is there and what the device makes of it are the
/// same. Such a packet shows by its checksum, the sum of the pseudo header; one of another kind that happens to have that
/// one loses nothing but a quoted checksum. The sum of the whole quotation afterwards.
#[inline(always)]
fn complete<F: Complain>(
    hook: &Tc,
    ip: &Ip<F::Address>,
    walk: &Walk,
    quoted: u32,
    sum: u32,
) -> Result<u32, Reason> {
    let at = walk.transport + if walk.protocol == TCP { TCP_CHECKSUM } else { UDP_CHECKSUM };
    if (walk.protocol != TCP && walk.protocol != UDP) || at + 2 > NETWORK + quoted {
        return Ok(sum);
    }
    let field: u16 = hook.load(at).ok_or(Reason::Malformed)?;
    // Of an aggregate the length is not in it.
    let whole = fold(pseudo::<F>(ip, walk.protocol, walk.bytes));
    if field != whole && field != fold(pseudo::<F>(ip, walk.protocol, 0)) {
        return Ok(sum);
    }
    let header = hook.sum(NETWORK, (walk.transport - NETWORK) & !3).ok_or(Reason::Malformed)?;
    // What is summed from the transport header on, without the field.
    let rest = fold(add(add(sum, !header), u32::from(!field)));
    let new = (!rest).rotate_right(1);
    hook.store_anew(at, &new)?;
    Ok(add(add(sum, u32::from(!field)), u32::from(new)))
}
