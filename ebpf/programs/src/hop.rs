//! The way out: the table of next hops, and the kernel's routing table where that does not know.

use core::mem::{size_of, zeroed};
use core::ptr::addr_of;

use aya_ebpf::bindings::{
    BPF_FIB_LKUP_RET_FRAG_NEEDED, BPF_FIB_LKUP_RET_FWD_DISABLED, BPF_FIB_LKUP_RET_NO_NEIGH,
    BPF_FIB_LKUP_RET_SUCCESS, BPF_FIB_LKUP_RET_UNSUPP_LWT, bpf_fib_lookup as FibParams, bpf_redir_neigh,
};
use aya_ebpf::helpers::generated::{bpf_fib_lookup, bpf_redirect_neigh};
use lockstep_abi::flow::Address;
use lockstep_abi::hop::{BY_DESTINATION, HopKey, HopValue, STAMP, USABLE, XDP, index, word};
use lockstep_abi::reason::Reason;
use lockstep_packet::offset::ETHERNET;

use crate::count::{Verdict, count};
use crate::family::{Family, V4, V6};
use crate::hook::Hook;
use crate::maps::{ENDPOINT_HOPS, FIB, HOP_INDEX, HOP_STAMP, HOPS};
use crate::words;

/// Two MACs as they stand in a frame.
pub(crate) type Macs = [u16; 6];

/// The same in the words that they are copied in.
pub(crate) type MacWords = [u32; 3];

/// A neighbour and how to reach it.
#[derive(Clone, Copy)]
pub(crate) struct Hop {
    pub(crate) ifindex: u32,
    pub(crate) macs: MacWords,
}

/// What the routing table says.
pub(crate) enum Way {
    /// To this neighbour; the word to keep in the flow, 0 if the table of next hops does not have it.
    Known(Hop, u32),
    /// The neighbour must be asked for its MAC first.
    Unresolved(&'static FibParams),
}

#[inline(always)]
fn stamp() -> u32 {
    setting(STAMP)
}

#[inline(always)]
fn setting(index: u32) -> u32 {
    match HOP_STAMP.get_ptr(index) {
        // SAFETY: a live array element.
        Some(value) => unsafe { addr_of!(*value).read_volatile() },
        None => 0,
    }
}

/// What new flows to an endpoint keep of their next hop, if that is still good.
#[inline(always)]
pub(crate) fn endpoint_hop(endpoint: u32) -> u32 {
    match ENDPOINT_HOPS.get_ptr(endpoint) {
        // SAFETY: a live array element; one aligned word.
        Some(hop) => unsafe { hop.read_volatile() },
        None => 0,
    }
}

/// Lets new flows to an endpoint go the way that the routing table has just named for one of them, if it is the way of
/// all: to the endpoint itself, on a link that it shares with this node, and by no rule that looks at the source.
#[inline(always)]
pub(crate) fn keep_for_endpoint<F: Family>(endpoint: u32, address_be: &F::Address, word: u32) {
    let Some(fib) = FIB.get_ptr(0) else {
        return;
    };
    // SAFETY: the element is this CPU's own, and programs of one hook do not nest.
    let shared = unsafe { (*fib).family == F::AF && F::answered(&*fib) == *address_be };
    if !shared || setting(BY_DESTINATION) == 0 {
        return;
    }
    if let Some(hop) = ENDPOINT_HOPS.get_ptr_mut(endpoint) {
        // SAFETY: a live array element; one aligned word, good by itself.
        unsafe { hop.write_volatile(word) };
    }
}

/// The next hop that a flow keeps, if it is still good at this hook for packets of this size.
#[inline(always)]
pub(crate) fn kept<H: Hook>(kept: u32, bytes: impl FnOnce() -> u32) -> Option<Hop> {
    let index = index(kept, stamp());
    if index == 0 {
        return None;
    }
    usable::<H>(index, bytes)
}

#[inline(always)]
fn usable<H: Hook>(index: u32, bytes: impl FnOnce() -> u32) -> Option<Hop> {
    let hop = HOPS.get_ptr(index)?;
    let needed = if H::IN_FRONT { USABLE | XDP } else { USABLE };
    // SAFETY: a live array element. User space changes it in place: a packet in between may carry half of each
    // MAC and is lost, as it would be on its way to a neighbour that changed.
    unsafe {
        let mtu_bytes = addr_of!((*hop).mtu).read_volatile();
        let fits = bytes() <= mtu_bytes;
        if addr_of!((*hop).flags).read_volatile() & needed != needed || !fits {
            return None;
        }
        let macs = addr_of!((*hop).destination_mac).cast::<u32>();
        Some(Hop {
            ifindex: addr_of!((*hop).ifindex).read_volatile(),
            macs: [macs.read_volatile(), macs.add(1).read_volatile(), macs.add(2).read_volatile()],
        })
    }
}
const _: () = assert!(
    core::mem::offset_of!(HopValue, source_mac) == core::mem::offset_of!(HopValue, destination_mac) + 6
);

/// Asks the kernel's routing table. Also answers whether it would forward at all, and so many bytes; 0 asks nothing
/// about them (at tc the kernel then compares the packet itself with the device's MTU, with a grain of salt).
#[inline(always)]
pub(crate) fn route<H: Hook, F: Family>(
    hook: &H,
    bytes: u32,
    protocol: u8,
    source_be: &F::Address,
    destination_be: &F::Address,
) -> Option<(u32, &'static FibParams)> {
    let room = FIB.get_ptr_mut(0)?;
    // SAFETY: the element is this CPU's own, and programs of one hook do not nest; integers only.
    let fib = unsafe {
        words::clear(room);
        &mut *room
    };
    fib.family = F::AF;
    fib.l4_protocol = protocol;
    F::ask(fib, source_be, destination_be);
    fib.ifindex = hook.ifindex();
    fib.__bindgen_anon_1.tot_len = if bytes < 0xffff { bytes as u16 } else { 0xffff };
    // SAFETY: context and parameters are valid and of the stated size.
    let fate = unsafe { bpf_fib_lookup(hook.context(), fib, size_of::<FibParams>() as i32, 0) as u32 };
    Some((fate, fib))
}

/// Finds the way of so many bytes by the routing table. If they are too many, the table's MTU is in [`FIB`].
#[inline(always)]
pub(crate) fn find<H: Hook, F: Family>(
    hook: &H,
    bytes: u32,
    protocol: u8,
    source_be: &F::Address,
    destination_be: &F::Address,
) -> Result<Way, Reason> {
    let answer = asked::<H, F>(hook, bytes, protocol, source_be, destination_be);
    let fib = FIB.get_ptr(0).ok_or(Reason::NoRoute)?;
    // SAFETY: the element is this CPU's own, and programs of one hook do not nest.
    let fib = unsafe { &*fib };
    match (answer >> 32) as u32 {
        KNOWN => {
            let [d0, d1, d2, d3, d4, d5] = fib.dmac;
            let [s0, s1, s2, s3, s4, s5] = fib.smac;
            let macs = [[d0, d1, d2, d3], [d4, d5, s0, s1], [s2, s3, s4, s5]].map(u32::from_ne_bytes);
            Ok(Way::Known(Hop { ifindex: fib.ifindex, macs }, answer as u32))
        }
        UNRESOLVED => Ok(Way::Unresolved(fib)),
        _ => Err(Reason::of(answer as u32)),
    }
}

/// Upper half of [`asked`]'s answer: the neighbour is known; below, the word to keep.
const KNOWN: u32 = 0;
/// Upper half of [`asked`]'s answer: the neighbour must be asked for its MAC.
const UNRESOLVED: u32 = 1;
/// Upper half of [`asked`]'s answer: there is no way; below, the reason.
const REFUSED: u32 = 2;

/// Asks the routing table, whose answer is in [`FIB`], and finds the next hop that it names. In one word, because a
/// function of its own can return no more; of its own, because the stack is short.
#[inline(never)]
fn asked<H: Hook, F: Family>(
    hook: &H,
    bytes: u32,
    protocol: u8,
    source_be: &F::Address,
    destination_be: &F::Address,
) -> u64 {
    let refused = |reason: Reason| u64::from(REFUSED) << 32 | u64::from(reason as u32);
    // Before the table is asked: what it says may be out of date under a later stamp, and then is asked again.
    let stamp = stamp();
    let Some((fate, fib)) = route::<H, F>(hook, bytes, protocol, source_be, destination_be) else {
        return refused(Reason::NoRoute);
    };
    let unresolved = match fate {
        BPF_FIB_LKUP_RET_SUCCESS => false,
        BPF_FIB_LKUP_RET_NO_NEIGH => true,
        BPF_FIB_LKUP_RET_FRAG_NEEDED => return refused(Reason::FragNeeded),
        BPF_FIB_LKUP_RET_FWD_DISABLED => return refused(Reason::ForwardingOff),
        BPF_FIB_LKUP_RET_UNSUPP_LWT => return refused(Reason::NextHopUnsupported),
        _ => return refused(Reason::NoRoute),
    };
    let index = if unresolved { 0 } else { known(fib) };
    // Only the table says whether a device takes frames from XDP.
    if unresolved || (H::IN_FRONT && usable::<H>(index, || bytes).is_none()) {
        return u64::from(UNRESOLVED) << 32;
    }
    u64::from(KNOWN) << 32
        | u64::from(if index == 0 || narrower(fib, index) { 0 } else { word(index, stamp) })
}

/// Whether the route takes less than its device does, which is all that the table of next hops tells: then each packet
/// asks the routing table.
#[inline(always)]
fn narrower(fib: &FibParams, index: u32) -> bool {
    // SAFETY: an answer says the route's MTU here; 0 stands for more than the field holds.
    let route_bytes = u32::from(unsafe { fib.__bindgen_anon_1.mtu_result });
    // SAFETY: a live array element; one aligned word.
    let device_bytes = HOPS.get_ptr(index).map_or(0, |hop| unsafe { addr_of!((*hop).mtu).read_volatile() });
    route_bytes != 0 && route_bytes < device_bytes
}

/// The index of the neighbour that the routing table named; 0: none.
#[inline(always)]
fn known(fib: &FibParams) -> u32 {
    let (family, address) = if fib.family == V4::AF {
        (V4::NUMBER, V4::answered(fib).wide())
    } else {
        (V6::NUMBER, V6::answered(fib))
    };
    let key = HopKey { ifindex: fib.ifindex, family, address };
    // SAFETY: one aligned word, which user space replaces as a whole.
    unsafe { HOP_INDEX.get(&key) }.copied().unwrap_or(0)
}

/// Writes the MACs and sends.
#[inline(always)]
pub(crate) fn send<H: Hook>(hook: &H, hop: &Hop) -> Verdict {
    let macs = hook.at::<MacWords>(ETHERNET).ok_or(Reason::RewriteFailed)?.cast::<u32>();
    // SAFETY: in bounds; the eBPF machine writes words at any address.
    unsafe {
        macs.write_volatile(hop.macs[0]);
        macs.add(1).write_volatile(hop.macs[1]);
        macs.add(2).write_volatile(hop.macs[2]);
    }
    Ok(hook.send(hop.ifindex))
}

/// The kernel resolves the neighbour and queues the packet meanwhile. At tc.
#[inline(always)]
pub(crate) fn resolve(fib: &FibParams) -> Verdict {
    // SAFETY: integers only.
    let mut hop: bpf_redir_neigh = unsafe { zeroed() };
    hop.nh_family = u32::from(fib.family);
    if fib.family == V4::AF {
        hop.__bindgen_anon_1.ipv4_nh = V4::answered(fib);
    } else {
        hop.__bindgen_anon_1.ipv6_nh = V6::answered(fib);
    }
    count(Reason::ForwardedUnresolved);
    // SAFETY: the parameters are valid and of the stated size.
    Ok(unsafe { bpf_redirect_neigh(fib.ifindex, &mut hop, size_of::<bpf_redir_neigh>() as i32, 0) } as i32)
}
