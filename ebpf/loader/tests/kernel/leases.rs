//! Leases as the lease thread writes them and the kernel reads them.

use lockstep_abi::lease::LeaseValue;
use lockstep_abi::map as names;
use lockstep_loader::{KernelInstant, LeaseError, LeaseUntil};
use lockstep_model::ids::{Epoch, GroupId};

use crate::bed::{Bed, GROUP, image};

fn lease(bed: &Bed) -> LeaseValue {
    let leases =
        aya::maps::Array::<_, LeaseValue>::try_from(aya::maps::Map::Array(bed.map(names::LEASES))).unwrap();
    leases.iter().map(Result::unwrap).find(|lease| lease.group == GROUP.get()).unwrap()
}

fn in_ms(ms: u64) -> LeaseUntil {
    LeaseUntil::At(KernelInstant::now().plus(std::time::Duration::from_millis(ms)))
}

#[test]
fn a_lease_is_what_the_kernel_reads() {
    let bed = Bed::new(1024);
    let dataplane = bed.serving();
    let writer = dataplane.lease_writer();
    assert_eq!(writer.read(GROUP), None);
    assert!(!lease(&bed).is_held(KernelInstant::now().0));

    let before = KernelInstant::now().0;
    let until = in_ms(100);
    writer.set(GROUP, Epoch(40), until).unwrap();
    let first = lease(&bed);
    assert!(first.is_held(before));
    assert_eq!(writer.read(GROUP), Some((Epoch(40), until)));
    assert!(first.since_ns >= before);
    assert!(writer.is_held(GROUP, Epoch(40)));
    assert!(!writer.is_held(GROUP, Epoch(39)) && !writer.is_held(GroupId(99), Epoch(40)));
    writer.set(GROUP, Epoch(40), LeaseUntil::At(KernelInstant::now())).unwrap();
    assert!(!writer.is_held(GROUP, Epoch(40)), "over, although nobody has closed it");

    writer.set(GROUP, Epoch(40), in_ms(200)).unwrap();
    assert_eq!(lease(&bed).since_ns, first.since_ns, "an extension is no takeover");
    writer.close(GROUP).unwrap();
    assert!(!lease(&bed).is_held(KernelInstant::now().0));

    writer.set(GROUP, Epoch(41), in_ms(200)).unwrap();
    assert!(lease(&bed).since_ns > first.since_ns, "a new epoch is");
}

#[test]
fn a_sole_voters_lease_has_no_end_until_it_is_bounded() {
    let bed = Bed::new(1024);
    let dataplane = bed.serving();
    let writer = dataplane.lease_writer();
    writer.set(GROUP, Epoch(40), LeaseUntil::Unbounded).unwrap();
    let year = 365 * 24 * 3600 * 1_000_000_000;
    assert!(lease(&bed).is_held(KernelInstant::now().0 + year));
    writer.set(GROUP, Epoch(40), in_ms(100)).unwrap();
    assert!(lease(&bed).is_held(KernelInstant::now().0));
    assert!(!lease(&bed).is_held(KernelInstant::now().0 + 200_000_000));
}

#[test]
fn an_unknown_group_gets_no_lease() {
    let bed = Bed::new(1024);
    let mut dataplane = bed.serving();
    let writer = dataplane.lease_writer();
    for nobody in [GroupId(0), GroupId(99)] {
        assert_eq!(
            writer.set(nobody, Epoch(1), LeaseUntil::Unbounded),
            Err(LeaseError::UnknownGroup(nobody))
        );
    }
    writer.set(GROUP, Epoch(40), LeaseUntil::Unbounded).unwrap();
    dataplane.apply(&Default::default(), |_| true).unwrap();
    assert!(writer.set(GROUP, Epoch(40), LeaseUntil::Unbounded).is_err());
    // Whoever gets the slot next starts without a lease.
    dataplane.apply(&image(), |_| true).unwrap();
    assert_eq!(writer.read(GROUP), None);
}

#[test]
fn new_flows_are_refused_by_every_slot_until_they_are_let_in_or_the_daemon_starts_again() {
    let bed = Bed::new(1024);
    let mut dataplane = bed.serving();
    let writer = dataplane.lease_writer();
    writer.set(GROUP, Epoch(40), LeaseUntil::Unbounded).unwrap();
    assert_eq!(lease(&bed).frozen, 0);
    writer.refuse_new_flows(true);
    assert_eq!(lease(&bed).frozen, 1);
    assert!(lease(&bed).is_held(KernelInstant::now().0), "the lease is another matter");
    writer.set(GROUP, Epoch(41), LeaseUntil::Unbounded).unwrap();
    assert_eq!(lease(&bed).frozen, 1, "an epoch changes nothing about the intent");
    // A group that gets its slot meanwhile is under it too.
    dataplane.apply(&Default::default(), |_| true).unwrap();
    dataplane.apply(&image(), |_| true).unwrap();
    assert_eq!(lease(&bed).frozen, 1);
    writer.refuse_new_flows(false);
    assert_eq!(lease(&bed).frozen, 0);

    writer.refuse_new_flows(true);
    drop(dataplane);
    let _second = bed.open();
    assert_eq!(lease(&bed).frozen, 0);
}

#[test]
fn a_lease_survives_the_daemon() {
    let bed = Bed::new(1024);
    let dataplane = bed.serving();
    dataplane.lease_writer().set(GROUP, Epoch(40), LeaseUntil::Unbounded).unwrap();
    drop(dataplane);
    let mut second = bed.open();
    second.apply(&image(), |_| true).unwrap();
    assert_eq!(second.lease_writer().read(GROUP), Some((Epoch(40), LeaseUntil::Unbounded)));
}

#[test]
fn grace_periods_end() {
    lockstep_loader::wait_grace_period().unwrap();
}
