//! How many connections services and endpoints have: flows of which `state::counts` holds. Counted where that begins
//! and ends; what is lost on the way (a daemon that replaces entries, a takeover) the sweeper sets right when the numbers
//! stand still during a pass.

use core::ptr::{addr_of, addr_of_mut};

use lockstep_abi::flow::FlowValue;
use lockstep_abi::reason::Reason;
use lockstep_abi::service::ServiceVersion;

use crate::atomic;
use crate::maps::{SERVICE_LOADS, TARGET_LOADS};

/// How often a lost compare-and-swap of the rate's clock is tried again before the packet counts as too many.
const TRIES: u32 = 4;

/// A connection has begun.
#[inline(always)]
pub(crate) fn entered(service_slot: u16, target: u16) {
    // SAFETY: live array elements.
    unsafe {
        if let Some(load) = SERVICE_LOADS.get_ptr_mut(u32::from(service_slot)) {
            atomic::add(addr_of_mut!((*load).connections), 1);
        }
        if let Some(load) = TARGET_LOADS.get_ptr_mut(u32::from(target)) {
            atomic::add(load, 1);
        }
    }
}

/// A connection has ended. Told once for each: by who changed the state so that it counts no more.
///
/// # Safety
/// `original` points to a live value of the flow map, or to a copy of one.
#[inline(always)]
pub(crate) unsafe fn left<A>(original: *const FlowValue<A>) {
    const MINUS_ONE: u64 = u64::MAX;
    // SAFETY: the caller's promise; live array elements.
    unsafe {
        let slot = u32::from(addr_of!((*original).service_slot).read_volatile());
        let target = u32::from(addr_of!((*original).target).read_volatile());
        if let Some(load) = SERVICE_LOADS.get_ptr_mut(slot)
            && addr_of!((*load).connections).read_volatile() != 0
        {
            atomic::add(addr_of_mut!((*load).connections), MINUS_ONE);
        }
        if let Some(load) = TARGET_LOADS.get_ptr_mut(target)
            && load.read_volatile() != 0
        {
            atomic::add(load, MINUS_ONE);
        }
    }
}

/// Whether the service's limits allow one more flow now. Counts against the rate.
#[inline(always)]
pub(crate) fn admit(service_slot: u32, version: &ServiceVersion, now_ns: u64) -> Result<(), Reason> {
    if version.connection_limit == 0 && version.rate_interval_ns == 0 {
        return Ok(());
    }
    let load = SERVICE_LOADS.get_ptr_mut(service_slot).ok_or(Reason::NoService)?;
    // SAFETY: a live array element.
    unsafe {
        let connections = addr_of!((*load).connections).read_volatile();
        if version.connection_limit != 0 && connections >= version.connection_limit {
            return Err(Reason::ConnectionLimit);
        }
        if version.rate_interval_ns == 0
            || in_rate(
                addr_of_mut!((*load).arrival_ns),
                version.rate_interval_ns,
                version.rate_burst_ns,
                now_ns,
            )
        {
            Ok(())
        } else {
            Err(Reason::RateLimit)
        }
    }
}

/// The generic cell rate algorithm (ITU-T I.371): an event may come up to `burst_ns` before its time.
///
/// # Safety
/// `arrival` points to a word of a live map value.
#[inline(never)]
pub(crate) unsafe fn in_rate(arrival: *mut u64, interval_ns: u64, burst_ns: u64, now_ns: u64) -> bool {
    for _ in 0..TRIES {
        // SAFETY: the caller's promise.
        let due = unsafe { arrival.read_volatile() };
        let ahead = due.wrapping_sub(now_ns) as i64;
        if ahead > burst_ns as i64 {
            return false;
        }
        let next = if ahead > 0 { due } else { now_ns }.wrapping_add(interval_ns);
        // SAFETY: the caller's promise.
        if unsafe { atomic::swap(arrival, due, next) } {
            return true;
        }
    }
    false
}
