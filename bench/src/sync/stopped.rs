//! A standby whose daemon is stopped while flows come and go: what that costs the owner, and how long the standby takes to
//! have caught up when it goes on.

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use lockstep_cluster_tests::api;
use lockstep_cluster_tests::cluster::Cluster;
use lockstep_cluster_tests::topology::Node;
use lockstep_cluster_tests::wait;
use lockstep_loader::FlowTable;
use lockstep_model::flow::SHARDS;
use lockstep_proto::inspect::v1::SyncStatusRequest;
use lockstep_proto::inspect::v1::inspect_client::InspectClient;
use nix::sys::signal::Signal;

use super::bed::{self, Bed};
use crate::report::{Better, Row};
use crate::statistics::Sample;

/// New flows per second. Each one ends by itself after [`TIMEOUT`].
const RATE: u32 = 5_000;
const TIMEOUT: &str = "20s";
/// Until as many end as begin.
const STEADY: Duration = Duration::from_secs(30);
/// How often the owner's memory is looked at.
const LOOK: Duration = Duration::from_secs(1);
const LIMIT: Duration = Duration::from_mins(1);
/// A standby that has caught up is no further behind under this load.
const BEHIND: Duration = Duration::from_millis(100);
const MIB: f64 = 1024.0 * 1024.0;

/// With a standby that stands still for `length`.
pub(crate) fn measure(length: Duration) -> anyhow::Result<Vec<Row>> {
    let mut bed = Bed::of(&bed::with_timeout("immediate", TIMEOUT))?;
    let Bed { cluster, generator, owner } = &mut bed;
    let (owner, standby) = (*owner, owner.other());
    let over = AtomicBool::new(false);
    let measured = std::thread::scope(|scope| {
        let load = scope.spawn(|| generator.run_until(RATE, &over));
        let measured = (|| {
            wait::pass(STEADY)?;
            let pid = cluster.process(owner)?.pid();
            let live = FlowTable::open_pinned(&cluster.pin_dir(owner))?.count()?;
            let before = resident(pid)?;
            cluster.process(standby)?.signal(Signal::SIGSTOP)?;
            let mut most = before;
            let until = Instant::now() + length;
            while Instant::now() < until {
                wait::pass(LOOK.min(until.saturating_duration_since(Instant::now())))?;
                most = most.max(resident(pid)?);
            }
            // Before it goes on, the owner is to know.
            ensure!(!caught_up(cluster, owner)?, "a standby that stands still has caught up, says the owner");
            let begin = Instant::now();
            cluster.process(standby)?.signal(Signal::SIGCONT)?;
            wait::until("the standby to have caught up", LIMIT, || {
                Ok(caught_up(cluster, owner)?.then_some(()))
            })?;
            let caught_up = begin.elapsed();
            let diverged = diverged(cluster, standby)?;
            let compared = bed::counts(cluster, standby)?.get("receiver_audits")?;
            wait::until("every shard's digests to be compared", LIMIT, || {
                let now = bed::counts(cluster, standby)?.get("receiver_audits")?;
                Ok((now >= compared + u64::from(SHARDS)).then_some(()))
            })?;
            let compared = begin.elapsed();
            let diverged = self::diverged(cluster, standby)? - diverged;
            ensure!(diverged == 0, "{diverged} flows differed after it had caught up");
            Ok((live, before, most, resident(pid)?, caught_up, compared))
        })();
        over.store(true, Ordering::Relaxed);
        let made = load.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        let measured: (u64, u64, u64, u64, Duration, Duration) = measured?;
        anyhow::Ok((measured, made))
    });
    let ((live, before, most, after, caught_up, compared), made) =
        measured.map_err(|error| bed.cluster.explain(error))?;
    let note = format!(
        "{} s; {:.0} new flows/s, {live} at a time",
        length.as_secs(),
        made.flows as f64 / made.time.as_secs_f64()
    );
    let mib = |bytes: u64| bytes as f64 / MIB;
    let row = |what: &str, unit, value| {
        let name = format!("sync/stopped/{what}");
        Row::new(&name, unit, Better::Lower, &Sample::from_iter([value])).note(note.clone())
    };
    let first = "sync/stopped/owner_memory_before";
    Ok(vec![
        row("owner_memory_most", "MiB", mib(most)).beside(first, mib(before)),
        row("owner_memory_after", "MiB", mib(after)).beside(first, mib(before)),
        row("owner_memory_per_flow", "B", (most - before) as f64 / live as f64),
        row("caught_up_s", "s", caught_up.as_secs_f64()),
        row("digests_equal_s", "s", compared.as_secs_f64()),
    ])
}

/// Whether the owner says that its standby has everything, but for what is new.
fn caught_up(cluster: &Cluster, owner: Node) -> anyhow::Result<bool> {
    let answer = api::ask(cluster.topology.node(owner), async |channel| {
        Ok(InspectClient::new(channel).sync_status(SyncStatusRequest {}).await?.into_inner())
    })?;
    let peer = answer.peers.first().context("the owner has no peer")?;
    Ok(peer.caught_up && Duration::from_nanos(peer.oldest_ns) < BEHIND)
}

/// Flows of which digests said that the standby had another version, in any way.
fn diverged(cluster: &Cluster, standby: Node) -> anyhow::Result<u64> {
    let counts = bed::counts(cluster, standby)?;
    ["missing", "extra", "changed"].iter().map(|how| counts.get(&format!("receiver_divergences_{how}"))).sum()
}

/// Bytes of a process's own memory.
fn resident(pid: u32) -> anyhow::Result<u64> {
    let path = format!("/proc/{pid}/status");
    let status = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    // Anonymous memory: maps of the kernel that it has mapped are the flows themselves.
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).context("no RssAnon")?;
    let kib: u64 = line.split_whitespace().next().context("RssAnon is empty")?.parse()?;
    Ok(kib * 1024)
}
