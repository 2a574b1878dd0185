//! A standby that joins with an empty kernel: how long until it holds every flow of the owner, while new ones arrive; and what
//! that does to packets that the owner forwards meanwhile.

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
/// For so long: what is measured is to be over by then.
const NEW_FLOWS: u32 = 4 * MEANWHILE;
/// At which flows are made before.
const FILLING: u32 = 50_000;
const LIMIT: Duration = Duration::from_secs(60);
/// So many datagrams are asked before the standby goes, a millisecond apart, under the same load.
const BEFORE: u64 = 3000;

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
    /// What a datagram took through the owner, there and back: before, ms.
    pub(crate) before: Percentiles,
    /// The same while it walked.
    pub(crate) meanwhile: Percentiles,
}

/// With at least `flows` on the owner.
pub(crate) fn run(bed: &mut Bed, flows: u64) -> anyhow::Result<Snapshot> {
    let (owner, standby) = (bed.owner, bed.standby());
    let missing = flows.saturating_sub(count(bed, owner)?);
    bed.generator.run(Some(FILLING), u32::try_from(missing)?, None)?;
    let _endpoints = Endpoints::start(&bed.cluster.topology)?;
    let probe = Probe::start(&bed.cluster.topology.clients, CLIENTS[0], DNS)?;
    probe.answered(1, LIMIT)?;
    let before = undisturbed(bed, &probe)?;
    bed.cluster.process(standby)?.kill()?;
    bed.cluster.forget_kernel_state(standby)?;

    let started = Instant::now();
    bed.cluster.start_node(standby)?;
    bed.cluster.wait_answering(standby)?;
    let watched = bed.watched()?;
    let Bed { cluster, generator, .. } = bed;
    let (time, spent, meanwhile) = std::thread::scope(|scope| {
        let load = scope.spawn(|| generator.run(Some(MEANWHILE), NEW_FLOWS, None));
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
        load.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        measured
    })?;
    let since_start = started.elapsed();
    probe.stop()?;
    bed.cluster.wait_ready()?;
    let held = wait::until("both tables to hold the same number", LIMIT, || {
        let (ours, theirs) = (count(bed, owner)?, count(bed, standby)?);
        Ok((ours == theirs).then_some(ours))
    })?;
    ensure!(held >= flows, "{held} flows are fewer than {flows}");
    Ok(Snapshot { flows: held, time, since_start, spent, before, meanwhile })
}

/// What datagrams take while new flows arrive and nobody joins.
fn undisturbed(bed: &mut Bed, probe: &Probe) -> anyhow::Result<Percentiles> {
    let flows = (BEFORE * u64::from(MEANWHILE) / 1000) as u32;
    std::thread::scope(|scope| {
        let load = scope.spawn(|| bed.generator.run(Some(MEANWHILE), flows, None));
        let from = clock::now();
        let measured = probe.answered(BEFORE * 9 / 10, LIMIT).map(|_| delays(probe, from));
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
