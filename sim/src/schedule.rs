//! A seed is a schedule: a cluster, what goes wrong in it, and whether it works again afterwards.

use lockstep_model::intent::LeaseProfile;
use lockstep_seeded::Rng;
use openraft::AsyncRuntime;
use openraft_rt_sim::SimRuntime;

use crate::faults::FOCUSES;
use crate::net::now_ns;
use crate::world::{MS, Shape, World};

/// Nothing can be served before voters have waited for what they may have promised in an earlier life.
const SETTLE_NS: u64 = 1_300 * MS;
/// A cluster works again within this, once nothing fails any more: an election, the wait of a restarted
/// voter, a hand-over or two, and the wait for a moved address.
const CONVERGE_NS: u64 = 15_000 * MS;

/// What came of a schedule.
#[derive(Debug, Clone)]
pub struct Report {
    /// Its seed.
    pub seed: u64,
    /// Over every line of the trace.
    pub hash: u64,
    /// Lines of the trace.
    pub lines: u64,
    /// What must not happen and did.
    pub violation: Option<String>,
    /// Leases opened.
    pub leases_opened: u64,
    /// Writes acknowledged.
    pub writes: u64,
    /// Linearizable reads answered.
    pub reads: u64,
    /// Virtual time that passed.
    pub virtual_ns: u64,
    /// The trace, if it was asked for.
    pub text: String,
}

/// How a schedule is run.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Keep the text of the trace.
    pub keep_text: bool,
    /// See [`Shape::drift`].
    pub drift: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self { keep_text: false, drift: 1 }
    }
}

/// Runs one schedule.
pub fn run(seed: u64, options: Options) -> Report {
    SimRuntime::with_seed(seed).block_on(async {
        let mut rng = Rng::new(seed);
        let focus = *rng.pick(&FOCUSES);
        let voters = *rng.pick(&[3, 3, 3, 3, 2, 5]);
        let shape = Shape {
            voters,
            spares: if focus.grows || rng.percent(35) { rng.below(2) + 1 } else { 0 },
            witness: rng.percent(40),
            groups: rng.below(2) as usize + 1,
            lease: *rng.pick(&[LeaseProfile::Fast, LeaseProfile::Lan]),
            drift: options.drift,
        };
        let mut world = World::found(&mut rng, shape, options.keep_text).await;
        world.run_for(rng.below(SETTLE_NS)).await;
        world.begin_clients();
        let steps = 15 + rng.below(35);
        for step in 0..steps {
            if step % 8 == 0 {
                world.weather();
            }
            let units = [shape.lease.duration().as_nanos() as u64, 150 * MS, 400 * MS];
            let unit_ns = *rng.pick(&units);
            world.disturb(focus, unit_ns);
            world.run_for(rng.below(unit_ns * focus.pause_percent / 100)).await;
        }
        world.heal().await;
        world.converge(CONVERGE_NS).await;
        world.end().await;
        let mut net = world.net.lock();
        Report {
            seed,
            hash: net.trace.hash(),
            lines: net.trace.lines(),
            violation: world.violation(),
            leases_opened: world.oracle.leases_opened,
            writes: world.oracle.writes(),
            reads: world.oracle.reads,
            virtual_ns: now_ns(),
            text: net.trace.take_text(),
        }
    })
}
