//! A new flow of a service: who may, which endpoint, and how its packets are translated.

use core::ptr::addr_of;

use aya_ebpf::maps::lpm_trie::Key;
use lockstep_abi::TCP;
use lockstep_abi::address::{AddressValue, ENDPOINTS as BESIDE, RANGES, VIP};
use lockstep_abi::flow::{
    Address, FORWARD_DSR_GUE, FORWARD_DSR_IPIP, FORWARD_DSR_L2, FORWARD_NAT, FlowKey, NO_SYNC, SYNC_LATE,
};
use lockstep_abi::lease::LeaseValue;
use lockstep_abi::reason::Reason;
use lockstep_abi::service::{
    DSR_GUE, DSR_IPIP, DSR_L2, Endpoint, FULLNAT, MISS_RECOVER, MISS_RESET, NAT, RangeKey, SNAT_ADDRESSES,
    SOURCES as RESTRICTED, SYNC_ESTABLISHED, SYNC_NONE, ServiceKey, ServiceRef, ServiceVersion, SourceKey,
};
use lockstep_abi::state::TENTATIVE;
use lockstep_packet::select::flow_hash;
use lockstep_packet::transition::{first, may_open, recovered};

use crate::choose::{choose, chosen_by_tuple};
use crate::count::count;
use crate::family::Family;
use crate::hook::Hook;
use crate::hop::{self, Hop, endpoint_hop};
use crate::insert::{Source, begin, begin_at_once, begin_untranslated, draft};
use crate::lease::{may_begin, precise_ns};
use crate::load::{admit, in_rate};
use crate::maps::{ENDPOINTS, RECOVERY, SOURCES, VERSIONS};
use crate::words;

/// For so long after a takeover flows may be missing that the former owner had.
const TAKEOVER_NS: u64 = 60 * 1_000_000_000;
/// Flows made again in a second, and in a burst.
const RECOVERY_INTERVAL_NS: u64 = 1_000_000_000 / 100_000;
const RECOVERY_BURST_NS: u64 = 100_000_000;

/// The service of this very address, port and protocol.
#[inline(always)]
pub(crate) fn exact<F: Family>(key: &FlowKey<F::Address>) -> Option<&'static ServiceRef> {
    let (vip_be, port_be, protocol) = (key.destination_be, key.destination_port_be, key.protocol);
    F::service(&ServiceKey { vip_be, port_be, protocol, pad: 0 })
}

/// The service of a range of ports that this one is in.
#[inline(never)]
fn ranged<F: Family>(key: &FlowKey<F::Address>) -> Option<&'static ServiceRef> {
    let (vip_be, port_be, protocol) = (key.destination_be, key.destination_port_be, key.protocol);
    F::range(RangeKey { vip_be, protocol, pad: 0, port_be })
}

/// The service that a client's packet is for.
#[inline(always)]
fn service<F: Family>(
    key: &FlowKey<F::Address>,
    address: &AddressValue,
    exact: Option<&'static ServiceRef>,
) -> Option<&'static ServiceRef> {
    if address.flags & VIP == 0 {
        return None;
    }
    if exact.is_some() || address.flags & RANGES == 0 { exact } else { ranged::<F>(key) }
}

/// The group's address that a packet is for.
pub(crate) struct Addressed {
    pub(crate) index: u32,
    pub(crate) value: &'static AddressValue,
    pub(crate) lease: &'static LeaseValue,
    /// What [`exact`] found.
    pub(crate) exact: Option<&'static ServiceRef>,
}

/// Makes the flow of a client's packet; with `reopen`, in place of one that this packet has claimed. Answers the
/// endpoint's index; `None` when another CPU made the flow first: then that one's translation applies.
#[inline(always)]
pub(crate) fn create<F: Family>(
    key: &FlowKey<F::Address>,
    flags: u8,
    addressed: &Addressed,
    reopen: bool,
) -> Result<Option<u32>, Reason> {
    let Addressed { value: address, lease, .. } = *addressed;
    let named = *service::<F>(key, address, addressed.exact).ok_or(Reason::NoService)?;
    let version = VERSIONS.get(named.version_slot).ok_or(Reason::NoService)?;
    if version.service != named.service {
        return Err(Reason::NoService);
    }
    if F::stays_on_link(key) {
        return Err(Reason::SourceStaysOnLink);
    }
    let now_ns = precise_ns();
    let recovers = !may_open(key.protocol, flags);
    let state_bits = if recovers { again(key, version, lease, now_ns)? } else { first(key.protocol) };
    if version.flags & RESTRICTED != 0 && !allowed::<F>(&key.source_be, named.version_slot) {
        return Err(Reason::SourceNotAllowed);
    }
    admit(named.service_slot.into(), version, now_ns)?;
    let chosen = choose(key, named.version_slot, version, now_ns);
    let endpoint = ENDPOINTS.get(chosen).ok_or(Reason::NoEndpoint)?;
    let to = To { named: &named, version, chosen, endpoint };
    drafted_to::<F>(key, addressed, &to, state_bits, now_ns)?;
    let source = if version.mode == FULLNAT || (version.mode == NAT && beside::<F>(key)) {
        translated(key, version)?
    } else {
        Source::KEPT
    };
    let made = if !source.translate && !reopen {
        begin_untranslated::<F>(address.group)
    } else {
        // The endpoint knows the connection from one port only.
        begin::<F>(Source { first: recovers, ..source }, address.group, reopen)
    };
    Ok(if made? { Some(chosen) } else { None })
}

/// Where a new flow goes.
struct To<'a> {
    named: &'a ServiceRef,
    version: &'a ServiceVersion,
    chosen: u32,
    endpoint: &'a Endpoint,
}

/// Drafts a client's flow.
#[inline(always)]
fn drafted_to<F: Family>(
    key: &FlowKey<F::Address>,
    addressed: &Addressed,
    to: &To<'_>,
    state_bits: u32,
    now_ns: u64,
) -> Result<(), Reason> {
    let Addressed { value: address, lease, .. } = *addressed;
    let To { named, version, chosen, endpoint } = *to;
    // Echo has no port on the side that answers.
    let keeps_port = endpoint.port_be == 0 || key.protocol == F::ICMP;
    let port_be = if keeps_port { key.destination_port_be } else { endpoint.port_be };
    let forwarding = match version.mode {
        NAT | FULLNAT => FORWARD_NAT,
        DSR_L2 => FORWARD_DSR_L2,
        DSR_IPIP => FORWARD_DSR_IPIP,
        DSR_GUE => FORWARD_DSR_GUE,
        _ => return Err(Reason::NoService),
    };
    let sync = match version.sync {
        SYNC_NONE => NO_SYNC,
        SYNC_ESTABLISHED => SYNC_LATE,
        _ => 0,
    };
    // Nobody sees an endpoint confirm what goes to it directly.
    let state_bits = if forwarding == FORWARD_NAT { state_bits } else { state_bits & !TENTATIVE };
    let flow = draft::<F>(key, state_bits, now_ns)?;
    // SAFETY: a key in the draft.
    unsafe { words::reverse(&raw mut flow.twin, key) };
    if forwarding == FORWARD_NAT {
        // SAFETY: an address in the draft.
        unsafe { words::copy(&raw mut flow.twin.source_be, &F::narrow(endpoint.address)) };
        flow.twin.source_port_be = port_be;
    }
    flow.hop = endpoint_hop(chosen);
    flow.address_index = addressed.index as u16;
    // SAFETY: a live array element; one aligned word.
    flow.address_stamp = unsafe { addr_of!(address.stamp).read_volatile() } as u16;
    flow.epoch = lease.epoch;
    flow.service = version.service;
    flow.endpoint = endpoint.id;
    flow.flags = forwarding | sync;
    flow.service_slot = named.service_slot;
    flow.target = endpoint.target as u16;
    Ok(())
}

/// Whether the client is beside the endpoint: it would get the answer past the balancer, untranslated.
#[inline(always)]
fn beside<F: Family>(key: &FlowKey<F::Address>) -> bool {
    F::transit(&key.source_be).is_some_and(|network| network.flags & BESIDE != 0)
}

/// Makes the flow of a SYN without having looked for it, if its service needs nothing that counts what it is asked,
/// and its way is known, which is answered. `None`: nothing has changed.
#[inline(always)]
pub(crate) fn create_at_once<H: Hook, F: Family>(
    hook: &H,
    key: &FlowKey<F::Address>,
    addressed: &Addressed,
) -> Option<Hop> {
    let named = *service::<F>(key, addressed.value, addressed.exact)?;
    let version = VERSIONS.get(named.version_slot)?;
    let limited = version.connection_limit != 0 || version.rate_interval_ns != 0;
    if version.service != named.service || version.mode != NAT || version.flags & RESTRICTED != 0 || limited {
        return None;
    }
    if F::stays_on_link(key) || beside::<F>(key) {
        return None;
    }
    let chosen = chosen_by_tuple(key, named.version_slot, version)?;
    let endpoint = ENDPOINTS.get(chosen)?;
    let hop = hop::kept::<H>(endpoint_hop(chosen), || hook.largest(F::TRANSPORT, TCP))?;
    let to = To { named: &named, version, chosen, endpoint };
    drafted_to::<F>(key, addressed, &to, first(TCP), precise_ns()).ok()?;
    if begin_at_once::<F>(addressed.value.group) { Some(hop) } else { None }
}

/// The state of a flow that is made again from the middle of a connection, if its service wants that and now is the
/// time.
#[inline(always)]
fn again<A>(
    key: &FlowKey<A>,
    version: &ServiceVersion,
    lease: &LeaseValue,
    now_ns: u64,
) -> Result<u32, Reason> {
    let recent = now_ns.wrapping_sub(lease.since_ns) < TAKEOVER_NS;
    match version.on_miss {
        // A translated source's port is a guess, which a TCP endpoint's RST proves wrong.
        MISS_RECOVER if recent && (version.mode != FULLNAT || key.protocol == TCP) => {}
        MISS_RESET if !recent => return Err(Reason::MissReset),
        _ => return Err(Reason::Miss),
    }
    may_begin(lease)?;
    let arrival = RECOVERY.get_ptr_mut(0).ok_or(Reason::Miss)?;
    // SAFETY: a live array element.
    if !unsafe { in_rate(arrival, RECOVERY_INTERVAL_NS, RECOVERY_BURST_NS, now_ns) } {
        return Err(Reason::RecoverLimited);
    }
    count(Reason::FlowRecovered);
    Ok(recovered())
}

/// Whether the service's `sources` contain the client.
#[inline(never)]
fn allowed<F: Family>(client_be: &F::Address, version_slot: u32) -> bool {
    let key = SourceKey { version_slot, address: client_be.wide() };
    SOURCES.get(Key::new(u32::BITS + F::BITS, key)).is_some()
}

/// What the source is translated to.
#[inline(always)]
fn translated<A: Address>(key: &FlowKey<A>, version: &ServiceVersion) -> Result<Source, Reason> {
    let hash = flow_hash(key);
    let count = version.snat_count;
    if count == 0 || count > SNAT_ADDRESSES as u32 {
        return Err(Reason::PortsExhausted);
    }
    // By comparison, since the verifier bounds no remainder by a count it does not know.
    let chosen = hash % count;
    let mut index = version.snat[0];
    for i in 1..SNAT_ADDRESSES {
        if chosen == i as u32 {
            index = version.snat[i];
        }
    }
    Ok(Source { translate: true, keep_port: false, first: false, index, hash })
}
