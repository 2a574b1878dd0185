//! Random schedules over two nodes with fake tables: events lost, messages late and twice, streams cut,
//! daemons restarted, writes refused, ownership moved. After healing the standby holds what the owner holds.
//!
//! `LOCKSTEP_SEED=n` runs one schedule.

#[path = "replication/auditor.rs"]
mod auditor;
#[path = "replication/node.rs"]
mod node;
#[path = "replication/table.rs"]
mod table;
#[path = "replication/world.rs"]
mod world;

use world::{Faults, World};

fn seeds(count: u64) -> Vec<u64> {
    match std::env::var("LOCKSTEP_SEED") {
        Ok(seed) => vec![seed.parse().expect("LOCKSTEP_SEED is a number")],
        Err(_) => (0..count).collect(),
    }
}

fn run(faults: Faults, count: u64, steps: usize) -> world::Seen {
    let mut seen = world::Seen::default();
    for seed in seeds(count) {
        let mut world = World::new(seed, faults);
        for _ in 0..steps {
            world.step();
        }
        world.heal();
        world.assert_equal();
        world.replay_everything();
        world.assert_equal();
        assert_eq!(world.diverged(), [], "seed {seed}: a divergence that nobody planted");
        seen.add(&world);
    }
    seen
}

#[test]
fn i5_standby_equals_owner_after_lost_events_cuts_restarts_and_refusals() {
    let seen =
        run(Faults { lose_events: true, refuse_writes: true, restarts: true, ..Faults::NONE }, 1000, 250);
    assert!(seen.walks > 1000 && seen.nacks > 1000 && seen.lost > 1000 && seen.resumed > 100, "{seen:?}");
}

#[test]
fn i5_standby_equals_owner_when_ownership_moves() {
    let seen = run(Faults { lose_events: true, restarts: true, moves: true, ..Faults::NONE }, 1000, 250);
    assert!(seen.moves > 1000 && seen.swept > 100 && seen.refused_old_epoch > 100, "{seen:?}");
}

#[test]
fn i5_who_holds_a_group_no_more_holds_nothing_of_it_and_who_does_again_holds_everything() {
    for (lose_events, refuse_writes, moves) in [(false, true, false), (true, false, true)] {
        let faults = Faults { lose_events, refuse_writes, restarts: true, moves, leaves: true, rarity: 1 };
        let seen = run(faults, 1000, 250);
        println!("{faults:?}: {seen:?}");
        assert!(seen.removals > 1000 && seen.swept > 1000, "{seen:?}");
    }
    // Seldom enough for both to settle in between, and for rounds of digests to end.
    let faults = Faults { restarts: true, moves: true, leaves: true, rarity: 20, ..Faults::NONE };
    let seen = run(faults, 40, 2000);
    assert!(seen.removals > 200 && seen.audits > 40, "{seen:?}");
}

#[test]
fn i5_a_cut_stream_goes_on_without_a_walk() {
    let faults = Faults::NONE;
    for seed in seeds(300) {
        let mut world = World::new(seed, faults);
        world.heal();
        let walks = world.walks();
        for _ in 0..250 {
            world.step();
        }
        world.heal();
        world.assert_equal();
        assert_eq!(world.walks(), walks, "seed {seed}: nothing was lost");
    }
}

#[test]
fn i5_digests_of_equal_nodes_never_differ() {
    let (no, yes) = (false, true);
    for [lose_events, refuse_writes, restarts, moves] in
        [[no, no, no, no], [no, no, yes, no], [no, no, yes, yes], [yes, no, yes, yes], [yes, yes, yes, no]]
    {
        let faults = Faults { lose_events, refuse_writes, restarts, moves, leaves: false, rarity: 20 };
        let seen = run(faults, 40, 2000);
        println!("{faults:?}: {seen:?}");
        assert!(seen.audits > 200, "{faults:?}: {seen:?}");
    }
}

#[test]
fn i5_what_changed_behind_a_daemons_back_is_found_and_repaired() {
    let faults = Faults::NONE;
    for (seed, at_owner) in seeds(200).into_iter().flat_map(|seed| [(seed, false), (seed, true)]) {
        let mut world = World::new(seed, faults);
        (0..150).for_each(|_| world.step());
        world.heal();
        let planted = world.plant(at_owner);
        world.audit();
        world.heal();
        world.assert_equal();
        let diverged = world.diverged();
        // What the traffic changed first was repaired by that.
        assert!(
            diverged.iter().all(|flow| planted.contains(flow)),
            "seed {seed}: {diverged:?} of {planted:?}"
        );
        assert!(!diverged.is_empty(), "seed {seed}: nothing of {planted:?} was found");
    }
}
