//! One offered rate of new flows: what of it arrived, when, and what it cost.

use std::time::{Duration, Instant};

use anyhow::Context;
use lockstep_cluster_tests::wait;

use super::bed::Bed;
use super::cost::Spent;
use super::lag::{Lags, Watcher};

/// Flows whose lag is measured, per second: few, because the thread that looks for them goes before every other.
const SAMPLES: u32 = 250;
/// How long after the last packet the last flow may come.
const LAST: Duration = Duration::from_secs(15);
/// A rate is kept up with when the last flow is there this much of the run later, or …
const BEHIND: f64 = 0.05;
/// … within this: what one look at the counters may take.
const LOOK: Duration = Duration::from_millis(100);

/// What came of it.
#[derive(Debug)]
pub(crate) struct Step {
    pub(crate) flows: u64,
    /// As offered, flows/s.
    pub(crate) offered: f64,
    /// Until the last flow was in the standby's kernel, flows/s.
    pub(crate) replicated: f64,
    /// Events that the kernel had no room for.
    pub(crate) lost: u64,
    /// All came, none by a walk, and the standby kept up.
    pub(crate) lossless: bool,
    pub(crate) lags: Lags,
    pub(crate) spent: Spent,
}

/// Offers `flows` new flows at `rate`, or as fast as they can be made.
pub(crate) fn run(bed: &mut Bed, rate: Option<u32>, flows: u32) -> anyhow::Result<Step> {
    let (owner, standby) = (bed.owner, bed.standby());
    let applied = |bed: &Bed| bed.counts(standby)?.get("receiver_applied");
    let lost = |bed: &Bed| bed.counts(owner)?.get("events_lost");
    let (applied_before, lost_before) = (applied(bed)?, lost(bed)?);
    let watcher = Watcher::start(&bed.table(standby))?;
    let watched = bed.watched()?;
    let before = watched.read()?;

    let begin = Instant::now();
    let nth = (rate.unwrap_or(flows) / SAMPLES).max(1);
    let sent = bed.generator.run(rate, flows, Some((nth, &watcher.samples)))?;
    wait::until("the standby to hold every flow", LAST, || {
        Ok((applied(bed)? >= applied_before + sent.flows).then_some(()))
    })
    .with_context(|| told(bed, sent.flows))?;
    let took = begin.elapsed();

    let spent = watched.since(&before)?;
    let lags = watcher.finish()?;
    let lost = lost(bed)? - lost_before;
    let late = took.saturating_sub(sent.time);
    let kept_up = late <= LOOK.max(sent.time.mul_f64(BEHIND));
    let offered = sent.flows as f64 / sent.time.as_secs_f64();
    Ok(Step {
        flows: sent.flows,
        offered,
        // A look at the counters is no work of replication's.
        replicated: if kept_up { offered } else { sent.flows as f64 / took.as_secs_f64() },
        lost,
        lossless: kept_up && lost == 0 && lags.missing == 0,
        lags,
        spent,
    })
}

/// What both sides counted, for an error.
fn told(bed: &Bed, flows: u64) -> String {
    let get = |node, name| bed.counts(node).and_then(|counts| counts.get(name));
    let [owner, standby] = [bed.owner, bed.standby()];
    let all = [
        (owner, "origin_changes"),
        (owner, "events_lost"),
        (owner, "origin_records_acknowledged"),
        (standby, "receiver_records_received"),
        (standby, "receiver_applied"),
        (standby, "receiver_failed_kernel"),
        (standby, "receiver_failed_full"),
    ];
    let all = all.map(|(node, name)| match get(node, name) {
        Ok(value) => format!("{name} {value}"),
        Err(error) => format!("{name}: {error:#}"),
    });
    format!("of {flows} flows more; since the start: {}", all.join(", "))
}
