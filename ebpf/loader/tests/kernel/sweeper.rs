//! Ageing, with the takeover moved into the past instead of waiting for it.

use std::time::Duration;

use lockstep_abi::flow::{FlowKey4, FlowValue4, ORIGINAL, PATH_DEAD};
use lockstep_abi::lease::LeaseValue;
use lockstep_abi::map as names;
use lockstep_abi::{state, timeout};
use lockstep_loader::{Dataplane, KernelInstant, LeaseUntil, Sweeper, Swept};
use lockstep_model::flow::{FlowChange, FlowRecord, FlowState};
use lockstep_model::ids::Epoch;

use crate::bed::{Bed, GROUP, eventually, record, upsert, version};

/// A half-open flow, idle for longer than it may be.
pub(crate) fn idle(client: u32) -> FlowRecord {
    FlowRecord {
        state: FlowState::New,
        state_bits: state::NEW | state::SEEN,
        remaining: Duration::ZERO,
        ..record(client, version(7, 2))
    }
}

pub(crate) fn own(bed: &Bed, dataplane: &Dataplane, takeover: Duration) {
    dataplane.lease_writer().set(GROUP, Epoch(40), LeaseUntil::Unbounded).unwrap();
    let mut leases =
        aya::maps::Array::<_, LeaseValue>::try_from(aya::maps::Map::Array(bed.map(names::LEASES))).unwrap();
    let (slot, mut lease) =
        (0..).zip(leases.iter().map(Result::unwrap)).find(|(_, lease)| lease.group == GROUP.get()).unwrap();
    lease.since_ns = KernelInstant::now().0 - takeover.as_nanos() as u64;
    leases.set(slot, lease, 0).unwrap();
}

pub(crate) fn pass(sweeper: &mut Sweeper) -> Swept {
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

/// Leaves the only flow as a SYN does that has claimed it for a flow of its own and then could not make that.
fn claim(bed: &Bed) {
    let mut flows = bed.hash::<FlowKey4, FlowValue4>(names::FLOWS4);
    let entries: Vec<(FlowKey4, FlowValue4)> = flows.iter().map(Result::unwrap).collect();
    for (key, mut value) in entries {
        value.path = PATH_DEAD;
        if value.kind() == ORIGINAL {
            value.state = state::word(state::bits(value.state) | state::DEAD, state::n(value.state) + 1);
            value.last_seen_ns = KernelInstant::now().0 - timeout::DEAD_NS;
        }
        flows.insert(key, value, 0).unwrap();
    }
}

#[test]
fn i5_a_flow_that_a_packet_ended_is_told_when_it_is_freed() {
    let bed = Bed::new(1024);
    let dataplane = bed.serving();
    let flow = record(1, version(7, 2));
    dataplane.flows().write(&[upsert(flow.clone(), 40)]);
    own(&bed, &dataplane, Duration::from_secs(60));
    claim(&bed);

    let swept = pass(&mut dataplane.sweeper());
    let told = FlowChange::Remove { key: flow.key, group: GROUP, version: version(7, 3) };
    assert_eq!((swept.ended, swept.freed, swept.removed), (0, 1, vec![told]));
}

#[test]
fn i5_an_end_is_told_though_the_daemon_that_saw_it_has_ended() {
    let bed = Bed::new(1024);
    let dataplane = bed.serving();
    dataplane.flows().write(&[upsert(idle(1), 40)]);
    own(&bed, &dataplane, Duration::from_secs(60));
    let unheard = pass(&mut dataplane.sweeper());
    assert_eq!(unheard.ended, 1);

    let mut next = dataplane.sweeper();
    let freed = eventually("freed flow", || Some(pass(&mut next)).filter(|swept| swept.freed > 0));
    assert_eq!(freed.removed, unheard.removed);
}

#[test]
fn a_standby_frees_and_tells_nothing() {
    let bed = Bed::new(1024);
    let dataplane = bed.serving();
    dataplane.flows().write(&[upsert(idle(1), 40)]);
    claim(&bed);
    let swept = pass(&mut dataplane.sweeper());
    assert_eq!((swept.freed, swept.removed.len()), (1, 0));
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
