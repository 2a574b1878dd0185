//! Random schedules over two nodes with fake tables: events lost, messages late and twice, streams cut,
//! daemons restarted, writes refused, ownership moved. After healing the standby holds what the owner holds.
//!
//! `LOCKSTEP_SEED=n` runs one schedule.

#[path = "replication/node.rs"]
mod node;
#[path = "replication/rng.rs"]
mod rng;
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
        seen.add(&world);
    }
    seen
}

#[test]
fn i5_standby_equals_owner_after_lost_events_cuts_restarts_and_refusals() {
    let seen =
        run(Faults { lose_events: true, refuse_writes: true, restarts: true, moves: false }, 1000, 250);
    assert!(seen.walks > 1000 && seen.nacks > 1000 && seen.lost > 1000 && seen.resumed > 100, "{seen:?}");
}

#[test]
fn i5_standby_equals_owner_when_ownership_moves() {
    let seen =
        run(Faults { lose_events: true, refuse_writes: false, restarts: true, moves: true }, 1000, 250);
    assert!(seen.moves > 1000 && seen.swept > 100 && seen.refused_old_epoch > 100, "{seen:?}");
}

#[test]
fn i5_a_cut_stream_goes_on_without_a_walk() {
    let faults = Faults { lose_events: false, refuse_writes: false, restarts: false, moves: false };
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
