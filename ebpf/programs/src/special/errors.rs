//! ICMP errors about packets that were forwarded here: from the clients' side about what endpoints sent, and from the
//! endpoints' side, or a router there, about what clients sent. See `lockstep_packet::quoted`.

use core::ptr::{addr_of, addr_of_mut};

use lockstep_abi::flow::{FORWARDING, FlowKey, KIND, PATH_DEAD, REPLY};
use lockstep_abi::reason::Reason;
use lockstep_packet::ip::Ip;
use lockstep_packet::offset::NETWORK;
use lockstep_packet::quoted;

use crate::atomic::same_key;
use crate::change::refused;
use crate::count::{Verdict, count};
use crate::direct::Outer;
use crate::family::Family;
use crate::forward::{Translation, touch};
use crate::hook::{Hook, Tc};
use crate::lease::permitted;
use crate::slow::{answer, kept_key, verdict};
use crate::special::family::{ICMP_HEADER, Special, outer_deltas, outer_difference};
use crate::special::leave::{go, way};
use crate::special::tunnel;
use crate::special::walk::{PACKET, QUOTED, Walk};

/// Not an action: the error goes the flow's way as it is. The endpoint answers under the VIP, so that the error is about
/// its own packet as it sent it.
pub(crate) const UNCHANGED: i32 = 1 << 16;

/// Not an action but, less this, the stage that goes on: the packet is now another one, which was too big.
pub(crate) const FIRST_STAGE: i32 = 1 << 17;

/// Translates and forwards the error. `None`: it is about no flow.
#[inline(always)]
pub(crate) fn forward<F: Special + Outer>(hook: &Tc) -> Result<Option<i32>, Reason> {
    let ip = F::ip(hook).ok_or(Reason::Malformed)??;
    if !find::<F>(hook, &ip) {
        return verdict::<Tc>(encapsulated::<F>(hook));
    }
    let key = kept_key::<F>()?;
    let Some(entry) = F::flows().get_ptr_mut(key) else {
        return verdict::<Tc>(encapsulated::<F>(hook));
    };
    // SAFETY: a live map value; aligned words.
    let (translation, flags, path) = unsafe {
        let (flags, path) =
            (addr_of!((*entry).flags).read_volatile(), addr_of!((*entry).path).read_volatile());
        (Translation::of(entry), flags, path)
    };
    permitted(translation.address_index, translation.address_stamp)?;
    translation.prove(key)?;
    if path & PATH_DEAD != 0 {
        return Err(Reason::FlowDead);
    }
    if flags & FORWARDING != 0 {
        return Ok(Some(UNCHANGED));
    }
    if flags & KIND == REPLY {
        doubted::<F>(key, &translation)?;
    }
    // SAFETY: a live map value.
    unsafe { touch(entry) };
    translated::<F>(hook, &ip, key, &translation).map(Some)
}

/// [`tunnel::open`] in one word, with a stack of its own.
#[inline(never)]
fn encapsulated<F: Special + Outer>(hook: &Tc) -> i32 {
    answer(tunnel::open::<F>(hook).map(|stage| stage.map(|stage| FIRST_STAGE + stage as i32)))
}

/// Keeps the key of the packets that the quoted one answers, if that one has a tuple and the error goes to its sender.
#[inline(never)]
fn find<F: Special>(hook: &Tc, ip: &Ip<F::Address>) -> bool {
    let (Ok(error), Ok(walk), Some(key)) = (Walk::of(PACKET), Walk::of(QUOTED), F::key_room()) else {
        return false;
    };
    let at = error.transport + ICMP_HEADER;
    // What is quoted is cut off, so that its lengths say nothing.
    if F::walk(hook, at, walk).is_err() {
        return false;
    }
    if !keep::<F>(hook, at, walk, true) {
        return false;
    }
    // SAFETY: the element is this CPU's own, and programs of one hook do not nest.
    unsafe { F::same(&*addr_of!((*key).destination_be), &ip.destination_be) }
}

/// Keeps the tuple of the quoted packet at `at`, or of those that it answers; false if it has none.
#[inline(always)]
pub(crate) fn keep<F: Special>(hook: &Tc, at: u32, walk: &Walk, reversed: bool) -> bool {
    let (Some(key), Some((source, destination))) = (F::key_room(), ports::<F>(hook, walk)) else {
        return false;
    };
    // SAFETY: the element is this CPU's own, and programs of one hook do not nest.
    unsafe {
        addr_of_mut!((*key).protocol).write(walk.protocol);
        addr_of_mut!((*key).pad).write([0; 3]);
        let (source_be, destination_be) =
            (addr_of_mut!((*key).source_be), addr_of_mut!((*key).destination_be));
        if reversed {
            addr_of_mut!((*key).source_port_be).write(destination);
            addr_of_mut!((*key).destination_port_be).write(source);
            F::addresses(hook, at, destination_be, source_be)
        } else {
            addr_of_mut!((*key).source_port_be).write(source);
            addr_of_mut!((*key).destination_port_be).write(destination);
            F::addresses(hook, at, source_be, destination_be)
        }
    }
}

/// The ports of the quoted packet. A later fragment shows none.
#[inline(always)]
fn ports<F: Special>(hook: &Tc, walk: &Walk) -> Option<(u16, u16)> {
    if walk.is_later() {
        return None;
    }
    quoted::ports(walk.protocol, F::ICMP, &hook.load(walk.transport)?)
}

/// An error from the endpoints' side about a flow that was made again by its hash says that the endpoint does not know
/// it: the flow goes, and the client does not hear of it (I10).
#[inline(always)]
fn doubted<F: Family>(
    key: &FlowKey<F::Address>,
    translation: &Translation<F::Address>,
) -> Result<(), Reason> {
    let Some(original) = F::flows().get_ptr_mut(translation.twin()) else {
        return Err(Reason::TwinMissing);
    };
    // SAFETY: live map values.
    unsafe {
        if !same_key(addr_of!((*original).twin), key) {
            return Err(Reason::FlowDead);
        }
        refused(original, translation.entry())
    }
}

#[inline(always)]
fn translated<F: Special>(
    hook: &Tc,
    ip: &Ip<F::Address>,
    key: &FlowKey<F::Address>,
    translation: &Translation<F::Address>,
) -> Verdict {
    let way = way::<F>(hook, ip, hook.length().wrapping_sub(NETWORK), translation)?;
    rewrite::<F>(hook, ip, key, translation)?;
    let action = go(hook, way)?;
    count(Reason::IcmpErrorForwarded);
    Ok(action)
}

/// Writes the error as the packet's sender is to see it: from the address that it spoke to, if that stands for another,
/// about the packet that it sent. An address that is not translated keeps its name, a router's too.
#[inline(never)]
fn rewrite<F: Special>(
    hook: &Tc,
    ip: &Ip<F::Address>,
    key: &FlowKey<F::Address>,
    translation: &Translation<F::Address>,
) -> Result<(), Reason> {
    let twin = translation.twin();
    let kept = F::same(&key.source_be, &twin.destination_be);
    // As `rewrite` wants it: reversed.
    let outer = FlowKey {
        source_be: twin.source_be,
        destination_be: if kept { ip.source_be } else { twin.destination_be },
        source_port_be: 0,
        destination_port_be: 0,
        protocol: 0,
        pad: [0; 3],
    };
    let difference = outer_difference::<F>(ip, &outer.destination_be, &outer.source_be);
    F::requote(hook, Walk::of(PACKET)?, Walk::of(QUOTED)?, twin, translation.deltas, difference)?;
    // Last: pointers do not outlive the helpers.
    F::rewrite(hook, ip, &outer, outer_deltas(difference)).ok_or(Reason::RewriteFailed)?;
    translation.prove(key)
}
