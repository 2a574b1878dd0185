//! What a version of a service says, for one family.

use std::collections::HashMap;
use std::net::IpAddr;

use lockstep_abi::map as names;
use lockstep_abi::service::{
    AFFINITY, DSR_GUE, DSR_IPIP, DSR_L2, Endpoint, FULLNAT, LEAST_CONNECTIONS, MAGLEV, MISS_DROP,
    MISS_RECOVER, MISS_RESET, NAT, RAMPS, ROUND_ROBIN, SNAT_ADDRESSES, SOURCE_HASH, SOURCES,
    SYNC_ESTABLISHED, SYNC_IMMEDIATE, SYNC_NONE, ServiceVersion,
};
use lockstep_model::ids::EndpointId;
use lockstep_model::image::{EndpointImage, ServiceImage};
use lockstep_model::intent::{Algorithm, Mode, OnMiss, Prefix, SyncPolicy};
use lockstep_model::protocol::Family;
use lockstep_model::{maglev, schedule};

use super::Apply;
use crate::family::{number, wide};
use crate::targets::{NO_SOURCE, Targets};

const SECOND_NS: u64 = 1_000_000_000;
/// New flows may come in a burst of as many as the rate allows in this time.
const BURST_NS: u64 = SECOND_NS / 10;

/// A version, as it is to be published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Version {
    pub(super) header: ServiceVersion,
    pub(super) endpoints: Vec<Endpoint>,
    weights: Vec<(EndpointId, u16)>,
    /// Who may connect, if not everybody.
    pub(super) sources: Vec<Prefix>,
}

impl Version {
    /// The packed table of an algorithm that hashes; empty where there is none.
    pub(super) fn maglev(&self) -> Vec<u64> {
        match self.header.algorithm {
            MAGLEV | SOURCE_HASH if !self.weights.is_empty() => {
                pack(&maglev::table(&self.weights, names::MAGLEV_SLOTS as usize))
            }
            _ => Vec::new(),
        }
    }

    /// Whether what is published says the same; the Maglev table is a function of the endpoints.
    pub(super) fn is(&self, header: &ServiceVersion, endpoints: &[Endpoint]) -> bool {
        self.header == *header && self.endpoints == endpoints
    }
}

/// What else a version depends on.
pub(super) struct Context<'a> {
    pub(super) family: Family,
    pub(super) targets: &'a Targets,
    /// Indexes of the addresses that flows may leave with.
    pub(super) snat: Vec<u32>,
    pub(super) now_ns: u64,
}

/// A service's version for the endpoints that take its new flows.
/// `before`: the endpoints of the version that is published now.
pub(super) fn version(service: &ServiceImage, before: &[Endpoint], context: &Context<'_>) -> Version {
    let taking = service.eligible_for(context.family);
    let taking = &taking[..taking.len().min(names::MAX_ENDPOINTS as usize)];
    let turns = Turns::new(service.algorithm, taking);
    let endpoints = endpoints(service, taking, &turns, before, context);
    Version {
        header: header(service, &endpoints, &turns, context),
        weights: taking.iter().map(|e| (e.id, e.weight)).collect(),
        sources: service.sources.iter().filter(|p| p.family() == context.family).copied().collect(),
        endpoints,
    }
}

fn header(
    service: &ServiceImage,
    endpoints: &[Endpoint],
    turns: &Turns,
    context: &Context<'_>,
) -> ServiceVersion {
    let mut flags = 0;
    let (mut affinity_mask, mut affinity_ns) = ([0; 4], 0);
    if let Some(affinity) = &service.affinity {
        flags |= AFFINITY;
        affinity_mask = match context.family {
            Family::V4 => mask(Family::V4, affinity.prefix4),
            Family::V6 => mask(Family::V6, affinity.prefix6),
        };
        affinity_ns = affinity.timeout.as_nanos() as u64;
    }
    if !service.sources.is_empty() {
        flags |= SOURCES;
    }
    if endpoints.iter().any(|endpoint| endpoint.ramp_ns > 0) {
        flags |= RAMPS;
    }
    let rate_interval_ns =
        service.limits.new_per_second.map_or(0, |rate| (SECOND_NS / u64::from(rate.max(1))).max(1));
    let mut snat = [0; SNAT_ADDRESSES];
    let snat_count = context.snat.len().min(SNAT_ADDRESSES);
    snat[..snat_count].copy_from_slice(&context.snat[..snat_count]);
    ServiceVersion {
        service: service.id.get(),
        revision: service.revision.get(),
        algorithm: match service.algorithm {
            Algorithm::Maglev => MAGLEV,
            Algorithm::RoundRobin | Algorithm::WeightedRoundRobin => ROUND_ROBIN,
            Algorithm::SourceHash => SOURCE_HASH,
            Algorithm::LeastConnections => LEAST_CONNECTIONS,
        },
        endpoint_count: endpoints.len() as u32,
        sync: match service.sync {
            // The kernel tells of every flow; replication keeps those that are too young.
            SyncPolicy::Immediate | SyncPolicy::After(_) => SYNC_IMMEDIATE,
            SyncPolicy::None => SYNC_NONE,
            SyncPolicy::Established => SYNC_ESTABLISHED,
        },
        mode: match service.mode {
            Mode::Nat => NAT,
            Mode::Fullnat | Mode::OneArm | Mode::HostOneArm => FULLNAT,
            Mode::DsrL2 => DSR_L2,
            Mode::DsrIpip => DSR_IPIP,
            Mode::DsrGue => DSR_GUE,
        },
        flags,
        on_miss: match service.on_miss {
            OnMiss::Drop => MISS_DROP,
            OnMiss::Recover => MISS_RECOVER,
            OnMiss::Reset => MISS_RESET,
        },
        weight_total: turns.total,
        weight_stride: turns.stride,
        affinity_mask,
        affinity_ns,
        connection_limit: service.limits.connections.map_or(0, u64::from),
        rate_interval_ns,
        // One flow may always come when it is due.
        rate_burst_ns: if rate_interval_ns == 0 { 0 } else { BURST_NS.max(rate_interval_ns) },
        snat_count: snat_count as u32,
        family: number(context.family),
        snat,
    }
}

fn endpoints(
    service: &ServiceImage,
    taking: &[EndpointImage],
    turns: &Turns,
    before: &[Endpoint],
    context: &Context<'_>,
) -> Vec<Endpoint> {
    let before: HashMap<u64, &Endpoint> = before.iter().map(|e| (e.id, e)).collect();
    // Who takes flows already. If nobody does, the newcomers have to take them all.
    let others = taking.iter().any(|endpoint| before.contains_key(&endpoint.id.get()));
    let ramp = |id: u64| {
        let whole = service.slow_start.map_or(0, |time| time.as_nanos() as u64);
        let start = before.get(&id).map_or(context.now_ns, |e| e.ramp_start_ns);
        let warming = before.get(&id).is_none_or(|e| e.ramp_ns > 0);
        let over = context.now_ns.saturating_sub(start) >= whole;
        if others && warming && !over { (start, whole) } else { (0, 0) }
    };
    taking
        .iter()
        .zip(&turns.cumulative)
        .map(|(endpoint, cumulative)| {
            let (ramp_start_ns, ramp_ns) = ramp(endpoint.id.get());
            Endpoint {
                id: endpoint.id.get(),
                address: wide(endpoint.address.ip()),
                port_be: endpoint.address.port().to_be(),
                family: number(Family::of(endpoint.address.ip())) as u16,
                target: context.targets.index(endpoint.id.get()).into(),
                weight: endpoint.weight.into(),
                cumulative: *cumulative,
                ramp_start_ns,
                ramp_ns,
            }
        })
        .collect()
}

/// Round robin's line of weights, in its smallest whole numbers.
struct Turns {
    cumulative: Vec<u32>,
    total: u32,
    stride: u32,
}

impl Turns {
    fn new(algorithm: Algorithm, taking: &[EndpointImage]) -> Self {
        let plain = algorithm == Algorithm::RoundRobin;
        let weights: Vec<u16> = taking.iter().map(|e| if plain { 1 } else { e.weight }).collect();
        let common = weights.iter().copied().fold(0, gcd).max(1);
        let weights: Vec<u16> = weights.iter().map(|weight| weight / common).collect();
        // Equal ones simply follow each other.
        let equal = weights.iter().all(|weight| *weight == 1);
        match schedule::weighted(&weights) {
            None => Self { cumulative: vec![0; weights.len()], total: 0, stride: 0 },
            Some(found) => Self {
                cumulative: found.cumulative,
                total: found.total,
                stride: if equal { 1 } else { found.stride },
            },
        }
    }
}

const fn gcd(mut a: u16, mut b: u16) -> u16 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

/// The first `length` bits, as addresses lie where both families do.
pub(super) fn mask(family: Family, length: u8) -> [u32; 4] {
    wide(match family {
        Family::V4 => {
            let bits = u32::MAX.checked_shl(32 - u32::from(length.min(32))).unwrap_or(0);
            IpAddr::V4(bits.into())
        }
        Family::V6 => {
            let bits = u128::MAX.checked_shl(128 - u32::from(length.min(128))).unwrap_or(0);
            IpAddr::V6(bits.into())
        }
    })
}

/// Four positions to a word, the first in the lowest bits.
fn pack(table: &[u16]) -> Vec<u64> {
    table
        .chunks(4)
        .map(|four| four.iter().rev().fold(0, |word, position| word << 16 | u64::from(*position)))
        .collect()
}

impl Apply<'_> {
    /// Indexes of the addresses that a service's flows of one family may leave with, the best first.
    pub(super) fn snat_of(&mut self, service: &ServiceImage, family: Family) -> Vec<u32> {
        if service.mode.is_dsr() {
            let known = self.maps.targets.known();
            let mut sources: Vec<u32> = service
                .eligible_for(family)
                .iter()
                .filter_map(|endpoint| Some(known.value(endpoint.id.get())?.outer_source))
                .filter(|index| *index != NO_SOURCE)
                .collect();
            sources.dedup();
            sources.truncate(SNAT_ADDRESSES);
            return sources;
        }
        let mut addresses: Vec<IpAddr> =
            service.snat.iter().filter(|address| Family::of(**address) == family).copied().collect();
        if matches!(service.mode, Mode::OneArm | Mode::HostOneArm) {
            let endpoints: Vec<IpAddr> = service.endpoints.iter().map(|e| e.address.ip()).collect();
            let beside = |address: &IpAddr| endpoints.iter().any(|to| self.is_beside(*address, *to));
            // What is not in an endpoints' network comes back only by a route: better than nothing.
            addresses.sort_by_key(|address| (!beside(address), *address));
            if let Some(first) = addresses.iter().position(|address| !beside(address)).filter(|n| *n > 0) {
                addresses.truncate(first);
            }
        }
        let indexes: Vec<u32> =
            addresses.iter().filter_map(|address| Some(self.addresses.get(address)?.index)).collect();
        if indexes.len() > SNAT_ADDRESSES {
            self.report.warnings.push(format!(
                "service {}: of {} {family} addresses to translate to, the first {SNAT_ADDRESSES} are used",
                service.name,
                indexes.len()
            ));
        }
        indexes
    }
}

#[cfg(test)]
mod tests;
