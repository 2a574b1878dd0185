//! A standby that joins with an empty kernel: how long until it holds every flow of the owner, while new ones arrive; and what
//! that does to packets that the owner forwards meanwhile.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::ensure;
use lockstep_cluster_tests::clock::{self, Nanos};
use lockstep_cluster_tests::stats::Percentiles;
use lockstep_cluster_tests::topology::{CLIENTS, Node};
use lockstep_cluster_tests::traffic::load::Endpoints;
use lockstep_cluster_tests::traffic::probe::Probe;
use lockstep_cluster_tests::trial::DNS;
use lockstep_cluster_tests::wait;
use lockstep_loader::FlowTable;
use lockstep_model::flow::SHARDS;

use super::bed::Bed;
use super::cost::Spent;

/// New flows per second meanwhile.
const MEANWHILE: u32 = 20_000;
/// At which flows are made before.
const FILLING: u32 = 50_000;
const LIMIT: Duration = Duration::from_secs(60);
/// So many datagrams are asked before the standby goes, a millisecond apart, under the same load: for about as long as a
/// million flows take.
const BEFORE: u64 = 5000;

/// What came of it.
#[derive(Debug)]
pub(crate) struct Snapshot {
    /// On the owner when it was over.
    pub(crate) flows: u64,
    /// From the first record that the standby received to the end of its last walk.
    pub(crate) time: Duration,
    /// From the start of its process, the loading of its programs included.
    pub(crate) since_start: Duration,
    pub(crate) spent: Spent,
    /// What as many new flows took before, with a standby that held everything.
    pub(crate) spent_before: Spent,
    /// New flows per second meanwhile, as they were made.
    pub(crate) offered: f64,
    /// What a datagram took through the owner, there and back: before, ms.
    pub(crate) before: Percentiles,
    /// The same while it walked.
    pub(crate) meanwhile: Percentiles,
}

/// With at least `flows` on the owner.
pub(crate) fn run(bed: &mut Bed, flows: u64) -> anyhow::Result<Snapshot> {
    let (owner, standby) = (bed.owner, bed.standby());
    // The rest is made while delays are measured before it goes.
    let later = BEFORE * u64::from(MEANWHILE) / 1000;
    let missing = flows.saturating_sub(count(bed, owner)? + later);
    bed.generator.run(Some(FILLING), u32::try_from(missing)?, None)?;
    let endpoints = Endpoints::start(&bed.cluster.topology)?;
    // Delays are to be those of the network, and not of a server that waits for a processor.
    endpoints.hurry()?;
    let probe = Probe::start(&bed.cluster.topology.clients, CLIENTS[0], DNS)?;
    probe.answered(1, LIMIT)?;
    let (before, spent_before) = undisturbed(bed, &probe)?;
    bed.cluster.process(standby)?.kill()?;
    bed.cluster.forget_kernel_state(standby)?;

    let started = Instant::now();
    bed.cluster.start_node(standby)?;
    bed.cluster.wait_answering(standby)?;
    let watched = bed.watched()?;
    let Bed { cluster, generator, .. } = bed;
    let over = AtomicBool::new(false);
    let (time, spent, meanwhile, offered) = std::thread::scope(|scope| {
        let load = scope.spawn(|| generator.run_until(MEANWHILE, &over));
        let measured = (|| {
            let counts = || super::bed::counts(cluster, standby);
            let before = watched.read()?;
            let (first, from) = wait::until("the first record", LIMIT, || {
                Ok((counts()?.get("receiver_records_received")? > 0).then(|| (Instant::now(), clock::now())))
            })?;
            // Each shard is walked once.
            wait::until("the last walk to end", LIMIT, || {
                Ok((counts()?.get("receiver_walks")? >= SHARDS.into()).then_some(()))
            })?;
            let (time, meanwhile) = (first.elapsed(), delays(&probe, from));
            anyhow::Ok((time, watched.since(&before)?, meanwhile))
        })();
        over.store(true, Ordering::Relaxed);
        let made = load.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        let (time, spent, meanwhile) = measured?;
        anyhow::Ok((time, spent, meanwhile, made.flows as f64 / made.time.as_secs_f64()))
    })?;
    let since_start = started.elapsed();
    probe.stop()?;
    bed.cluster.wait_ready()?;
    let held = wait::until("both tables to hold the same number", LIMIT, || {
        let (ours, theirs) = (count(bed, owner)?, count(bed, standby)?);
        Ok((ours == theirs).then_some(ours))
    })?;
    ensure!(held >= flows, "{held} flows are fewer than {flows}");
    Ok(Snapshot { flows: held, time, since_start, spent, spent_before, offered, before, meanwhile })
}

/// What datagrams take while new flows arrive and nobody joins.
fn undisturbed(bed: &mut Bed, probe: &Probe) -> anyhow::Result<(Percentiles, Spent)> {
    let watched = bed.watched()?;
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let load = scope.spawn(|| bed.generator.run_until(MEANWHILE, &over));
        let measured = (|| {
            let (from, before) = (clock::now(), watched.read()?);
            probe.answered(BEFORE, LIMIT)?;
            anyhow::Ok((delays(probe, from), watched.since(&before)?))
        })();
        over.store(true, Ordering::Relaxed);
        load.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        measured
    })
}

fn delays(probe: &Probe, from: Nanos) -> Percentiles {
    probe.delays(from, clock::now())
}

fn count(bed: &Bed, node: Node) -> anyhow::Result<u64> {
    Ok(FlowTable::open_pinned(&bed.cluster.pin_dir(node))?.count()?)
}
