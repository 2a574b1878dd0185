//! `bench raft`: commits of small changes by some writers at once, on clusters of one and of three nodes in this process:
//! the real store, real files, gRPC over the loopback interface. Beside it, in the same rounds and on the same disk, a
//! bare append and fdatasync of as many bytes for as many writers at once, which is what a commit cannot do without.
//!
//! Three nodes share one disk here, which does the work of three.

mod cluster;
mod floor;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Context;
use clap::Args;
use lockstep_cluster_tests::interrupt;

use crate::report::{Better, Report, Row};
use crate::statistics::Sample;
use cluster::Cluster;

/// `bench raft`
#[derive(Debug, Args)]
pub(crate) struct Options {
    #[command(flatten)]
    output: crate::Output,
    /// Rounds; in each, everything is measured once.
    #[arg(long)]
    rounds: Option<usize>,
    /// Length of one measurement.
    #[arg(long)]
    seconds: Option<f64>,
    /// Where the logs are written: a disk, or the figures are of something else.
    #[arg(long, value_name = "DIR", default_value = "/var/tmp")]
    dir: PathBuf,
}

const NODES: [usize; 2] = [1, 3];
const WRITERS: [usize; 3] = [1, 8, 64];
const ROUNDS: usize = 5;
const SECONDS: f64 = 2.0;
const QUICK_ROUNDS: usize = 2;
const QUICK_SECONDS: f64 = 0.3;

/// What some writers did for a while.
#[derive(Debug, Clone)]
struct Measured {
    /// How long each commit took, in any order.
    took: Vec<Duration>,
    /// For how long they went on.
    elapsed: Duration,
}

/// A median over the rounds of each figure.
#[derive(Debug, Default)]
struct Figures {
    per_second: Sample,
    p50_us: Sample,
    p99_us: Sample,
    commits: usize,
}

impl Figures {
    fn add(&mut self, mut measured: Measured) -> anyhow::Result<()> {
        anyhow::ensure!(!measured.took.is_empty(), "nothing was committed within {:?}", measured.elapsed);
        measured.took.sort_unstable();
        let count = measured.took.len();
        let at = |share: f64| {
            let index = ((count - 1) as f64 * share).round() as usize;
            measured.took[index].as_secs_f64() * 1e6
        };
        self.per_second.push(count as f64 / measured.elapsed.as_secs_f64());
        self.p50_us.push(at(0.50));
        self.p99_us.push(at(0.99));
        self.commits += count;
        Ok(())
    }

    /// Name, unit, direction and sample of each.
    fn each(&self) -> [(&'static str, &'static str, Better, &Sample); 3] {
        [
            ("commits_per_second", "1/s", Better::Higher, &self.per_second),
            ("commit_p50_us", "us", Better::Lower, &self.p50_us),
            ("commit_p99_us", "us", Better::Lower, &self.p99_us),
        ]
    }
}

pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let quick = options.output.quick;
    let rounds = options.rounds.unwrap_or(if quick { QUICK_ROUNDS } else { ROUNDS }).max(1);
    let seconds = options.seconds.unwrap_or(if quick { QUICK_SECONDS } else { SECONDS });
    let length = Duration::try_from_secs_f64(seconds)?;
    let mut report = Report::new("raft")?;
    let dir = tempfile::Builder::new().prefix("lockstep-bench-raft-").tempdir_in(&options.dir);
    let dir =
        dir.with_context(|| format!("--dir {}: no directory can be made there", options.dir.display()))?;
    let measured = measure_all(dir.path(), rounds, length, &mut report);
    // What was measured before is worth telling in any case.
    report.finish(options.output.json.as_deref())?;
    measured
}

fn measure_all(
    dir: &std::path::Path,
    rounds: usize,
    length: Duration,
    report: &mut Report,
) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    for nodes in NODES {
        let cluster = runtime.block_on(Cluster::start(nodes, &dir.join(format!("nodes={nodes}"))))?;
        for writers in WRITERS {
            let (mut ours, mut floor) = (Figures::default(), Figures::default());
            let (mut records, mut bytes, mut syncs) = (0, 0, 0);
            for round in 0..rounds {
                interrupt::check()?;
                let before = cluster.log();
                ours.add(runtime.block_on(cluster.write(writers, length))?)?;
                let log = cluster.log().since(&before);
                (records, bytes, syncs) = (records + log.records, bytes + log.bytes, syncs + log.syncs);
                floor.add(floor::measure(dir, floor::bytes_each(&log), writers, length)?)?;
                println!("nodes={nodes} writers={writers} round {} of {rounds}", round + 1);
            }
            let case = format!("nodes={nodes}/writers={writers}");
            let note = format!(
                "{} commits; {:.2} commits a sync, {} bytes each on the leader's disk",
                ours.commits,
                ours.commits as f64 / syncs.max(1) as f64,
                bytes / ours.commits.max(1) as u64,
            );
            anyhow::ensure!(records >= ours.commits as u64, "{} commits, {records} records", ours.commits);
            for ((name, unit, better, sample), (.., baseline)) in ours.each().into_iter().zip(floor.each()) {
                let base = format!("fdatasync/{name}/{case}");
                let row = Row::new(format!("raft/{name}/{case}"), unit, better, sample);
                report.rows.push(row.beside(&base, baseline.median()).note(&note));
                report.rows.push(Row::new(base, unit, better, baseline));
            }
        }
        runtime.block_on(cluster.stop());
    }
    Ok(())
}

/// Runs `once` until `length` has passed.
fn repeat(length: Duration, mut once: impl FnMut() -> anyhow::Result<()>) -> anyhow::Result<Measured> {
    let begun = Instant::now();
    let mut took = Vec::new();
    while begun.elapsed() < length {
        let at = Instant::now();
        once()?;
        took.push(at.elapsed());
    }
    Ok(Measured { took, elapsed: begun.elapsed() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_those_of_what_was_measured() {
        let mut figures = Figures::default();
        let took = (1..=100).rev().map(Duration::from_micros).collect();
        figures.add(Measured { took, elapsed: Duration::from_secs(2) }).expect("a hundred commits");
        assert_eq!(figures.per_second.median(), 50.0);
        assert_eq!((figures.p50_us.median().round(), figures.p99_us.median().round()), (51.0, 99.0));
        let nothing = Measured { took: Vec::new(), elapsed: Duration::from_secs(1) };
        assert!(figures.add(nothing).is_err());
    }
}
