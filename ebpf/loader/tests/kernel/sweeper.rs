//! Ageing, with the takeover moved into the past instead of waiting for it.

use std::time::Duration;

use lockstep_abi::lease::LeaseValue;
use lockstep_abi::map as names;
use lockstep_abi::{state, timeout};
use lockstep_loader::{Dataplane, KernelInstant, LeaseUntil, Sweeper, Swept};
use lockstep_model::flow::{FlowChange, FlowRecord, FlowState};
use lockstep_model::ids::Epoch;

use crate::bed::{Bed, GROUP, eventually, record, upsert, version};

/// A half-open flow, idle for longer than it may be.
fn idle(client: u32) -> FlowRecord {
    FlowRecord {
        state: FlowState::New,
        state_bits: state::NEW | state::SEEN,
        remaining: Duration::ZERO,
        ..record(client, version(7, 2))
    }
}

fn own(bed: &Bed, dataplane: &Dataplane, takeover: Duration) {
    dataplane.lease_writer().set(GROUP, Epoch(40), LeaseUntil::Unbounded).unwrap();
    let mut leases =
        aya::maps::Array::<_, LeaseValue>::try_from(aya::maps::Map::Array(bed.map(names::LEASES))).unwrap();
    let (slot, mut lease) =
        (0..).zip(leases.iter().map(Result::unwrap)).find(|(_, lease)| lease.group == GROUP.get()).unwrap();
    lease.since_ns = KernelInstant::now().0 - takeover.as_nanos() as u64;
    leases.set(slot, lease, 0).unwrap();
}

fn pass(sweeper: &mut Sweeper) -> Swept {
    let mut total = Swept::default();
    loop {
        let step = sweeper.step(KernelInstant::now(), 100).unwrap();
        total.removed.extend(step.removed);
        total.ended += step.ended;
        total.freed += step.freed;
        total.examined += step.examined;
        if step.live.is_some() {
            total.live = step.live;
            return total;
        }
    }
}

#[test]
fn an_idle_flow_ends_in_two_steps() {
    let bed = Bed::new(1024);
    let dataplane = bed.serving();
    let busy = record(2, version(7, 2));
    dataplane.flows().write(&[upsert(idle(1), 40), upsert(busy.clone(), 40)]);
    own(&bed, &dataplane, Duration::from_secs(60));
    let mut sweeper = dataplane.sweeper();

    let first = pass(&mut sweeper);
    let told = FlowChange::Remove { key: idle(1).key, group: GROUP, version: version(7, 3) };
    assert_eq!(first.removed, [told]);
    assert_eq!((first.ended, first.freed, first.examined, first.live), (1, 0, 4, Some(2)));
    assert_eq!(dataplane.flows().count().unwrap(), 1, "a dead flow is nobody's any more");
    assert_eq!(pass(&mut sweeper).freed, 0, "but its memory is not given away yet");

    let started = KernelInstant::now();
    let freed = eventually("freed flow", || Some(pass(&mut sweeper)).filter(|swept| swept.freed > 0));
    assert!(KernelInstant::now().since(started) >= Duration::from_nanos(timeout::DEAD_NS) / 2);
    assert_eq!((freed.freed, freed.removed.len()), (1, 0));
    assert_eq!(pass(&mut sweeper).examined, 2);
}

#[test]
fn a_standby_ages_nothing() {
    let bed = Bed::new(1024);
    let dataplane = bed.serving();
    dataplane.flows().write(&[upsert(idle(1), 40)]);
    assert_eq!(pass(&mut dataplane.sweeper()).ended, 0);
    assert_eq!(dataplane.flows().count().unwrap(), 1);
}

#[test]
fn age_counts_from_the_takeover() {
    let bed = Bed::new(1024);
    let dataplane = bed.serving();
    dataplane.flows().write(&[upsert(idle(1), 40)]);
    own(&bed, &dataplane, Duration::from_secs(3));
    assert_eq!(pass(&mut dataplane.sweeper()).ended, 0, "idle for three seconds here, and ten are allowed");
    own(&bed, &dataplane, Duration::from_secs(11));
    assert_eq!(pass(&mut dataplane.sweeper()).ended, 1);
}
