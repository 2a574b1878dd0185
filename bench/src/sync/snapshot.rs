//! A standby that joins with an empty kernel: how long until it holds every flow of the owner, while new ones arrive.

use std::time::{Duration, Instant};

use anyhow::ensure;
use lockstep_cluster_tests::topology::Node;
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
}

/// With at least `flows` on the owner.
pub(crate) fn run(bed: &mut Bed, flows: u64) -> anyhow::Result<Snapshot> {
    let (owner, standby) = (bed.owner, bed.standby());
    let missing = flows.saturating_sub(count(bed, owner)?);
    bed.generator.run(Some(FILLING), u32::try_from(missing)?, None)?;
    bed.cluster.process(standby)?.kill()?;
    bed.cluster.forget_kernel_state(standby)?;

    let started = Instant::now();
    bed.cluster.start_node(standby)?;
    bed.cluster.wait_answering(standby)?;
    let watched = bed.watched()?;
    let Bed { cluster, generator, .. } = bed;
    let (time, spent) = std::thread::scope(|scope| {
        let load = scope.spawn(|| generator.run(Some(MEANWHILE), NEW_FLOWS, None));
        let measured = (|| {
            let counts = || super::bed::counts(cluster, standby);
            let before = watched.read()?;
            let first = wait::until("the first record", LIMIT, || {
                Ok((counts()?.get("receiver_records_received")? > 0).then(Instant::now))
            })?;
            // Each shard is walked once.
            wait::until("the last walk to end", LIMIT, || {
                Ok((counts()?.get("receiver_walks")? >= SHARDS.into()).then_some(()))
            })?;
            anyhow::Ok((first.elapsed(), watched.since(&before)?))
        })();
        load.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        measured
    })?;
    let since_start = started.elapsed();
    bed.cluster.wait_ready()?;
    let held = wait::until("both tables to hold the same number", LIMIT, || {
        let (ours, theirs) = (count(bed, owner)?, count(bed, standby)?);
        Ok((ours == theirs).then_some(ours))
    })?;
    ensure!(held >= flows, "{held} flows are fewer than {flows}");
    Ok(Snapshot { flows: held, time, since_start, spent })
}

fn count(bed: &Bed, node: Node) -> anyhow::Result<u64> {
    Ok(FlowTable::open_pinned(&bed.cluster.pin_dir(node))?.count()?)
}
