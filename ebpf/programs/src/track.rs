//! From a packet to its flow: found, brought on in its state, or made.

use core::ptr::addr_of;

use aya_ebpf::bindings::BPF_NOEXIST;
use lockstep_abi::address::STATIC;
use lockstep_abi::flow::{FORWARDING, FlowKey, FlowValue, KIND, REPLY};
use lockstep_abi::reason::Reason;
use lockstep_abi::service::ServiceRef;
use lockstep_abi::timeout::DEAD_NS;
use lockstep_packet::transition::{From, may_open};

use crate::atomic;
use crate::change::{Next, change, release};
use crate::count::count;
use crate::create::{Addressed, create, exact};
use crate::egress;
use crate::family::Family;
use crate::forward::{Translation, touch};
use crate::hook::Hook;
use crate::insert::{DRAFT_ROOM, reply_of};
use crate::lease::{may_begin, permitted, permitted_now, precise_ns};
use crate::maps::ADDRESSES;
use crate::words;

/// What became of a packet.
#[derive(Clone, Copy)]
pub(crate) enum Tracked {
    /// There is a flow.
    Flow,
    /// There is one now. Its original is still where it was drafted, and goes to the endpoint of this index, or
    /// [`crate::choose::NOBODY`] if it goes to none.
    Made(u32),
    /// It belongs to none, and is nobody's business here: the hook's action.
    Action(i32),
}

/// Finds or makes the flow of a packet. `flags` are TCP's, or what stands for them; 0 where there are none.
#[inline(always)]
pub(crate) fn track<H: Hook, F: Family>(
    hook: &H,
    key: &FlowKey<F::Address>,
    flags: u8,
) -> Result<Tracked, Reason> {
    let reopen = match hit::<F>(key, flags)? {
        Next::Forward => return Ok(Tracked::Flow),
        Next::Open => false,
        Next::Reopen => true,
    };
    let tracked = open::<H, F>(hook, key, flags, reopen);
    if reopen && !matches!(tracked, Ok(Tracked::Made(_))) {
        release::<F>(key);
    }
    tracked
}

/// Makes the flow of a packet; with `reopen`, in place of one that this packet has claimed.
#[inline(always)]
fn open<H: Hook, F: Family>(
    hook: &H,
    key: &FlowKey<F::Address>,
    flags: u8,
    reopen: bool,
) -> Result<Tracked, Reason> {
    let exact = exact::<F>(key);
    let Some(index) = addressed::<F>(key, exact) else {
        return egress::outbound::<H, F>(hook, key, flags, reopen);
    };
    let (value, lease) = permitted_now(index)?;
    let addressed = Addressed { index, value, lease, exact };
    // A flow to be reopened was asked about before it was claimed; one that is made from the middle of a connection is
    // when its service is known.
    if !reopen && may_open(key.protocol, flags) {
        may_begin(lease)?;
    }
    match create::<F>(key, flags, &addressed, reopen) {
        Err(Reason::NoService) if value.flags & STATIC != 0 => {
            if !may_open(key.protocol, flags) {
                return Err(Reason::Miss);
            }
            egress::inbound::<F>(key, &addressed, reopen)
        }
        made => made.map(|endpoint| endpoint.map_or(Tracked::Flow, Tracked::Made)),
    }
}

/// The index of the group's address that a packet is for. A service that it names knows where that was.
#[inline(always)]
pub(crate) fn addressed<F: Family>(key: &FlowKey<F::Address>, exact: Option<&ServiceRef>) -> Option<u32> {
    if let Some(named) = exact
        && let index = u32::from(named.address_index)
        && let Some(value) = ADDRESSES.get_ptr(index)
    {
        // SAFETY: a live array element that user space may be replacing; then its stamp tells.
        let (family, address) = unsafe {
            (addr_of!((*value).family).read_volatile(), F::narrow(addr_of!((*value).address).read()))
        };
        if family == F::NUMBER && address == key.destination_be {
            return Some(index);
        }
    }
    F::address_index(&key.destination_be)
}

/// The flow that [`track`] found: what its entry in the packet's direction says, and its flags.
#[inline(always)]
pub(crate) fn flow<F: Family>(key: &FlowKey<F::Address>) -> Result<(Translation<F::Address>, u32), Reason> {
    let entry = F::flows().get_ptr_mut(key).ok_or(Reason::Raced)?;
    // SAFETY: a live map value.
    unsafe {
        touch(entry);
        Ok((Translation::of(entry), addr_of!((*entry).flags).read_volatile()))
    }
}

/// The flow that [`track`] has just made, where it was drafted: nobody else has that in hand, and nothing need be
/// proven of it. `None`: with direct return, which needs the entry.
#[inline(always)]
pub(crate) fn drafted<F: Family>() -> Option<Translation<F::Address>> {
    let draft = F::scratch(DRAFT_ROOM)?;
    // SAFETY: the element is this CPU's own, and programs of one hook do not nest.
    unsafe { if (*draft).flags & FORWARDING == 0 { Some(Translation::of(draft)) } else { None } }
}

/// A packet's flow, if there is one: lease, state, event.
#[inline(always)]
fn hit<F: Family>(key: &FlowKey<F::Address>, flags: u8) -> Result<Next, Reason> {
    let Some(entry) = F::flows().get_ptr_mut(key) else {
        return Ok(Next::Open);
    };
    // SAFETY: a live map value.
    let translation = unsafe { Translation::of(entry) };
    // SAFETY: a live map value; one aligned word.
    let kind = unsafe { addr_of!((*entry).flags).read_volatile() };
    let (address, lease) = permitted(translation.address_index, translation.address_stamp)?;
    translation.prove(key)?;
    if kind & FORWARDING != 0 {
        // SAFETY: a live map value, which is all there is of this flow.
        return unsafe { change::<F>(entry, entry, From::Client, flags, address.group, lease) };
    }
    let reply = kind & KIND == REPLY;
    let twin = match F::flows().get_ptr_mut(translation.twin()) {
        Some(twin) => twin,
        // SAFETY: a live map value.
        None if reply => return Err(unsafe { orphan::<F>(entry, key) }),
        // SAFETY: a live map value.
        None => unsafe { repair::<F>(&translation, key) }.ok_or(Reason::TwinMissing)?,
    };
    // SAFETY: a live map value.
    if !unsafe { atomic::same_key(addr_of!((*twin).twin), key) } {
        // The flow has gone on to another endpoint: it was reopened, and this entry waits for the sweeper.
        return Err(Reason::FlowDead);
    }
    let (original, other, from) =
        if reply { (twin, entry, From::Endpoint) } else { (entry, twin, From::Client) };
    // SAFETY: both point to live map values.
    unsafe { change::<F>(original, other, from, flags, address.group, lease) }
}

/// A reply entry without an original: the state is lost, so it goes, unless the original may be on its way.
///
/// # Safety
/// `entry` points to a live value of the flow map.
#[inline(always)]
unsafe fn orphan<F: Family>(entry: *const FlowValue<F::Address>, key: &FlowKey<F::Address>) -> Reason {
    // SAFETY: the caller's promise.
    let age = precise_ns().wrapping_sub(unsafe { (*entry).birth_ns }) as i64;
    if age < DEAD_NS as i64 {
        return Reason::Raced;
    }
    let _ = F::flows().remove(key);
    Reason::TwinMissing
}

/// Writes the reply entry that an original has lost: everything it says, the original says too.
///
/// # Safety
/// The translation is of a live value of the flow map.
#[cold]
#[inline(never)]
unsafe fn repair<F: Family>(
    translation: &Translation<F::Address>,
    key: &FlowKey<F::Address>,
) -> Option<*mut FlowValue<F::Address>> {
    // Too large for the stack beside everything else.
    let scratch = F::scratch(DRAFT_ROOM)?;
    // SAFETY: the caller's promise; the element is this CPU's own, and programs of one hook do not nest.
    unsafe {
        words::copy(scratch, translation.entry());
        // It may have been taken over while it was copied.
        translation.prove(key).ok()?;
        if (*scratch).generation != (*scratch).generation_end {
            return None;
        }
        let reply = reply_of::<F>(&*scratch)?;
        let _ = F::flows().insert(&reply.key, &*reply, u64::from(BPF_NOEXIST));
        count(Reason::TwinRepaired);
        F::flows().get_ptr_mut(&reply.key)
    }
}
