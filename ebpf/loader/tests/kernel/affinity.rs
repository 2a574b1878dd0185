//! Choices that clients keep, on a standby and over time.

use std::time::Duration;

use lockstep_abi::map as names;
use lockstep_abi::service::{AffinityKey, AffinityValue, PositionKey};
use lockstep_loader::KernelInstant;
use lockstep_model::ids::Revision;
use lockstep_model::image::Image;
use lockstep_model::intent::Affinity;

use crate::apply::again;
use crate::bed::{Bed, TCP_SERVICE, image, record, upsert, version};

fn with_affinity() -> Image {
    let mut image = image();
    image.services[0].affinity =
        Some(Affinity { prefix4: 24, prefix6: 64, timeout: Duration::from_secs(60) });
    image
}

fn choices(bed: &Bed) -> Vec<(AffinityKey, AffinityValue)> {
    bed.entries_of(names::AFFINITY)
}

fn positions(bed: &Bed) -> Vec<(u64, u32)> {
    let mut found: Vec<_> = bed
        .entries_of::<PositionKey, u32>(names::POSITIONS)
        .into_iter()
        .map(|(key, position)| (key.endpoint, position))
        .collect();
    found.sort_unstable();
    found
}

#[test]
fn a_standby_learns_choices_from_records() {
    let bed = Bed::new(1024);
    let mut dataplane = bed.open();
    again(&mut dataplane, &with_affinity());
    assert_eq!(positions(&bed), [(111, 0), (112, 1), (113, 2)]);
    let table = dataplane.flows();
    table.write(&[upsert(record(1, version(1, 0)), 40)]);
    let (key, value) = choices(&bed)[0];
    assert_eq!((key.service, key.client[0].to_ne_bytes()), (TCP_SERVICE.get(), [198, 18, 0, 0]));
    assert_eq!(value.endpoint, 112);

    // A later flow of the same network chose anew.
    table.write(&[upsert(record(2, version(2, 0)), 40)]);
    assert_eq!((choices(&bed).len(), choices(&bed)[0].1.endpoint), (1, 113));
    // A change of a flow that was here is no choice.
    table.write(&[upsert(record(1, version(1, 1)), 40)]);
    assert_eq!(choices(&bed)[0].1.endpoint, 113);
}

#[test]
fn choices_end_with_their_time_and_with_their_service() {
    let bed = Bed::new(1024);
    let mut dataplane = bed.open();
    again(&mut dataplane, &with_affinity());
    dataplane
        .flows()
        .write(&[upsert(record(1, version(1, 0)), 40), upsert(record(3_000_001, version(1, 0)), 40)]);
    assert_eq!(choices(&bed).len(), 2);
    let mut sweeper = dataplane.sweeper();
    let now = KernelInstant::now();
    assert_eq!(sweeper.step(now.plus(Duration::from_secs(50)), 4096).unwrap().forgotten, 0);
    let mut stale = bed.hash::<AffinityKey, AffinityValue>(names::AFFINITY);
    let (key, value) = choices(&bed)[0];
    stale.insert(key, AffinityValue { seen_ns: now.0 - 61_000_000_000, ..value }, 0).unwrap();
    let mut forgotten = 0;
    for _ in 0..100 {
        forgotten += sweeper.step(KernelInstant::now().plus(Duration::from_secs(1)), 4096).unwrap().forgotten;
    }
    assert_eq!((forgotten, choices(&bed).len()), (1, 1));

    let mut without = image();
    without.services[0].revision = Revision(31);
    again(&mut dataplane, &without);
    assert_eq!(positions(&bed), vec![], "those of the version that is gone");
    let late = KernelInstant::now().plus(Duration::from_secs(20));
    let mut sweeper = dataplane.sweeper();
    let forgotten: u64 = (0..10).map(|_| sweeper.step(late, 4096).unwrap().forgotten).sum();
    assert_eq!((forgotten, choices(&bed).len()), (1, 0));
}
