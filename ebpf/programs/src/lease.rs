//! The lease check (I3, I4), and the clocks it reads.

use core::ptr::{addr_of, addr_of_mut};

use aya_ebpf::helpers::generated::{bpf_jiffies64, bpf_ktime_get_coarse_ns, bpf_ktime_get_ns};
use lockstep_abi::address::AddressValue;
use lockstep_abi::lease::{LeaseValue, UNBOUNDED};
use lockstep_abi::map::MARGIN_TICKS;
use lockstep_abi::reason::Reason;

use crate::maps::{ADDRESSES, LEASES};

/// Set by the loader: `lockstep_abi::map::GLOBAL_TICK_NS`.
#[unsafe(no_mangle)]
static TICK_NS: u64 = 0;

/// Set by the loader: `lockstep_abi::map::GLOBAL_TICK_OFFSET_NS`.
#[unsafe(no_mangle)]
static TICK_OFFSET_NS: u64 = 0;

#[inline(always)]
fn tick() -> u64 {
    // SAFETY: a static of this object, which the loader may have set.
    unsafe { addr_of!(TICK_NS).read_volatile() }
}

#[inline(always)]
fn jiffies() -> u64 {
    // SAFETY: a helper without arguments; the verifier makes it one load.
    unsafe { bpf_jiffies64() }
}

/// The clock that moves with the kernel's tick: exact enough for ages, and nearly free to read.
#[inline(always)]
pub(crate) fn tick_ns() -> u64 {
    let tick = tick();
    if tick == 0 {
        // SAFETY: a helper without arguments.
        return unsafe { bpf_ktime_get_coarse_ns() };
    }
    // SAFETY: a static of this object, which the loader may have set.
    let offset = unsafe { addr_of!(TICK_OFFSET_NS).read_volatile() };
    jiffies().wrapping_mul(tick).wrapping_add(offset)
}

/// The precise clock.
#[inline(always)]
pub(crate) fn precise_ns() -> u64 {
    // SAFETY: a helper without arguments.
    unsafe { bpf_ktime_get_ns() }
}

/// The lease of a slot, if it permits forwarding now.
///
/// The precise clock decides, and what it said is noted in the lease as a number of ticks that may pass before it
/// must be asked again. Ticks can stand still while the CPU that keeps time is stolen, so the note ends
/// [`MARGIN_TICKS`] before the lease does. It belongs to one value of `until_ns`: a renewal or a release makes it
/// void.
#[inline(never)]
pub(crate) fn held(slot: u32) -> Option<&'static LeaseValue> {
    held_now(slot)
}

/// [`held`], where a call would cost.
#[inline(always)]
fn held_now(slot: u32) -> Option<&'static LeaseValue> {
    let lease = LEASES.get_ptr_mut(slot)?;
    // SAFETY: a live array element; user space changes its words one at a time.
    unsafe {
        if addr_of!((*lease).flags).read_volatile() & UNBOUNDED != 0 {
            return Some(&*lease);
        }
        let until = addr_of!((*lease).until_ns).read_volatile();
        let note = addr_of!((*lease).fast).read_volatile();
        if until == 0 {
            return None;
        }
        let now = jiffies() as u32;
        let left = ((note >> 32) as u32).wrapping_sub(now) as i32;
        if note != 0 && note as u32 == until as u32 && left > 0 {
            return Some(&*lease);
        }
        if decide(lease, until, now) { Some(&*lease) } else { None }
    }
}

/// # Safety
/// `lease` points to a live array element.
#[inline(never)]
unsafe fn decide(lease: *mut LeaseValue, until: u64, jiffies: u32) -> bool {
    let now = precise_ns();
    if !LeaseValue::accepts(until, now) {
        return false;
    }
    let ticks = until.wrapping_sub(now).checked_div(tick());
    if let Some(ticks) = ticks
        && ticks > MARGIN_TICKS
    {
        let limit = jiffies.wrapping_add((ticks - MARGIN_TICKS) as u32);
        // SAFETY: the caller's promise; one aligned word, which any CPU may write: each writes what is true.
        unsafe {
            addr_of_mut!((*lease).fast).write_volatile(u64::from(limit) << 32 | u64::from(until as u32));
        }
    }
    true
}

/// Whether the lease of the group of the address at `index`, which must bear `stamp`, is held. For the fast path.
#[inline(always)]
pub(crate) fn check(index: u32, stamp: u32) -> Result<(), Reason> {
    let address = stamped(index, stamp)?;
    // SAFETY: a live array element that user space may be replacing.
    let slot = unsafe { addr_of!(address.lease_slot).read_volatile() };
    if held_now(slot).is_some() { Ok(()) } else { Err(Reason::NoLease) }
}

#[inline(always)]
fn stamped(index: u32, stamp: u32) -> Result<&'static AddressValue, Reason> {
    let address = ADDRESSES.get(index).ok_or(Reason::AddressGone)?;
    // SAFETY: a live array element that user space may be replacing.
    let found = unsafe { addr_of!(address.stamp).read_volatile() };
    if found != stamp || stamp == 0 { Err(Reason::AddressGone) } else { Ok(address) }
}

/// The address at `index`, which must bear `stamp`, and its group's lease, which must be held.
#[inline(always)]
pub(crate) fn permitted(
    index: u32,
    stamp: u32,
) -> Result<(&'static AddressValue, &'static LeaseValue), Reason> {
    let address = stamped(index, stamp)?;
    // SAFETY: a live array element that user space may be replacing.
    let slot = unsafe { addr_of!(address.lease_slot).read_volatile() };
    Ok((address, held_now(slot).ok_or(Reason::NoLease)?))
}

/// The same for an address that was found by itself.
#[inline(always)]
pub(crate) fn permitted_now(index: u32) -> Result<(&'static AddressValue, &'static LeaseValue), Reason> {
    let address = ADDRESSES.get(index).ok_or(Reason::AddressGone)?;
    // SAFETY: a live array element that user space may be replacing.
    let stamp = unsafe { addr_of!(address.stamp).read_volatile() };
    permitted(index, stamp)
}

/// Whether the owner may begin flows: not while its intent is stale, since it would choose by services and
/// endpoints that the cluster may have changed.
#[inline(always)]
pub(crate) fn may_begin(lease: &LeaseValue) -> Result<(), Reason> {
    // SAFETY: a live array element; user space changes its words one at a time.
    if unsafe { addr_of!(lease.frozen).read_volatile() } == 0 { Ok(()) } else { Err(Reason::IntentStale) }
}
