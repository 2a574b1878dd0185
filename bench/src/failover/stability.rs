//! `bench failover --false-moves`: whether a group moves although nothing failed, while busy processes take the machine.
//!
//! Beside the cluster run twice as many processes that only compute as the machine has processors, all with the priority
//! of ordinary ones, and on each processor a canary: a thread of the real-time priority that the daemons' lease threads
//! have, which sleeps for a millisecond at a time and notes by how much it woke too late. When a canary stood still for
//! more than half a lease, so may have a lease thread, and a move at that time is the machine's fault.

mod canary;

use std::collections::BTreeMap;
use std::process::Command;
use std::time::Duration;

use lockstep_cluster_tests::api;
use lockstep_cluster_tests::clock::{self, Nanos, nanos};
use lockstep_cluster_tests::cluster::Cluster;
use lockstep_cluster_tests::manifest::{EXAMPLE, Profile};
use lockstep_cluster_tests::process::Process;
use lockstep_cluster_tests::topology::Node;
use lockstep_cluster_tests::{interrupt, wait};

use crate::report::{Better, Report, Row};
use crate::statistics::Sample;
use canary::{Canaries, Stall, Stalls};

/// Between two looks at what the nodes recorded: they keep the newest 64 takeovers.
const LOOK: Duration = Duration::from_secs(1);
/// How long a takeover may take until it is recorded.
const RECORD_LIMIT: Duration = Duration::from_secs(10);

/// A takeover that nobody asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Move {
    /// When the owner was heard last, as far as the next one knows.
    from: Nanos,
    committed: Nanos,
}

/// Watches a cluster at rest for so long.
pub(super) fn measure(profile: Profile, duration: Duration, report: &mut Report) -> anyhow::Result<()> {
    let mut cluster = Cluster::start(EXAMPLE, profile)?;
    let outcome = watch(&cluster, profile, duration, report);
    outcome.map_err(|error| cluster.explain(error))
}

fn watch(cluster: &Cluster, profile: Profile, duration: Duration, report: &mut Report) -> anyhow::Result<()> {
    let owner = cluster.wait_ready()?;
    let start_epoch = cluster.group(owner)?.epoch;
    let lease = Duration::from_millis(profile.lease_ms());
    let processors = std::thread::available_parallelism()?.get();
    let busy = start_busy(cluster, 2 * processors)?;
    let canaries = Canaries::start(processors, lease / 2)?;
    let end = clock::now() + nanos(duration);
    let mut moves = BTreeMap::new();
    let mut epoch = start_epoch;
    println!("{} s beside {} busy processes, profile {}", duration.as_secs(), busy.len(), profile.name());
    while clock::now() < end {
        interrupt::check()?;
        wait::pass(LOOK.min(Duration::from_nanos(end.saturating_sub(clock::now()))))?;
        epoch = epoch.max(look(cluster, lease, start_epoch, &mut moves)?);
    }
    let stalls = canaries.stop()?;
    drop(busy);
    // One that was under way is recorded when it is complete.
    wait::until_ok("the last takeover to be recorded", RECORD_LIMIT, || {
        epoch = epoch.max(look(cluster, lease, start_epoch, &mut moves)?);
        let recorded = moves.last_key_value().map_or(start_epoch, |(epoch, _)| *epoch);
        anyhow::ensure!(recorded >= epoch, "epoch {epoch}, recorded up to {recorded}");
        Ok(())
    })?;
    let moves: Vec<Move> = moves.into_values().collect();
    tell(profile, duration, &moves, &stalls, report);
    Ok(())
}

/// Adds the takeovers since the start; the newest epoch. A node that does not answer in time is asked again.
fn look(
    cluster: &Cluster,
    lease: Duration,
    start_epoch: u64,
    moves: &mut BTreeMap<u64, Move>,
) -> anyhow::Result<u64> {
    let mut newest = start_epoch;
    for node in Node::DATAPLANE {
        let namespace = cluster.topology.node(node);
        let (Ok(group), Ok(records)) = (cluster.group(node), api::failovers(namespace)) else {
            println!("{} does not answer", node.name());
            continue;
        };
        newest = newest.max(group.epoch);
        for record in records.into_iter().filter(|record| record.epoch_after > start_epoch) {
            let Some(committed) = record.committed_ns else { continue };
            let from = record.last_renewal_ns.unwrap_or_else(|| committed.saturating_sub(nanos(2 * lease)));
            if moves.insert(record.epoch_after, Move { from, committed }).is_none() {
                println!("moved to {}: epoch {}, {}", node.name(), record.epoch_after, record.reason);
            }
        }
    }
    Ok(newest)
}

fn start_busy(cluster: &Cluster, count: usize) -> anyhow::Result<Vec<Process>> {
    let start = |number: usize| {
        let mut command = Command::new("sh");
        command.args(["-c", "while :; do :; done"]);
        let name = format!("busy-{number}");
        Process::start(&name, command, None, &cluster.run.folder().join(format!("{name}.log")))
    };
    (1..=count).map(start).collect()
}

/// Those that no canary's stall explains.
fn unexplained(moves: &[Move], stalls: &[Stall]) -> usize {
    let explained = |m: &Move| stalls.iter().any(|s| s.from <= m.committed && m.from <= s.to);
    moves.iter().filter(|m| !explained(m)).count()
}

fn tell(profile: Profile, duration: Duration, moves: &[Move], stalls: &Stalls, report: &mut Report) {
    let row = |what: &str, value: f64, unit| {
        let sample: Sample = [value].into_iter().collect();
        Row::new(format!("false-moves/{}{what}", profile.name()), unit, Better::Lower, &sample)
    };
    let half_lease_ms = profile.lease_ms() / 2;
    let unexplained = unexplained(moves, &stalls.long);
    println!(
        "{}: {} moves, {unexplained} of them while no canary stood still for {half_lease_ms} ms; canaries did so {} times, \
         for {:.1} ms at most",
        profile.name(),
        moves.len(),
        stalls.count,
        stalls.longest_ms,
    );
    let note = format!("in {} s beside busy processes", duration.as_secs());
    report.rows.push(row("", moves.len() as f64, "moves").note(note));
    report.rows.push(row("/unexplained", unexplained as f64, "moves"));
    report
        .rows
        .push(row("/canary/stalls", stalls.count as f64, "stalls").note(format!("over {half_lease_ms} ms")));
    report.rows.push(row("/canary/longest", stalls.longest_ms, "ms"));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_move_is_explained_by_a_stall_between_the_last_renewal_and_the_commit() {
        let moved = [Move { from: 100, committed: 200 }];
        let stall = |from, to| [Stall { from, to }];
        assert_eq!(unexplained(&moved, &[]), 1);
        assert_eq!(unexplained(&moved, &stall(0, 99)), 1, "it was renewed after that");
        assert_eq!(unexplained(&moved, &stall(0, 100)), 0);
        assert_eq!(unexplained(&moved, &stall(150, 160)), 0);
        assert_eq!(unexplained(&moved, &stall(200, 300)), 0);
        assert_eq!(unexplained(&moved, &stall(201, 300)), 1, "it had moved by then");
    }
}
