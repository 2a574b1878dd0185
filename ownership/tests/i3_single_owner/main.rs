//! I3: no two nodes' leases for one group are ever valid at the same true time.
//!
//! Random schedules of a cluster whose clocks run at different rates, whose network loses, delays, repeats
//! and reorders, whose nodes are paused, restarted and rebooted, whose logs diverge and are truncated, and
//! whose membership changes. A schedule is its seed: a failure names it.

mod clock;
mod raft;
mod world;

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use lockstep_model::ids::{Epoch, GroupId, NodeId};
use lockstep_seeded::Rng;

use crate::raft::Item;
use crate::world::{MS, World};

const SCHEDULES: u64 = 100_000;
const MEMBERSHIPS: u64 = 5_000;
const HEALED: u64 = 2_000;
/// Faults and changes in one schedule.
const STEPS: u64 = 14;

fn any_lease(rng: &mut Rng) -> Duration {
    Duration::from_millis(*rng.pick(&[150, 450, 450, 1000, 1000]))
}

fn cluster(seed: u64) -> World {
    let mut rng = Rng::new(seed ^ 0x5eed);
    let voters = *rng.pick(&[3, 3, 3, 2, 5]);
    let spares = if rng.percent(30) { 2 } else { 0 };
    let lease = any_lease(&mut rng);
    let mut world = World::new(seed, voters, spares, 1, lease);
    world.loss_percent = *rng.pick(&[0, 3, 10, 25]);
    world
}

/// One random fault or change.
fn step(world: &mut World) {
    let lease = world.lease();
    let ids = world.ids();
    let node = *world.rng.pick(&ids);
    let until = world.now + world.rng.below(2 * lease);
    match world.rng.below(100) {
        0..45 => assign(world),
        45..58 => world.pause(node, until),
        58..68 => {
            let reboot = world.rng.percent(30);
            let back = world.now + world.rng.below(lease);
            world.stop(node, back, reboot);
        }
        68..78 => {
            let other = *world.rng.pick(&ids);
            world.cut_link(node, other, until);
            if world.rng.percent(50) {
                world.cut_link(other, node, until);
            }
        }
        78..84 => world.surrender(node),
        84..88 => {
            let item = Item::Lease(any_lease(&mut world.rng));
            world.propose(node, item, 80);
        }
        88..96 => change_membership(world, node),
        _ => {
            let reach = world.rng.below(100);
            world.propose(node, Item::Blank, reach);
        }
    }
}

/// Any leader gives any group to any node, on any view of what is current.
fn assign(world: &mut World) {
    let groups: Vec<GroupId> = world.groups();
    let ids = world.ids();
    let group = *world.rng.pick(&groups);
    let (leader, node) = (*world.rng.pick(&ids), *world.rng.pick(&ids));
    let replaces = world.agreed().assignment(group).map_or(Epoch(0), |a| a.epoch);
    let reach = *world.rng.pick(&[100, 100, 70, 20]);
    world.propose(leader, Item::Assign { group, replaces, node }, reach);
}

/// The next step of a change: into a joint membership, or out of one.
fn change_membership(world: &mut World, leader: NodeId) {
    let ids = world.ids();
    let current = world.members();
    let item = if current.len() > 1 {
        Item::Members(vec![current[current.len() - 1].clone()])
    } else {
        let mut next: BTreeSet<NodeId> = BTreeSet::new();
        while next.len() < 2 {
            next = ids.iter().copied().filter(|_| world.rng.percent(60)).collect();
        }
        Item::Members(vec![current[0].clone(), next])
    };
    world.change_members(leader, item);
}

/// Runs one schedule, and returns how many leases were opened in it.
fn explore(seed: u64) -> Result<u64, String> {
    let mut world = cluster(seed);
    // Nothing can happen before the voters have waited for what they may have promised in an earlier life.
    let begin = world.rng.below(1100 * MS);
    world.run(begin);
    for _ in 0..STEPS {
        step(&mut world);
        let lease = world.lease();
        let pause = world.rng.below(lease * 2 / 3);
        let next = world.now + pause;
        world.run(next);
    }
    let end = world.now + 2 * world.lease();
    world.run(end);
    match world.violation {
        Some(violation) => Err(format!("seed {seed}: {violation}")),
        None => Ok(world.leases_opened),
    }
}

/// Runs `f` for every seed on all cores and returns the sum, or the failure of the lowest failing seed.
fn for_seeds(count: u64, f: impl Fn(u64) -> Result<u64, String> + Sync) -> Result<u64, String> {
    let (next, sum) = (AtomicU64::new(0), AtomicU64::new(0));
    let worker = || loop {
        let seed = next.fetch_add(1, Ordering::Relaxed);
        if seed >= count {
            return Ok(());
        }
        match f(seed) {
            Ok(n) => sum.fetch_add(n, Ordering::Relaxed),
            Err(failure) => {
                next.store(count, Ordering::Relaxed);
                return Err((seed, failure));
            }
        };
    };
    let failures: BTreeSet<(u64, String)> = std::thread::scope(|scope| {
        let cores = std::thread::available_parallelism().map_or(1, |n| n.get());
        let threads: Vec<_> = (0..cores).map(|_| scope.spawn(worker)).collect();
        threads.into_iter().filter_map(|t| t.join().expect("a schedule does not panic").err()).collect()
    });
    failures.into_iter().next().map_or_else(|| Ok(sum.load(Ordering::Relaxed)), |(_, failure)| Err(failure))
}

#[test]
fn i3_single_owner_in_random_schedules() {
    let opened = for_seeds(SCHEDULES, explore).unwrap_or_else(|failure| panic!("{failure}"));
    // A run that opens no lease proves nothing.
    assert!(opened > SCHEDULES, "only {opened} leases were opened in {SCHEDULES} schedules");
}

/// The cluster moves from one set of voters to another that has few in common with it, while the owner, or
/// whoever Raft does not reach, goes on with the memberships it knows.
fn explore_memberships(seed: u64) -> Result<u64, String> {
    let mut rng = Rng::new(seed ^ 0xcafe);
    let lease = any_lease(&mut rng);
    let mut world = World::new(seed, 3, 2, 1, lease);
    world.loss_percent = *rng.pick(&[0, 5]);
    let voters: Vec<NodeId> = (1..=3).map(NodeId).collect();
    let group = world.groups()[0];
    world.run(1000 * MS);
    let owner = *rng.pick(&voters);
    world.propose(*rng.pick(&voters), Item::Assign { group, replaces: Epoch(0), node: owner }, 100);
    let next = world.now + MS * (1000 + rng.below(200));
    world.run(next);

    if rng.percent(80) {
        world.lag(owner, world.now + 4000 * MS);
    }
    let next: BTreeSet<NodeId> = (1..=5).map(NodeId).filter(|n| n.get() > 3 || rng.percent(40)).collect();
    let ids = world.ids();
    for _ in 0..rng.below(6) + 2 {
        let current = world.members();
        let item =
            if current.len() > 1 { vec![next.clone()] } else { vec![current[0].clone(), next.clone()] };
        let leader = *rng.pick(&ids);
        world.change_members(leader, Item::Members(item));
        let pause = world.now + rng.below(40 * MS);
        world.run(pause);
    }
    for _ in 0..6 {
        let replaces = world.agreed().assignment(group).map_or(Epoch(0), |a| a.epoch);
        let (leader, node) = (*rng.pick(&ids), *rng.pick(&ids));
        world.propose(leader, Item::Assign { group, replaces, node }, 90);
        let pause = world.now + rng.below(500 * MS);
        world.run(pause);
    }
    let end = world.now + 1000 * MS;
    world.run(end);
    world.violation.map_or(Ok(world.leases_opened), |violation| Err(format!("seed {seed}: {violation}")))
}

#[test]
fn i3_single_owner_across_memberships() {
    let opened = for_seeds(MEMBERSHIPS, explore_memberships).unwrap_or_else(|failure| panic!("{failure}"));
    assert!(opened > MEMBERSHIPS, "only {opened} leases were opened in {MEMBERSHIPS} schedules");
}

#[test]
fn every_group_is_served_again_after_healing() {
    let heal = |seed: u64| {
        let mut world = cluster(seed);
        let begin = world.rng.below(1100 * MS);
        world.run(begin);
        for _ in 0..STEPS {
            step(&mut world);
            let next = world.now + world.rng.below(MS * 100);
            world.run(next);
        }
        world.heal();
        let calm = world.now + 1000 * MS;
        world.settle(calm);
        let end = world.now + 8000 * MS;
        world.run(end);
        if let Some(violation) = world.violation {
            return Err(format!("seed {seed}: {violation}"));
        }
        let agreed = world.agreed();
        for group in world.groups() {
            let owner = agreed.assignment(group).map(|a| a.node);
            let serving = world.serving(group);
            if owner.is_none() || serving != Vec::from_iter(owner) {
                return Err(format!(
                    "seed {seed}: {group:?} belongs to {owner:?} but is served by {serving:?}\n{}",
                    world.describe()
                ));
            }
        }
        Ok(0)
    };
    for_seeds(HEALED, heal).unwrap_or_else(|failure| panic!("{failure}"));
}

#[test]
fn a_seed_is_a_schedule() {
    for seed in 0..50 {
        assert_eq!(explore(seed), explore(seed));
    }
}
