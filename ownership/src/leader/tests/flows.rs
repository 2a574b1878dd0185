//! Whom a group goes to when nodes know its flows differently well.

use super::*;

/// The owner lost power, its successor was killed as it took over, and both return at once: one with an empty kernel, the
/// other with all flows in its own, and no lease before its voters have waited.
#[test]
fn i5_an_empty_node_that_returns_does_not_take_the_group_from_one_that_kept_the_flows() {
    let mut b = taken_over();
    // The witness alone: nobody to move it to.
    assert_eq!(b.pass(2040, 3800, [None, None, Some(fit())]), []);
    let empty = |fitness| with(Flows::Never, Says { fitness, ..hears(9) });
    let kept = |fitness| with(Flows::Kept, Says { fitness, ..hears(9) });
    // The empty one is there first, and fit as soon as the other.
    let starting = empty(Err(Unfit::Starting));
    assert_eq!(b.pass(3840, 4040, [Some(with(Flows::Never, fit())), None, Some(fit())]), [], "it waits");
    let programming = kept(Err(Unfit::IntentNotApplied));
    assert_eq!(b.pass(4080, 4400, [Some(starting), Some(programming), Some(hears(9))]), []);
    let both = [Some(empty(Ok(()))), Some(kept(Ok(()))), Some(hears(9))];
    assert_eq!(b.pass(4440, 6040, both), [], "it is heard, and may have to wait for promises");
    let serves = Says { holds: Some(9), ..hears(9) };
    assert_eq!(b.pass(6080, 9000, [Some(empty(Ok(()))), Some(serves), Some(hears(9))]), []);
}

#[test]
fn an_empty_node_is_taken_when_the_one_with_the_flows_stays_away() {
    let mut b = taken_over();
    assert_eq!(b.pass(2040, 3000, [None, None, Some(fit())]), []);
    let assigned = b.pass(3040, 8000, [Some(with(Flows::Never, fit())), None, Some(fit())]);
    let (when, what) = assigned[0];
    assert_eq!(what, (9, 1, Cause::NotHeard));
    assert!((6040..6200).contains(&when), "three seconds since it could be taken: {when}");
}

#[test]
fn nobody_waits_for_flows_that_nobody_has() {
    let mut b = taken_over();
    let owner = Says { released: Some(9), ..with(Flows::Never, fit()) };
    let assigned = b.pass(2040, 3000, [Some(with(Flows::Never, fit())), Some(owner), Some(fit())]);
    assert_eq!(assigned[0], (2040, (9, 1, Cause::GivenBack)));
}

#[test]
fn i5_a_node_with_flows_is_taken_before_an_empty_one_even_if_it_failed_lately() {
    let mut b = served();
    // Node 1 fails, and is held down; node 2 takes over, and comes back from a loss of power with nothing.
    assert_eq!(b.pass(1040, 1240, [None, Some(fit()), Some(fit())])[0].1, (5, 2, Cause::NotHeard));
    assert!(b.leader.is_held_down(at(1240), NodeId(1)));
    b.owned(1240, 9, Some((9, 2)));
    let owner = Says { released: Some(9), ..with(Flows::Never, fit()) };
    let assigned = b.pass(1240, 1400, [Some(fit()), Some(owner), Some(fit())]);
    assert_eq!(assigned[0].1, (9, 1, Cause::GivenBack));
}

/// Both daemons were killed at once, and nobody asks for a lease before the voters have waited.
fn both_killed() -> Bench {
    let mut b = served();
    assert_eq!(b.pass(1040, 1400, [None, None, Some(fit())]), []);
    let starting = Says { fitness: Err(Unfit::Starting), ..kept() };
    assert_eq!(b.pass(1440, 2400, [Some(kept()), Some(starting), Some(fit())]), []);
    b
}

/// Its kernel kept flows.
fn kept() -> Says {
    with(Flows::Kept, fit())
}

#[test]
fn i5_an_owner_whose_kernel_kept_its_flows_is_waited_for() {
    for returning in [Ok(()), Err(Unfit::IntentNotApplied)] {
        let mut b = both_killed();
        // The standby was back a little earlier.
        let owner = Says { fitness: returning, ..kept() };
        assert_eq!(b.pass(2440, 3320, [Some(owner), Some(kept()), Some(fit())]), [], "{returning:?}");
        let serves = Says { holds: Some(5), ..hears(5) };
        assert_eq!(b.pass(3360, 6000, [Some(serves), Some(hears(5)), Some(hears(5))]), []);
    }
}

#[test]
fn an_owner_that_is_not_heard_in_spite_of_its_flows_is_waited_for_no_longer_than_a_second() {
    let mut b = both_killed();
    let assigned = b.pass(2440, 4000, [Some(kept()), Some(kept()), Some(fit())]);
    assert_eq!(assigned[0], (3440, (5, 2, Cause::NotHeard)));
}

#[test]
fn an_owner_that_kept_its_flows_and_cannot_serve_is_not_waited_for() {
    let cannot = [
        (Says { fitness: Err(Unfit::CarrierLost), ..kept() }, Cause::OwnerUnfit),
        (Says { draining: true, ..kept() }, Cause::OwnerDraining),
    ];
    for (owner, cause) in cannot {
        let mut b = both_killed();
        let assigned = b.pass(2440, 3000, [Some(owner), Some(kept()), Some(fit())]);
        assert_eq!(assigned[0], (2440, (5, 2, cause)));
    }
}

/// What node 2 stands for when it last heard of flows so long ago, and nodes 2 and 3 of the owner.
fn with_silence(flows: u64, owner: [u64; 2]) -> Flows {
    let mut b = served();
    let says = |seconds| Says { heard_ago: Duration::from_secs(seconds), ..hears(5) };
    b.says(2040, 2, &with(Flows::Silent(Duration::from_secs(flows)), says(owner[0])));
    b.says(2040, 3, &says(owner[1]));
    let view = &b.log.view().groups[&G];
    b.leader.standing(at(2050), NodeId(2), G, view, &b.log).unwrap().1
}

#[test]
fn i5_to_whom_an_owner_was_silent_that_others_heard_lacks_flows() {
    assert_eq!(with_silence(60, [60, 0]), Flows::Behind(Duration::from_secs(60)), "the witness heard it");
    assert_eq!(
        with_silence(60, [0, 60]),
        Flows::Behind(Duration::from_secs(60)),
        "leases came, flows did not"
    );
}

#[test]
fn i5_who_heard_an_owner_for_as_long_as_anybody_has_its_flows() {
    assert_eq!(with_silence(60, [60, 60]), Flows::CaughtUp, "it has been gone for a minute");
    assert_eq!(with_silence(60, [61, 59]), Flows::CaughtUp);
    assert_eq!(with_silence(62, [60, 60]), Flows::Behind(Duration::from_secs(62)));
}
