//! The lease check (I3, I4), and the clock it reads.

use core::ptr::addr_of;

use aya_ebpf::helpers::generated::{bpf_ktime_get_coarse_ns, bpf_ktime_get_ns};
use lockstep_abi::address::AddressValue;
use lockstep_abi::lease::{LeaseValue, UNBOUNDED};
use lockstep_abi::map::MAX_LEASE_NS;
use lockstep_abi::reason::Reason;

use crate::maps::{ADDRESSES, LEASES};

/// Set by the loader: `lockstep_abi::map::GLOBAL_COARSE_MARGIN_NS`.
#[unsafe(no_mangle)]
static COARSE_MARGIN_NS: u64 = 0;

/// The coarse clock: exact enough for ages, a few nanoseconds to read.
#[inline(always)]
pub(crate) fn coarse_ns() -> u64 {
    // SAFETY: a helper without arguments.
    unsafe { bpf_ktime_get_coarse_ns() }
}

/// The precise clock.
#[inline(always)]
pub(crate) fn precise_ns() -> u64 {
    // SAFETY: a helper without arguments.
    unsafe { bpf_ktime_get_ns() }
}

/// The lease of a slot, if it permits forwarding now.
///
/// The coarse clock can stand still for some ticks when the CPU that keeps time is stolen. It runs behind the
/// precise one, so it sees more lease left than there is; it decides only while that is more than the margin.
#[inline(always)]
pub(crate) fn held(slot: u32) -> Option<&'static LeaseValue> {
    let lease = LEASES.get(slot)?;
    // SAFETY: a live array element; user space changes its words one at a time.
    let (flags, until) =
        unsafe { (addr_of!(lease.flags).read_volatile(), addr_of!(lease.until_ns).read_volatile()) };
    if flags & UNBOUNDED != 0 {
        return Some(lease);
    }
    // SAFETY: a static of this object, which the loader may have set.
    let margin = unsafe { addr_of!(COARSE_MARGIN_NS).read_volatile() };
    let left = until.wrapping_sub(coarse_ns());
    if margin != 0 && left > margin && left <= MAX_LEASE_NS {
        return Some(lease);
    }
    if LeaseValue::accepts(until, precise_ns()) { Some(lease) } else { None }
}

/// The address at `index`, which must be `address_be`, and its group's lease, which must be held.
#[inline(always)]
pub(crate) fn permitted(
    index: u32,
    address_be: u32,
) -> Result<(&'static AddressValue, &'static LeaseValue), Reason> {
    let address = ADDRESSES.get(index).ok_or(Reason::AddressGone)?;
    // SAFETY: a live array element that user space may be replacing.
    let (named, slot) = unsafe {
        (addr_of!(address.address_be).read_volatile(), addr_of!(address.lease_slot).read_volatile())
    };
    if named != address_be {
        return Err(Reason::AddressGone);
    }
    Ok((address, held(slot).ok_or(Reason::NoLease)?))
}

/// Whether the owner may begin flows: not while its intent is stale, since it would choose by services and
/// endpoints that the cluster may have changed.
#[inline(always)]
pub(crate) fn may_begin(lease: &LeaseValue) -> Result<(), Reason> {
    // SAFETY: a live array element; user space changes its words one at a time.
    if unsafe { addr_of!(lease.frozen).read_volatile() } == 0 { Ok(()) } else { Err(Reason::IntentStale) }
}
