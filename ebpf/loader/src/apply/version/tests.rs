use std::time::Duration;

use lockstep_model::ids::{GroupId, Revision, ServiceId};
use lockstep_model::intent::{Affinity, AllDown, EndpointState, Limits, Timeouts};
use lockstep_model::protocol::Protocol;

use super::*;

fn endpoint(id: u64, weight: u16) -> EndpointImage {
    EndpointImage {
        id: EndpointId(id),
        address: format!("10.0.0.{id}:8080").parse().unwrap(),
        weight,
        state: EndpointState::Active,
        backup: false,
        down: false,
    }
}

fn service(algorithm: Algorithm, weights: &[u16]) -> ServiceImage {
    ServiceImage {
        id: ServiceId(20),
        name: "web".into(),
        revision: Revision(30),
        group: GroupId(10),
        frontends: vec![],
        protocols: vec![Protocol::Tcp],
        algorithm,
        mode: Mode::Nat,
        sync: SyncPolicy::Immediate,
        on_miss: OnMiss::Drop,
        affinity: None,
        timeouts: Timeouts::default(),
        sources: vec![],
        limits: Limits::default(),
        slow_start: None,
        all_down: Default::default(),
        snat: vec![],
        endpoints: (11..).zip(weights).map(|(id, weight)| endpoint(id, *weight)).collect(),
    }
}

fn build(service: &ServiceImage, before: &[Endpoint], now_ns: u64) -> Version {
    let targets = Targets::default();
    version(service, before, &Context { family: Family::V4, targets: &targets, snat: vec![], now_ns })
}

#[test]
fn packed_tables_read_as_the_programs_read_them() {
    let table: Vec<u16> = (0..names::MAGLEV_SLOTS).map(|slot| (slot * 7 % 1000) as u16).collect();
    let words = pack(&table);
    assert_eq!(words.len(), names::MAGLEV_WORDS as usize);
    for (slot, position) in table.iter().enumerate() {
        assert_eq!((words[slot / 4] >> (16 * (slot % 4))) as u16, *position);
    }
}

#[test]
fn masks_lie_as_addresses_do() {
    let bytes = |mask: [u32; 4]| mask.map(u32::to_ne_bytes).concat();
    assert_eq!(bytes(mask(Family::V4, 20))[..5], [255, 255, 240, 0, 0]);
    assert_eq!(bytes(mask(Family::V6, 36))[..6], [255, 255, 255, 255, 240, 0]);
    assert_eq!(mask(Family::V4, 0), [0; 4]);
    assert_eq!(mask(Family::V6, 128), [u32::MAX; 4]);
}

#[test]
fn turns_are_in_smallest_whole_weights() {
    let built = build(&service(Algorithm::WeightedRoundRobin, &[100, 100, 100]), &[], 0);
    assert_eq!((built.header.weight_total, built.header.weight_stride), (3, 1));
    let built = build(&service(Algorithm::WeightedRoundRobin, &[500, 100, 200]), &[], 0);
    assert_eq!((built.header.weight_total, built.header.weight_stride), (8, 5));
    let found: Vec<_> = built.endpoints.iter().map(|e| (e.weight, e.cumulative)).collect();
    assert_eq!(found, [(500, 5), (100, 6), (200, 8)]);
    let plain = build(&service(Algorithm::RoundRobin, &[500, 100, 200]), &[], 0);
    assert_eq!((plain.header.weight_total, plain.header.weight_stride), (3, 1));
    let nobody = build(&service(Algorithm::RoundRobin, &[0]), &[], 0);
    assert_eq!((nobody.header.endpoint_count, nobody.header.weight_total), (0, 0));
}

#[test]
fn an_endpoint_that_joins_others_warms_up() {
    let mut image = service(Algorithm::Maglev, &[1, 1]);
    image.slow_start = Some(Duration::from_nanos(100));
    let first = build(&image, &[], 1000);
    assert!(first.endpoints.iter().all(|e| e.ramp_ns == 0), "nobody was there before");

    image.endpoints.push(endpoint(13, 1));
    let second = build(&image, &first.endpoints, 2000);
    let ramps: Vec<_> = second.endpoints.iter().map(|e| (e.ramp_start_ns, e.ramp_ns)).collect();
    assert_eq!(ramps, [(0, 0), (0, 0), (2000, 100)]);
    assert_eq!(second.header.flags, RAMPS);
    // It goes on over later versions, until it is over.
    let third = build(&image, &second.endpoints, 2099);
    assert!(third.is(&second.header, &second.endpoints));
    let last = build(&image, &third.endpoints, 2100);
    assert_eq!((last.endpoints[2].ramp_ns, last.header.flags), (0, 0));
    // And does not begin again.
    assert!(build(&image, &last.endpoints, 2101).is(&last.header, &last.endpoints));

    image.endpoints = vec![endpoint(14, 1)];
    assert_eq!(build(&image, &last.endpoints, 3000).endpoints[0].ramp_ns, 0, "it has to take all flows");
}

#[test]
fn limits_and_affinity_in_the_kernels_units() {
    let mut image = service(Algorithm::SourceHash, &[1]);
    image.limits = Limits { connections: Some(7), new_per_second: Some(1000) };
    image.affinity = Some(Affinity { prefix4: 24, prefix6: 64, timeout: Duration::from_secs(2) });
    image.sources = vec!["2001:db8::/32".parse().unwrap()];
    let built = build(&image, &[], 0);
    let header = built.header;
    assert_eq!(
        (header.connection_limit, header.rate_interval_ns, header.rate_burst_ns),
        (7, 1_000_000, 100_000_000)
    );
    assert_eq!((header.affinity_mask, header.affinity_ns), (mask(Family::V4, 24), 2_000_000_000));
    assert_eq!(header.flags, AFFINITY | SOURCES, "nobody of this family may connect");
    assert_eq!((built.sources.len(), built.maglev().len()), (0, names::MAGLEV_WORDS as usize));

    image.limits.new_per_second = Some(2);
    let header = build(&image, &[], 0).header;
    assert_eq!(header.rate_burst_ns, header.rate_interval_ns, "one at least");
}

#[test]
fn backups_serve_where_no_primary_does() {
    let mut image = service(Algorithm::LeastConnections, &[1, 1]);
    image.endpoints[1].backup = true;
    assert_eq!(build(&image, &[], 0).endpoints[0].id, 11);
    image.endpoints[0].state = EndpointState::Drain;
    assert_eq!(build(&image, &[], 0).endpoints[0].id, 12);
}

#[test]
fn an_endpoint_that_is_down_takes_nothing_and_warms_up_when_it_is_back() {
    let mut image = service(Algorithm::Maglev, &[1, 1]);
    image.slow_start = Some(Duration::from_nanos(100));
    let before = build(&image, &[], 1000);
    image.endpoints[1].down = true;
    let without = build(&image, &before.endpoints, 2000);
    let ids: Vec<u64> = without.endpoints.iter().map(|e| e.id).collect();
    assert_eq!(ids, [11]);
    assert!(
        !without.is(&before.header, &before.endpoints),
        "it is published although the revision is the same"
    );
    image.endpoints[1].down = false;
    let back = build(&image, &without.endpoints, 3000);
    assert_eq!((back.endpoints[1].ramp_start_ns, back.endpoints[1].ramp_ns), (3000, 100));

    image.endpoints.iter_mut().for_each(|e| e.down = true);
    assert_eq!(build(&image, &[], 0).endpoints, []);
    image.all_down = AllDown::ServeAll;
    assert_eq!(build(&image, &[], 0).endpoints.len(), 2);
}
