//! `bench failover`: how long nobody answers when a balancer fails or hands over, beside keepalived between the same
//! namespaces.
//!
//! One cluster for each profile serves all its faults, one after the other: after each, what failed is brought back,
//! everything is waited for, and the other balancer is hit. A probe asks every millisecond all the time, and TCP
//! flows that write at 100 Hz live from the first fault to the last: one that does not fails the benchmark.

mod baseline;
mod bed;
mod kind;
mod stability;
mod tally;

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::ensure;
use clap::Args;
use lockstep_cluster_tests::manifest::Profile;
use lockstep_cluster_tests::{interrupt, process};

use crate::report::Report;
use baseline::Advert;
use bed::Bed;
use kind::Kind;
use tally::Tally;

/// Runs of each fault with the profile that is judged by its 99th percentile …
const RUNS_FAST: usize = 300;
/// … and with the others.
const RUNS: usize = 50;
const RUNS_QUICK: usize = 3;
/// keepalived's default takes 3 s for each run.
const RUNS_SLOW_BASELINE: usize = 20;
/// How long false moves are counted.
const WATCHED_S: u64 = 600;
const WATCHED_QUICK_S: u64 = 20;

/// `bench failover`
#[derive(Debug, Args)]
pub(crate) struct Options {
    #[command(flatten)]
    output: crate::Output,
    /// Runs of each row; 300 with the profile fast, 50 with others and of keepalived if not given.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1000))]
    runs: Option<u32>,
    /// Only this fault: power, power-leader, kill, link or handover. Repeatable.
    #[arg(long, value_parser = Kind::parse)]
    fault: Vec<Kind>,
    /// Only this profile: fast, lan or wan. Repeatable.
    #[arg(long, value_parser = Profile::parse)]
    profile: Vec<Profile>,
    /// Without keepalived: rows have no baseline then.
    #[arg(long)]
    no_baseline: bool,
    /// Nothing fails: counts how often a group moves all the same, beside busy processes, with each `--profile` (lan, if
    /// none is given).
    #[arg(long, conflicts_with_all = ["runs", "fault", "no_baseline"])]
    false_moves: bool,
    /// For how long it counts false moves; 600, with `--quick` 20 if not given.
    #[arg(long, requires = "false_moves", value_parser = clap::value_parser!(u64).range(1..=86_400))]
    seconds: Option<u64>,
}

impl Options {
    fn runs(&self, default: usize) -> usize {
        match self.runs {
            Some(runs) => runs as usize,
            None if self.output.quick => RUNS_QUICK,
            None => default,
        }
    }

    fn watched(&self) -> Duration {
        Duration::from_secs(self.seconds.unwrap_or(if self.output.quick {
            WATCHED_QUICK_S
        } else {
            WATCHED_S
        }))
    }
}

pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let mut report = Report::new("failover")?;
    if options.false_moves {
        let measured = count_false_moves(options, &mut report);
        report.finish(options.output.json.as_deref())?;
        return measured;
    }
    process::take_priority()?;
    let mut baselines = BTreeMap::new();
    // What was measured before a failure is worth telling in any case.
    let measured = measure(options, &mut report, &mut baselines);
    report.finish(options.output.json.as_deref())?;
    measured
}

/// Without raised priority: the cluster competes as any other process does.
fn count_false_moves(options: &Options, report: &mut Report) -> anyhow::Result<()> {
    let profiles = if options.profile.is_empty() { &[Profile::Lan][..] } else { &options.profile };
    profiles.iter().try_for_each(|profile| stability::measure(*profile, options.watched(), report))
}

fn measure(
    options: &Options,
    report: &mut Report,
    baselines: &mut BTreeMap<Advert, Tally>,
) -> anyhow::Result<()> {
    for advert in Advert::ALL {
        if options.no_baseline {
            report.skip(format!("{}: --no-baseline", advert.row("p50")));
            continue;
        }
        let default = if advert == Advert::Second { RUNS_SLOW_BASELINE } else { RUNS };
        let tally = baseline::measure(advert, options.runs(default))?;
        tally.report_baseline(advert, report);
        baselines.insert(advert, tally);
    }
    let mut lost = 0;
    for profile in Profile::ALL {
        if !wanted(&options.profile, profile) {
            continue;
        }
        let mut bed = Bed::start(profile)?;
        let outcome = all_faults(options, profile, &mut bed, baselines, report);
        let outcome = outcome.map_err(|error| bed.explain(error));
        let finished = bed.finish(profile, report);
        // What went wrong first says most.
        outcome?;
        lost += finished?;
    }
    ensure!(lost == 0, "{lost} TCP flows did not survive");
    Ok(())
}

fn all_faults(
    options: &Options,
    profile: Profile,
    bed: &mut Bed,
    baselines: &BTreeMap<Advert, Tally>,
    report: &mut Report,
) -> anyhow::Result<()> {
    let default = if profile == Profile::Fast { RUNS_FAST } else { RUNS };
    let runs = options.runs(default);
    for kind in Kind::ALL {
        if !wanted(&options.fault, kind) {
            continue;
        }
        let mut tally = Tally::default();
        let mut outcome = Ok(());
        for run in 1..=runs {
            interrupt::check()?;
            outcome = bed.fail_over(kind).map(|measured| tally.add(&measured));
            if outcome.is_err() {
                break;
            }
            println!("{}/{} {run} of {runs}: {}", kind.name(), profile.name(), tally.last());
        }
        tally.report(kind, profile, baselines, report);
        outcome?;
    }
    Ok(())
}

fn wanted<T: PartialEq>(only: &[T], this: T) -> bool {
    only.is_empty() || only.contains(&this)
}
