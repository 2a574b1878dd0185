//! What the sweeper's pass counts: flows by endpoint and service, and source ports.

use std::net::IpAddr;
use std::time::Duration;

use lockstep_abi::service::ServiceLoad;
use lockstep_abi::{map as names, state};
use lockstep_loader::{BlockUsage, KernelInstant, Sweeper};
use lockstep_model::flow::{FlowRecord, FlowState, WriteOutcome};

use crate::apply::{again, array};
use crate::bed::{Bed, FLOATING, eventually, image_of_both, record, record6, upsert, version};
use crate::sweeper::pass;

/// What endpoints have, in order.
fn targets(bed: &Bed) -> Vec<u64> {
    let loads = array::<u64>(bed, names::TARGET_LOADS);
    let mut counts: Vec<u64> = loads.iter().map(Result::unwrap).filter(|count| *count > 0).collect();
    counts.sort_unstable();
    counts
}

/// What services have.
fn services(bed: &Bed) -> Vec<ServiceLoad> {
    let loads = array::<ServiceLoad>(bed, names::SERVICE_LOADS);
    loads.iter().map(Result::unwrap).filter(|load| *load != ServiceLoad::default()).collect()
}

#[test]
fn a_pass_sets_the_counts_right() {
    let bed = Bed::new(1024);
    let mut dataplane = bed.open();
    again(&mut dataplane, &image_of_both());
    let ops: Vec<_> = (0..7)
        .map(|client| upsert(record(client, version(1, 0)), 40))
        .chain((0..2).map(|client| upsert(record6(client, version(1, 0)), 40)))
        .collect();
    assert!(dataplane.flows().write(&ops).iter().all(|outcome| *outcome == WriteOutcome::Applied));
    let mut sweeper = dataplane.sweeper();
    pass(&mut sweeper);
    assert_eq!(targets(&bed), [1, 1, 2, 2, 3], "seven over three endpoints, two over others");
    assert_eq!(services(&bed), [ServiceLoad { connections: 9, arrival_ns: 0 }]);

    // What the programs keep beside it stays.
    let mut loads = array::<ServiceLoad>(&bed, names::SERVICE_LOADS);
    let slot = loads.iter().position(|load| load.unwrap().connections == 9).unwrap() as u32;
    loads.set(slot, ServiceLoad { connections: 1234, arrival_ns: 99 }, 0).unwrap();
    array::<u64>(&bed, names::TARGET_LOADS).set(1, 1234, 0).unwrap();
    pass(&mut sweeper);
    assert_eq!(services(&bed), [ServiceLoad { connections: 9, arrival_ns: 99 }]);
    assert_eq!(targets(&bed), [1, 1, 2, 2, 3]);
    dataplane.flows().purge(crate::bed::GROUP).unwrap();
    pass(&mut sweeper);
    assert_eq!(targets(&bed), Vec::<u64>::new());
}

#[test]
fn i13_a_pass_counts_no_connection_that_has_ended() {
    let bed = Bed::new(1024);
    let mut dataplane = bed.open();
    again(&mut dataplane, &image_of_both());
    let closed = state::CLOSED | state::SEEN | state::SEEN << 1 | state::FIN | state::FIN << 1;
    let reset = |phase| state::RESET_PENDING | phase << state::BEFORE_RESET_SHIFT | state::RST;
    let of = |client, state, state_bits| {
        upsert(FlowRecord { state, state_bits, ..record(client, version(1, 0)) }, 40)
    };
    // All of one endpoint.
    let ops = [
        of(0, FlowState::Established, state::ESTABLISHED),
        of(3, FlowState::Closing, state::CLOSING | state::FIN),
        of(6, FlowState::ResetPending, reset(state::ESTABLISHED)),
        of(9, FlowState::Closed, closed),
        of(12, FlowState::ResetPending, reset(state::CLOSED)),
    ];
    assert!(dataplane.flows().write(&ops).iter().all(|outcome| *outcome == WriteOutcome::Applied));
    let swept = pass(&mut dataplane.sweeper());
    assert_eq!(swept.live, Some(5));
    assert_eq!(targets(&bed), [3]);
    assert_eq!(services(&bed), [ServiceLoad { connections: 3, arrival_ns: 0 }]);
}

/// A pass during which something else happens.
fn pass_while(sweeper: &mut Sweeper, meanwhile: impl FnOnce()) {
    // The step that begins a pass never ends it: the other family is still to come.
    eventually("pass", || {
        Some(sweeper.step(KernelInstant::now(), 100).unwrap()).filter(|step| step.examined > 0)
    });
    meanwhile();
    pass(sweeper);
}

#[test]
fn i13_counts_that_move_are_left_to_the_programs_for_eight_passes() {
    let bed = Bed::new(1024);
    let mut dataplane = bed.open();
    again(&mut dataplane, &image_of_both());
    let ops: Vec<_> = (0..3).map(|client| upsert(record(client, version(1, 0)), 40)).collect();
    assert!(dataplane.flows().write(&ops).iter().all(|outcome| *outcome == WriteOutcome::Applied));
    let mut sweeper = dataplane.sweeper();
    pass(&mut sweeper);
    assert_eq!(targets(&bed), [1, 1, 1]);

    let mut of_targets = array::<u64>(&bed, names::TARGET_LOADS);
    let mut of_services = array::<ServiceLoad>(&bed, names::SERVICE_LOADS);
    let busy = of_targets.iter().position(|load| load.unwrap() == 1).unwrap() as u32;
    let slot = of_services.iter().position(|load| load.unwrap().connections == 3).unwrap() as u32;
    for round in 1..=20 {
        // What stands still is set right in every pass.
        of_targets.set(busy + 1, 1000, 0).unwrap();
        pass_while(&mut sweeper, || {
            of_targets.set(busy, 100 + round, 0).unwrap();
            of_services.set(slot, ServiceLoad { connections: 300 + round, arrival_ns: round }, 0).unwrap();
        });
        let patient = round % 9 != 0;
        let expected = if patient { (100 + round, 300 + round) } else { (1, 3) };
        let found = (of_targets.get(&busy, 0).unwrap(), of_services.get(&slot, 0).unwrap());
        assert_eq!((found.0, found.1.connections), expected, "pass {round}");
        assert_eq!(found.1.arrival_ns, round, "the programs' own");
        assert_eq!(of_targets.get(&(busy + 1), 0).unwrap(), 1);
    }
    pass(&mut sweeper);
    assert_eq!(targets(&bed), [1, 1, 1]);
    assert_eq!(services(&bed), [ServiceLoad { connections: 3, arrival_ns: 20 }]);
}

#[test]
fn ports_in_use_are_counted_by_block() {
    let bed = Bed::new(1024);
    let mut dataplane = bed.open();
    let mut image = image_of_both();
    image.groups[0].addresses[1].snat = true;
    image.groups[0].addresses[1].port_blocks = 0b101 << 32;
    again(&mut dataplane, &image);
    assert_eq!(dataplane.port_usage(), vec![], "nothing is known before the first pass");
    let from = |client, port| {
        let source = Some(std::net::SocketAddr::new(IpAddr::V4(FLOATING), port));
        upsert(FlowRecord { source, ..record(client, version(1, 0)) }, 40)
    };
    let ops = [
        from(1, 32768),
        from(2, 32768),
        from(3, 33000),
        from(4, 40000),
        upsert(record(5, version(1, 0)), 40),
    ];
    assert!(dataplane.flows().write(&ops).iter().all(|outcome| *outcome == WriteOutcome::Applied));
    let mut sweeper = dataplane.sweeper();
    pass(&mut sweeper);
    let usage = dataplane.port_usage();
    assert_eq!(usage.len(), 1);
    assert_eq!(
        (usage[0].address, usage[0].ports_used, usage[0].ports_total),
        (IpAddr::V4(FLOATING), 3, 2048)
    );
    let block = |block, allocated, ports_used| BlockUsage { block, allocated, ports_used };
    assert_eq!(usage[0].blocks, [block(32, true, 2), block(34, true, 0), block(39, false, 1)]);
}

#[test]
fn passes_over_small_tables_begin_when_it_is_time() {
    let bed = Bed::new(1_000_000);
    let dataplane = bed.serving();
    let mut sweeper = dataplane.sweeper();
    let start = KernelInstant::now();
    let mut now = start;
    let mut passes = 0;
    while now.since(start) < Duration::from_secs(10) {
        passes += u32::from(sweeper.step(now, 4096).unwrap().live.is_some());
        now = now.plus(Duration::from_millis(50));
    }
    // Four million entries: every two seconds.
    assert!((4..=6).contains(&passes), "{passes}");
}
