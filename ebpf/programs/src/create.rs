//! A new flow: service, endpoint, two entries, event.

use core::ptr::{addr_of, addr_of_mut};

use aya_ebpf::bindings::BPF_NOEXIST;
use aya_ebpf::helpers::generated::bpf_get_prandom_u32;
use lockstep_abi::address::{AddressValue, VIP};
use lockstep_abi::event::CREATED;
use lockstep_abi::flow::{FlowKey4, FlowValue4, NO_SYNC, NewFlow};
use lockstep_abi::lease::LeaseValue;
use lockstep_abi::map::VERSION_SLOTS;
use lockstep_abi::reason::Reason;
use lockstep_abi::service::{
    Endpoint, MAGLEV as MAGLEV_ALGORITHM, ROUND_ROBIN, SYNC_NONE, ServiceKey, ServiceRef, ServiceVersion,
};
use lockstep_abi::state;
use lockstep_abi::timeout::DEAD_NS;
use lockstep_packet::select::{
    endpoint_index, flow_hash, maglev_entry, maglev_position, round_robin_position,
};
use lockstep_packet::transition::first;

use crate::atomic;
use crate::change::{Subject, report};
use crate::count::count;
use crate::lease::precise_ns;
use crate::maps::{ENDPOINTS, FLOWS, MAGLEV, SCRATCH, SERVICES, TURNS, VERSIONS};

const EEXIST: i32 = -17;
const E2BIG: i32 = -7;
const ENOMEM: i32 = -12;

/// Makes the flow of a client's first packet; with `reopen`, in place of one that this packet has claimed.
/// `Ok` also when another CPU made it first: then that one's translation applies.
#[inline(always)]
pub(crate) fn create(
    key: &FlowKey4,
    address_index: u32,
    address: &AddressValue,
    lease: &LeaseValue,
    reopen: bool,
) -> Result<(), Reason> {
    let named = service(key, address).ok_or(Reason::NoService)?;
    let version_slot = named.version_slot;
    let version = VERSIONS.get(version_slot).ok_or(Reason::NoService)?;
    if version.service != named.service {
        return Err(Reason::NoService);
    }
    let endpoint = choose(key, version_slot, version).ok_or(Reason::NoEndpoint)?;
    let now_ns = precise_ns();
    let mut flow = NewFlow {
        key: *key,
        endpoint_be: endpoint.address_be,
        endpoint_port_be: endpoint.port_be,
        address_index,
        state_bits: first(key.protocol),
        n: 0,
        now_ns,
        birth_ns: now_ns,
        epoch: lease.epoch,
        service: version.service,
        endpoint: endpoint.id,
        mark: 0,
        flags: if version.sync == SYNC_NONE { NO_SYNC } else { 0 },
        // SAFETY: a helper without arguments.
        generation: unsafe { bpf_get_prandom_u32() },
    };
    if reopen {
        take_over(&mut flow)?;
    } else if !insert(&flow)? {
        return Ok(());
    }
    count(Reason::FlowCreated);
    if flow.flags & NO_SYNC == 0 {
        let subject = Subject {
            key: *key,
            endpoint_be: flow.endpoint_be,
            endpoint_port_be: flow.endpoint_port_be,
            birth_ns: now_ns,
            service: flow.service,
            endpoint: flow.endpoint,
        };
        report(&subject, CREATED, state::word(flow.state_bits, flow.n), address.group, lease.epoch);
    }
    Ok(())
}

/// Why a packet that may not make a flow is dropped.
#[inline(always)]
pub(crate) fn no_flow(key: &FlowKey4, address: &AddressValue) -> Reason {
    if service(key, address).is_some() { Reason::Miss } else { Reason::NoService }
}

#[inline(always)]
fn service(key: &FlowKey4, address: &AddressValue) -> Option<ServiceRef> {
    if address.flags & VIP == 0 {
        return None;
    }
    let name = ServiceKey {
        vip_be: key.destination_be,
        port_be: key.destination_port_be,
        protocol: key.protocol,
        pad: 0,
    };
    // SAFETY: an element that user space replaces as a whole; the version it names is compared with it.
    unsafe { SERVICES.get(&name) }.copied()
}

/// The endpoint for a new flow.
#[inline(always)]
fn choose(key: &FlowKey4, version_slot: u32, version: &ServiceVersion) -> Option<&'static Endpoint> {
    if version_slot >= VERSION_SLOTS {
        return None;
    }
    let position = match version.algorithm {
        MAGLEV_ALGORITHM => {
            let (index, shift) = maglev_entry(version_slot, flow_hash(key));
            maglev_position(*MAGLEV.get(index)?, shift)
        }
        ROUND_ROBIN => {
            // SAFETY: a live array element.
            let turn = unsafe { atomic::add(TURNS.get_ptr_mut(version_slot)?, 1) };
            round_robin_position(turn, version.endpoint_count)?
        }
        _ => return None,
    };
    ENDPOINTS.get(endpoint_index(version_slot, position, version.endpoint_count)?)
}

/// Inserts both entries, the reply's first: it reserves the translated tuple. False: another CPU was first.
#[inline(always)]
fn insert(flow: &NewFlow) -> Result<bool, Reason> {
    let reply_key = flow.reply_key();
    match FLOWS.insert(&reply_key, scratch(flow.reply())?, u64::from(BPF_NOEXIST)) {
        Ok(()) => {}
        Err(EEXIST) => return taken(flow, &reply_key),
        Err(error) => return Err(refusal(error)),
    }
    match FLOWS.insert(&flow.key, scratch(flow.original())?, u64::from(BPF_NOEXIST)) {
        Ok(()) => Ok(true),
        Err(error) => {
            let _ = FLOWS.remove(&reply_key);
            if error == EEXIST { Ok(false) } else { Err(refusal(error)) }
        }
    }
}

/// Puts a value where the kernel can copy it from: the stack has no room for it.
#[inline(always)]
fn scratch(value: FlowValue4) -> Result<&'static FlowValue4, Reason> {
    let room = SCRATCH.get_ptr_mut(0).ok_or(Reason::FlowInsertFailed)?;
    // SAFETY: the element is this CPU's own, and programs of one hook do not nest.
    unsafe {
        *room = value;
        Ok(&*room)
    }
}

#[inline(always)]
fn refusal(error: i32) -> Reason {
    match error {
        E2BIG | ENOMEM => Reason::FlowTableFull,
        _ => Reason::FlowInsertFailed,
    }
}

/// Somebody has the reply's tuple: this very flow, made by another CPU; another flow; or half a flow that was
/// left behind, which makes room once nobody can have it in hand.
#[inline(always)]
fn taken(flow: &NewFlow, reply_key: &FlowKey4) -> Result<bool, Reason> {
    let Some(holder) = FLOWS.get_ptr(reply_key) else {
        return Err(Reason::Raced);
    };
    // SAFETY: a live map value.
    let (owner, birth_ns, seen_ns) =
        unsafe { (atomic::read_key(addr_of!((*holder).twin)), (*holder).birth_ns, (*holder).last_seen_ns) };
    let half = match FLOWS.get_ptr(&owner) {
        // SAFETY: a live map value.
        Some(original) => unsafe { atomic::read_key(addr_of!((*original).twin)) != *reply_key },
        None => true,
    };
    let settled = |since: u64| flow.now_ns.wrapping_sub(since) as i64 > DEAD_NS as i64;
    if half && settled(birth_ns) && settled(seen_ns) {
        let _ = FLOWS.remove(reply_key);
        return Err(Reason::TwinMissing);
    }
    if owner == flow.key { Ok(false) } else { Err(Reason::ReplyTupleTaken) }
}

/// Puts a flow in the place of the dead one that this packet has claimed. Live elements are changed in place
/// and never freed here: another CPU may have them in hand. The old reply entry, if the endpoint is another
/// now, stays dead until the sweeper finds that its original names another twin.
#[inline(always)]
fn take_over(flow: &mut NewFlow) -> Result<(), Reason> {
    let original = FLOWS.get_ptr_mut(&flow.key).ok_or(Reason::Raced)?;
    // SAFETY: a live map value; the claim keeps everybody else from changing it.
    let claimed = unsafe { addr_of!((*original).state).read_volatile() };
    if state::bits(claimed) & state::DEAD == 0 {
        return Err(Reason::Raced);
    }
    // The count goes on, so that no word of the state ever comes back.
    flow.n = state::n(claimed).wrapping_add(1);
    let reply_key = flow.reply_key();
    match FLOWS.insert(&reply_key, scratch(flow.reply())?, u64::from(BPF_NOEXIST)) {
        Ok(()) => {}
        Err(EEXIST) => {
            let holder = FLOWS.get_ptr_mut(&reply_key).ok_or(Reason::Raced)?;
            // SAFETY: a live map value.
            unsafe {
                if atomic::read_key(addr_of!((*holder).twin)) != flow.key {
                    return Err(Reason::ReplyTupleTaken);
                }
                replace(holder, scratch(flow.reply())?);
            }
        }
        Err(error) => return Err(refusal(error)),
    }
    // SAFETY: a live map value.
    unsafe { replace(original, scratch(flow.original())?) };
    Ok(())
}

/// Writes a value over another of the same key, so that readers see one of the two or notice.
#[inline(always)]
unsafe fn replace(entry: *mut FlowValue4, value: &FlowValue4) {
    // SAFETY: the caller's promise; volatile, because the order is the protocol (see FlowValue4).
    unsafe {
        addr_of_mut!((*entry).generation).write_volatile(value.generation);
        atomic::write_key(addr_of_mut!((*entry).twin), &value.twin);
        addr_of_mut!((*entry).address_delta).write_volatile(value.address_delta);
        addr_of_mut!((*entry).port_delta).write_volatile(value.port_delta);
        addr_of_mut!((*entry).address_index).write_volatile(value.address_index);
        addr_of_mut!((*entry).last_seen_ns).write_volatile(value.last_seen_ns);
        addr_of_mut!((*entry).birth_ns).write_volatile(value.birth_ns);
        addr_of_mut!((*entry).epoch).write_volatile(value.epoch);
        addr_of_mut!((*entry).service).write_volatile(value.service);
        addr_of_mut!((*entry).endpoint).write_volatile(value.endpoint);
        addr_of_mut!((*entry).mark).write_volatile(value.mark);
        addr_of_mut!((*entry).flags).write_volatile(value.flags);
        addr_of_mut!((*entry).generation_end).write_volatile(value.generation_end);
        addr_of_mut!((*entry).path).write_volatile(value.path);
        addr_of_mut!((*entry).state).write_volatile(value.state);
    }
}
