//! Services.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use proptest::collection::{btree_set, vec};
use proptest::option;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};

use super::health::health_check;
use super::{address, group_name, service_name};
use crate::intent::{
    Affinity, Algorithm, EndpointSpec, EndpointState, Limits, Mode, OnMiss, PortRange, Prefix, Probe,
    ServiceSpec, SyncPolicy, Timeouts,
};
use crate::protocol::{Family, Protocol};

/// A service that is valid by itself.
pub fn service_spec() -> impl Strategy<Value = ServiceSpec> {
    let head = (service_name(), group_name(), btree_set(address(), 1..3), ports());
    let protocols = subsequence(Protocol::ALL.to_vec(), 1..=4);
    let choice = (algorithm(), option::weighted(0.3, affinity()), on_miss());
    let forwarding = (mode(), btree_set(address(), 0..3), any::<bool>());
    let sync = prop_oneof![
        select(vec![SyncPolicy::Immediate, SyncPolicy::Established, SyncPolicy::None]),
        (100_u64..=60_000).prop_map(|ms| SyncPolicy::After(Duration::from_millis(ms))),
    ];
    let slow_start = option::weighted(0.3, (1_u64..900_000).prop_map(Duration::from_millis));
    let times = (timeouts(), slow_start, option::weighted(0.5, health_check().prop_map(Box::new)));
    let bounds = (vec(source(), 0..3), limits());
    (head, protocols, choice, forwarding, sync, times, bounds, vec(endpoint_spec(), 0..5)).prop_map(
        |(head, protocol, choice, forwarding, sync, times, bounds, endpoints)| {
            let (name, group, vip, port) = head;
            let (algorithm, affinity, on_miss) = choice;
            let (mode, snat_pool, every_address) = forwarding;
            let (timeouts, slow_start, health) = times;
            let (mut sources, limits) = bounds;
            sources.sort_unstable();
            sources.dedup();
            let every_address = every_address && mode == Mode::HostOneArm;
            valid(ServiceSpec {
                name,
                group,
                vip: if every_address { Vec::new() } else { vip.into_iter().collect() },
                port,
                protocol,
                algorithm,
                affinity,
                mode,
                snat_pool: snat_pool.into_iter().collect(),
                timeouts,
                sync,
                on_miss,
                sources,
                limits,
                slow_start,
                health,
                endpoints,
            })
        },
    )
}

/// Takes away what does not go together.
fn valid(mut spec: ServiceSpec) -> ServiceSpec {
    if spec.protocol.contains(&Protocol::Icmp) {
        spec.port = if spec.protocol.len() == 1 { PortRange::NONE } else { PortRange::ANY };
    }
    if spec.protocol.contains(&Protocol::Icmp) || spec.mode.is_dsr() {
        spec.endpoints.iter_mut().for_each(|e| e.address.set_port(0));
    }
    if let Some(health) = &mut spec.health
        && health.probe != Probe::Icmp
        && !spec.port.is_single()
        && spec.endpoints.iter().any(|e| e.address.port() == 0)
    {
        health.port = health.port.max(1);
    }
    if spec.on_miss == OnMiss::Recover && !spec.algorithm.is_hash() {
        spec.on_miss = OnMiss::Drop;
    }
    let (vips, mode) = (spec.vip.clone(), spec.mode);
    let served = |endpoint: &EndpointSpec| {
        let family = Family::of(endpoint.address.ip());
        vips.is_empty() || vips.iter().any(|vip| mode.carries(Family::of(*vip), family))
    };
    spec.endpoints.retain(served);
    spec.endpoints.sort_by_key(|e| e.address);
    spec.endpoints.dedup_by_key(|e| e.address);
    let pooled = |e: &EndpointSpec| spec.snat_pool.iter().any(|a| a.is_ipv4() == e.address.is_ipv4());
    if spec.mode != Mode::Fullnat || !spec.endpoints.iter().all(pooled) {
        spec.snat_pool.clear();
    }
    spec
}

fn ports() -> impl Strategy<Value = PortRange> {
    let range = |first, last| PortRange { first, last };
    select(vec![
        PortRange::single(80),
        PortRange::single(443),
        range(400, 500),
        range(1000, 1999),
        PortRange::ANY,
    ])
}

fn algorithm() -> impl Strategy<Value = Algorithm> {
    select(vec![
        Algorithm::Maglev,
        Algorithm::RoundRobin,
        Algorithm::WeightedRoundRobin,
        Algorithm::SourceHash,
        Algorithm::LeastConnections,
    ])
}

fn mode() -> impl Strategy<Value = Mode> {
    prop_oneof![
        3 => Just(Mode::Nat),
        4 => select(vec![Mode::Fullnat, Mode::OneArm, Mode::HostOneArm]),
        2 => select(vec![Mode::DsrL2, Mode::DsrIpip, Mode::DsrGue]),
    ]
}

fn on_miss() -> impl Strategy<Value = OnMiss> {
    select(vec![OnMiss::Recover, OnMiss::Drop, OnMiss::Reset])
}

/// Whole seconds or not, but nothing finer than milliseconds.
fn time() -> impl Strategy<Value = Duration> {
    prop_oneof![1_000_u64..=2_592_000_000, (1_u64..=720).prop_map(|hours| hours * 3_600_000)]
        .prop_map(Duration::from_millis)
}

fn affinity() -> impl Strategy<Value = Affinity> {
    (0_u8..=32, 0_u8..=128, time()).prop_map(|(prefix4, prefix6, timeout)| Affinity {
        prefix4,
        prefix6,
        timeout,
    })
}

fn timeouts() -> impl Strategy<Value = Timeouts> {
    prop_oneof![
        Just(Timeouts::default()),
        (time(), time(), time(), time(), time()).prop_map(|(established, syn, fin, udp, udp_stream)| {
            Timeouts { established, syn, fin, udp, udp_stream }
        }),
    ]
}

fn limits() -> impl Strategy<Value = Limits> {
    (option::of(1_u32..), option::of(1_u32..=10_000_000))
        .prop_map(|(connections, new_per_second)| Limits { connections, new_per_second })
}

fn source() -> impl Strategy<Value = Prefix> {
    let known = ["0.0.0.0/0", "::/0", "198.51.100.0/24", "2001:db8:7::/48"];
    select(known.to_vec()).prop_map(|text| text.parse().expect("they are prefixes"))
}

/// An endpoint that is valid by itself, in a service of its family, without ICMP, that translates.
pub fn endpoint_spec() -> impl Strategy<Value = EndpointSpec> {
    let state = select(vec![EndpointState::Active, EndpointState::Drain, EndpointState::Disabled]);
    let address = prop_oneof![
        3 => (11_u8..16).prop_map(|host| IpAddr::from([10, 0, 0, host])),
        1 => (11_u16..16).prop_map(|host| IpAddr::from([0xfd00, 0, 0, 0, 0, 0, 0, host])),
    ];
    let port = prop_oneof![3 => 8080_u16..8083, 1 => Just(0)];
    (address, port, 0_u16..=1000, state, any::<bool>()).prop_map(|(address, port, weight, state, backup)| {
        EndpointSpec { address: SocketAddr::new(address, port), weight, state, backup }
    })
}
