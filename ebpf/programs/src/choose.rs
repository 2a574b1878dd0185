//! Which endpoint a new flow goes to.

use core::ffi::c_void;
use core::ptr::addr_of_mut;

use aya_ebpf::bindings::BPF_ANY;
use aya_ebpf::helpers::generated::{bpf_get_prandom_u32, bpf_loop};
use lockstep_abi::flow::{Address, FlowKey};
use lockstep_abi::map::{MAX_ENDPOINTS, VERSION_SLOTS};
use lockstep_abi::reason::Reason;
use lockstep_abi::service::{
    AFFINITY as KEEPS_CHOICES, AffinityKey, AffinityValue, Endpoint, LEAST_CONNECTIONS, MAGLEV as BY_TUPLE,
    PositionKey, RAMPS, ROUND_ROBIN, SOURCE_HASH, ServiceVersion,
};
use lockstep_packet::select::{
    endpoint_index, flow_hash, less_loaded, maglev_entry, maglev_position, round_robin_place, source_hash,
};

use crate::atomic;
use crate::count::count;
use crate::maps::{AFFINITY, ENDPOINTS, MAGLEV, POSITIONS, TARGET_LOADS, TURNS};

/// A kept choice is written anew when it was last used longer ago than this.
const REFRESH_NS: u64 = 1_000_000_000;
/// Steps of a search among [`MAX_ENDPOINTS`].
const SEARCH_STEPS: u32 = MAX_ENDPOINTS.ilog2() + 1;

/// The endpoint for a new flow: its index in [`ENDPOINTS`], or [`NOBODY`].
#[inline(always)]
pub(crate) fn choose<A: Address>(
    key: &FlowKey<A>,
    version_slot: u32,
    version: &ServiceVersion,
    now_ns: u64,
) -> u32 {
    // What most services have, and needs no call.
    if by_tuple_only(version) {
        return by_table(flow_hash(key), version_slot, version).unwrap_or(NOBODY);
    }
    choose_otherwise(key, version_slot, version, now_ns)
}

/// Whether nothing but a flow's tuple decides where it goes.
#[inline(always)]
const fn by_tuple_only(version: &ServiceVersion) -> bool {
    version.algorithm == BY_TUPLE && version.flags & (KEEPS_CHOICES | RAMPS) == 0
}

/// What [`choose`] says where nothing but the tuple decides, however often it is asked.
#[inline(always)]
pub(crate) fn chosen_by_tuple<A: Address>(
    key: &FlowKey<A>,
    version_slot: u32,
    version: &ServiceVersion,
) -> Option<u32> {
    if by_tuple_only(version) { by_table(flow_hash(key), version_slot, version) } else { None }
}

#[inline(never)]
fn choose_otherwise<A: Address>(
    key: &FlowKey<A>,
    version_slot: u32,
    version: &ServiceVersion,
    now_ns: u64,
) -> u32 {
    if version_slot >= VERSION_SLOTS {
        return NOBODY;
    }
    let chosen = if version.flags & KEEPS_CHOICES == 0 {
        fresh(key, version_slot, version, now_ns)
    } else {
        kept_or_fresh(key, version_slot, version, now_ns)
    };
    chosen.unwrap_or(NOBODY)
}

/// No endpoint's index.
pub(crate) const NOBODY: u32 = u32::MAX;

/// With affinity.
#[inline(always)]
fn kept_or_fresh<A: Address>(
    key: &FlowKey<A>,
    version_slot: u32,
    version: &ServiceVersion,
    now_ns: u64,
) -> Option<u32> {
    let client = key.source_be.wide();
    let mask = &version.affinity_mask;
    let kept = AffinityKey {
        service: version.service,
        client: [client[0] & mask[0], client[1] & mask[1], client[2] & mask[2], client[3] & mask[3]],
    };
    if let Some(index) = keeper(&kept, version_slot, version, now_ns) {
        count(Reason::AffinityHit);
        return Some(index);
    }
    let index = fresh(key, version_slot, version, now_ns)?;
    keep(&kept, ENDPOINTS.get(index)?.id, now_ns);
    Some(index)
}

#[inline(always)]
fn keep(kept: &AffinityKey, endpoint: u64, seen_ns: u64) {
    let value = AffinityValue { endpoint, seen_ns };
    if AFFINITY.insert(kept, &value, u64::from(BPF_ANY)).is_err() {
        count(Reason::AffinityFull);
    }
}

/// The endpoint that a client keeps, if it still takes flows.
#[inline(always)]
fn keeper(kept: &AffinityKey, version_slot: u32, version: &ServiceVersion, now_ns: u64) -> Option<u32> {
    // SAFETY: an element that is replaced as a whole; what it names is looked up in the version.
    let choice = *unsafe { AFFINITY.get(kept) }?;
    let unused_ns = now_ns.wrapping_sub(choice.seen_ns) as i64;
    if unused_ns > version.affinity_ns as i64 {
        return None;
    }
    let key = PositionKey { endpoint: choice.endpoint, version_slot, pad: 0 };
    // SAFETY: a word that is written before the version is published and not changed afterwards.
    let position = *unsafe { POSITIONS.get(&key) }?;
    let index = endpoint_index(version_slot, position, version.endpoint_count)?;
    if unused_ns > REFRESH_NS as i64 {
        keep(kept, choice.endpoint, now_ns);
    }
    Some(index)
}

/// By the algorithm. An endpoint that is warming up may leave the flow to another.
#[inline(always)]
fn fresh<A: Address>(
    key: &FlowKey<A>,
    version_slot: u32,
    version: &ServiceVersion,
    now_ns: u64,
) -> Option<u32> {
    let hash = match version.algorithm {
        SOURCE_HASH => source_hash(&key.source_be),
        BY_TUPLE => flow_hash(key),
        // SAFETY: a helper without arguments.
        _ => unsafe { bpf_get_prandom_u32() },
    };
    let index = by_algorithm(hash, version_slot, version)?;
    if version.flags & RAMPS == 0 || takes(ENDPOINTS.get(index)?, now_ns) {
        return Some(index);
    }
    by_algorithm(hash.rotate_left(16) ^ SECOND_CHOICE, version_slot, version)
}

/// Makes another hash of one.
const SECOND_CHOICE: u32 = 0x9e37_79b9;

/// Whether an endpoint that is warming up takes this flow: as likely as the part of its time that has passed, and one
/// in sixteen at the least.
#[inline(always)]
fn takes(endpoint: &Endpoint, now_ns: u64) -> bool {
    let warm_ns = now_ns.wrapping_sub(endpoint.ramp_start_ns);
    if warm_ns >= endpoint.ramp_ns {
        return true;
    }
    // SAFETY: a helper without arguments.
    let draw = u64::from(unsafe { bpf_get_prandom_u32() } >> 16);
    let part = (warm_ns >> 10) * (1 << 16) / ((endpoint.ramp_ns >> 10) + 1);
    draw < if part < 1 << 12 { 1 << 12 } else { part }
}

/// By the version's Maglev table.
#[inline(always)]
fn by_table(hash: u32, version_slot: u32, version: &ServiceVersion) -> Option<u32> {
    let (index, shift) = maglev_entry(version_slot, hash);
    let position = maglev_position(*MAGLEV.get(index)?, shift);
    endpoint_index(version_slot, position, version.endpoint_count)
}

#[inline(always)]
fn by_algorithm(hash: u32, version_slot: u32, version: &ServiceVersion) -> Option<u32> {
    let position = match version.algorithm {
        BY_TUPLE | SOURCE_HASH => return by_table(hash, version_slot, version),
        ROUND_ROBIN => {
            // SAFETY: a live array element.
            let turn = unsafe { atomic::add(TURNS.get_ptr_mut(version_slot)?, 1) };
            let place = round_robin_place(turn, version.weight_total, version.weight_stride)?;
            search(place, version_slot, version.endpoint_count)
        }
        LEAST_CONNECTIONS => least(hash, version_slot, version.endpoint_count)?,
        _ => return None,
    };
    endpoint_index(version_slot, position, version.endpoint_count)
}

/// The first endpoint whose weight, with those before it, reaches beyond `place`.
#[inline(always)]
fn search(place: u32, version_slot: u32, count: u32) -> u32 {
    let (mut low, mut high) = (0, count);
    for _ in 0..SEARCH_STEPS {
        if low >= high {
            break;
        }
        let middle = (low + high) / 2;
        let reaches = endpoint_index(version_slot, middle, count)
            .and_then(|index| ENDPOINTS.get(index))
            .is_some_and(|endpoint| endpoint.cumulative > place);
        if reaches {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    low
}

/// A search for the least loaded endpoint.
struct Least {
    version_slot: u32,
    count: u32,
    /// Where the search begins: among equals, the first met is taken.
    first: u32,
    position: u32,
    load: u64,
    weight: u32,
}

#[inline(always)]
fn least(hash: u32, version_slot: u32, count: u32) -> Option<u32> {
    if count == 0 {
        return None;
    }
    let mut search =
        Least { version_slot, count, first: hash % count, position: u32::MAX, load: 0, weight: 0 };
    // A loop helper, so that the verifier looks at one round and not at all of them.
    // SAFETY: the callback has the signature that the helper calls, and `search` outlives the call.
    unsafe { bpf_loop(count, compare as *mut c_void, addr_of_mut!(search).cast(), 0) };
    if search.position == u32::MAX { None } else { Some(search.position) }
}

extern "C" fn compare(round: u32, search: *mut Least) -> i64 {
    // SAFETY: the pointer given to bpf_loop above.
    let search = unsafe { &mut *search };
    let position = search.first.wrapping_add(round);
    let position = if position >= search.count { position - search.count } else { position };
    let Some(index) = endpoint_index(search.version_slot, position, search.count) else {
        return 1;
    };
    let Some(endpoint) = ENDPOINTS.get(index) else {
        return 1;
    };
    let Some(load) = TARGET_LOADS.get_ptr(endpoint.target) else {
        return 0;
    };
    // SAFETY: a live array element.
    let load = unsafe { load.read_volatile() };
    if search.position == u32::MAX || less_loaded(load, endpoint.weight, search.load, search.weight) {
        search.position = position;
        search.load = load;
        search.weight = endpoint.weight;
    }
    0
}
