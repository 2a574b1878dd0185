//! `bench sync`: flow replication between two daemons of a real cluster, new flows made by real packets through the real
//! dataplane. Everything is on one machine: the generator, both balancers and the endpoints share its processors.

mod bed;
mod conntrackd;
mod cost;
mod generator;
mod lag;
mod requests;
mod scale;
mod snapshot;
mod step;
mod stopped;

use std::time::Duration;

use clap::{Args, ValueEnum};
use lockstep_cluster_tests::{process, wait};

use crate::report::{Better, Report, Row};
use crate::statistics::Sample;
use bed::Bed;
use cost::Spent;
use step::Step;

/// `bench sync`
#[derive(Debug, Args)]
pub(crate) struct Options {
    #[command(flatten)]
    output: crate::Output,
    /// Offered rates of new flows per second, in this order.
    #[arg(long, value_delimiter = ',')]
    rates: Option<Vec<u32>>,
    /// Length of one rate.
    #[arg(long)]
    seconds: Option<f64>,
    /// Only this part.
    #[arg(long)]
    only: Option<Part>,
}

/// What can be measured by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// Offered rates: what arrives, how late, at what cost.
    Rates,
    /// A standby that joins.
    Snapshot,
    /// A standby whose daemon stands still for `--seconds`, and goes on.
    Stopped,
    /// Connections through the owner, with replication and without.
    Requests,
    /// What each node sends, receives and holds, with two, three and five balancers.
    Scale,
    /// conntrackd, beside us.
    Conntrackd,
}

const RATES: [u32; 7] = [1_000, 2_000, 20_000, 50_000, 100_000, 200_000, 300_000];
const QUICK_RATES: [u32; 2] = [2_000, 20_000];
const CONNTRACKD_RATES: [u32; 6] = [2_000, 20_000, 30_000, 40_000, 50_000, 70_000];
/// Flows that a standby finds when it joins.
const SNAPSHOTS: [(&str, u64); 2] = [("100k", 100_000), ("1m", 1_000_000)];
/// Measurements with replication and without, and how long each is.
const PAIRS: (usize, Duration) = (10, Duration::from_secs(2));
const QUICK_PAIRS: (usize, Duration) = (2, Duration::from_secs(1));
const SECONDS: f64 = 3.0;
/// How long a standby stands still.
const STOP: Duration = Duration::from_mins(10);
const QUICK_STOP: Duration = Duration::from_secs(30);
const QUICK_SECONDS: f64 = 1.0;
/// A rate is as long as this many flows at most: the table has room for a few of them.
const MOST: u32 = 300_000;
/// The rate that lags are told of by themselves.
const LAG_RATE: u32 = 20_000;
/// How long the daemons are watched with nothing to do.
const IDLE: Duration = Duration::from_secs(2);

pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    process::take_priority()?;
    let quick = options.output.quick;
    let default: &[u32] = if quick { &QUICK_RATES } else { &RATES };
    let rates = options.rates.clone().unwrap_or_else(|| default.to_vec());
    let seconds = options.seconds.unwrap_or(if quick { QUICK_SECONDS } else { SECONDS });

    let mut report = Report::new("sync")?;
    let only = |part: Part| options.only.is_none_or(|only| only == part);
    let measured = (|| {
        if only(Part::Rates) {
            on_a_bed(|bed| measure(bed, &rates, seconds, &mut report))?;
        }
        if only(Part::Snapshot) {
            // What the rates left in the table would be walked as well.
            let sizes: &[(&str, u64)] = if quick { &SNAPSHOTS[..1] } else { &SNAPSHOTS };
            on_a_bed(|bed| {
                sizes.iter().try_for_each(|(name, flows)| snapshots(bed, name, *flows, &mut report))
            })?;
        }
        anyhow::Ok(())
    })();
    let measured = measured.and_then(|()| {
        if only(Part::Stopped) {
            let length =
                options.seconds.map_or(if quick { QUICK_STOP } else { STOP }, Duration::from_secs_f64);
            report.rows.extend(stopped::measure(length)?);
        }
        if only(Part::Requests) {
            let (pairs, length) = if quick { QUICK_PAIRS } else { PAIRS };
            report.rows.push(requests::measure(pairs, length)?);
        }
        if only(Part::Scale) {
            let clusters: &[usize] = if quick { &scale::NODES[..2] } else { &scale::NODES };
            for balancers in clusters {
                report.rows.extend(scale::measure(*balancers)?);
            }
        }
        Ok(())
    });
    let measured = measured
        .and_then(|()| if only(Part::Conntrackd) { beside(seconds, quick, &mut report) } else { Ok(()) });
    // What was measured before is worth telling in any case.
    report.finish(options.output.json.as_deref())?;
    measured
}

/// A cluster with an empty table. The namespaces of two have the same addresses: there is one at a time.
fn on_a_bed(measure: impl FnOnce(&mut Bed) -> anyhow::Result<()>) -> anyhow::Result<()> {
    let mut bed = Bed::create()?;
    measure(&mut bed).map_err(|error| bed.cluster.explain(error))
}

/// A standby that joins.
fn snapshots(bed: &mut Bed, name: &str, flows: u64, report: &mut Report) -> anyhow::Result<()> {
    let idle = idle(bed)?;
    let snapshot = snapshot::run(bed, flows)?;
    let seconds = snapshot.time.as_secs_f64();
    let note = format!(
        "{} flows; {:.1} s from the start of its process; {:.0} new flows/s meanwhile",
        snapshot.flows,
        snapshot.since_start.as_secs_f64(),
        snapshot.offered,
    );
    println!("snapshot of {name}: {seconds:.2} s, {note}; {}", snapshot.spent.threads(snapshot.flows));
    println!("delays before: {:?}", snapshot.before);
    println!("delays meanwhile: {:?}", snapshot.meanwhile);
    report.rows.push(one(&format!("sync/snapshot_{name}_s"), "s", Better::Lower, seconds).note(note));
    let (cpus, before) = (snapshot.spent.sender_cpus(&idle), snapshot.spent_before.sender_cpus(&idle));
    let row = one(&format!("sync/snapshot_{name}/sender_cpus"), "CPU", Better::Lower, cpus);
    report.rows.push(row.beside(format!("sync/snapshot_{name}/sender_cpus_before"), before));
    report.rows.push(one(&format!("sync/snapshot_{name}/walk_cpus"), "CPU", Better::Lower, cpus - before));
    let forwarding =
        one(&format!("sync/snapshot_{name}/forwarding_p99_ms"), "ms", Better::Lower, snapshot.meanwhile.p99);
    report.rows.push(forwarding.beside(format!("sync/snapshot_{name}/before"), snapshot.before.p99));
    Ok(())
}

/// conntrackd, under the same load and by the same rules.
fn beside(seconds: f64, quick: bool, report: &mut Report) -> anyhow::Result<()> {
    let rates: &[u32] = if quick { &QUICK_RATES } else { &CONNTRACKD_RATES };
    let mut pair = conntrackd::Pair::start()?;
    let idle = pair.idle(IDLE)?;
    let mut best: Option<conntrackd::Step> = None;
    for rate in rates {
        let step = pair.step(*rate, (f64::from(*rate) * seconds) as u32)?;
        let costs = (step.spent.sender_us(&idle, step.flows), step.spent.receiver_us(&idle, step.flows));
        println!(
            "conntrackd {rate}/s: {:.0} flows/s offered, {} lost; sender {:.2} µs, receiver {:.2} µs",
            step.offered, step.lost, costs.0, costs.1
        );
        if step.lossless && best.as_ref().is_none_or(|best| best.offered < step.offered) {
            best = Some(step);
        }
    }
    let Some(best) = best else {
        report.skip("conntrackd/lossless_rate: none of the rates was replicated without loss");
        return Ok(());
    };
    let all = [
        ("lossless_rate", "flows/s", Better::Higher, best.offered),
        ("sender_cpu_us", "µs", Better::Lower, best.spent.sender_us(&idle, best.flows)),
        ("receiver_cpu_us", "µs", Better::Lower, best.spent.receiver_us(&idle, best.flows)),
        ("bytes_per_flow", "B", Better::Lower, best.spent.bytes(&idle, best.flows)),
    ];
    for (what, unit, better, value) in all {
        let name = format!("conntrackd/{what}");
        if let Some(row) = report.rows.iter_mut().find(|row| row.name == format!("sync/{what}")) {
            *row = row.clone().beside(&name, value);
        }
        report.rows.push(one(&name, unit, better, value));
    }
    Ok(())
}

fn measure(bed: &mut Bed, rates: &[u32], seconds: f64, report: &mut Report) -> anyhow::Result<()> {
    let idle = idle(bed)?;
    let mut best: Option<Step> = None;
    for rate in rates.iter().copied().map(Some).chain([None]) {
        let name = rate.map_or("max".to_owned(), |rate| rate.to_string());
        let flows = rate.map_or(MOST, |rate| ((f64::from(rate) * seconds) as u32).min(MOST));
        let step = step::run(bed, rate, flows)?;
        tell(&name, &step, &idle);
        rows(&format!("sync/rate={name}"), &step, &idle, report);
        if rate == Some(LAG_RATE) {
            lags("sync", &step, report);
        }
        if step.lossless && best.as_ref().is_none_or(|best| best.offered < step.offered) {
            best = Some(step);
        }
        wait::pass(Duration::from_millis(500))?;
    }
    match best {
        Some(best) => {
            report.rows.push(one("sync/lossless_rate", "flows/s", Better::Higher, best.offered));
            costs("sync", &best, &idle, report);
        }
        None => report.skip("sync/lossless_rate: none of the rates was replicated without loss"),
    }
    Ok(())
}

fn idle(bed: &mut Bed) -> anyhow::Result<Spent> {
    let watched = bed.watched()?;
    let before = watched.read()?;
    wait::pass(IDLE)?;
    watched.since(&before)
}

fn tell(name: &str, step: &Step, idle: &Spent) {
    println!(
        "{name}/s: {:.0} flows/s offered, {:.0} replicated, {} events lost, {} of {} samples missing; {}; machine {:.2} µs",
        step.offered,
        step.replicated,
        step.lost,
        step.lags.missing,
        step.lags.len(),
        step.spent.threads(step.flows),
        step.spent.machine_us(idle, step.flows),
    );
}

fn rows(name: &str, step: &Step, idle: &Spent, report: &mut Report) {
    let note = if step.lossless { "lossless" } else { "not lossless" };
    let rate = one(&format!("{name}/replicated"), "flows/s", Better::Higher, step.replicated);
    report.rows.push(rate.beside(format!("{name}/offered"), step.offered).note(note));
    costs(name, step, idle, report);
    lags(name, step, report);
}

fn costs(name: &str, step: &Step, idle: &Spent, report: &mut Report) {
    let (spent, flows) = (&step.spent, step.flows);
    let all = [
        ("sender_cpu_us", "µs", spent.sender_us(idle, flows)),
        ("receiver_cpu_us", "µs", spent.receiver_us(idle, flows)),
        ("bytes_per_flow", "B", spent.bytes(idle, flows)),
    ];
    for (what, unit, value) in all {
        report.rows.push(one(&format!("{name}/{what}"), unit, Better::Lower, value));
    }
}

fn lags(name: &str, step: &Step, report: &mut Report) {
    for (what, percent) in [("lag_p50_ms", 50.0), ("lag_p99_ms", 99.0), ("lag_p99.9_ms", 99.9)] {
        match step.lags.percentile_ms(percent) {
            Some(value) => {
                let row = one(&format!("{name}/{what}"), "ms", Better::Lower, value);
                report.rows.push(row.note(format!("{} flows", step.lags.len())));
            }
            None => report.skip(format!("{name}/{what}: no flow was seen to arrive")),
        }
    }
}

fn one(name: &str, unit: &'static str, better: Better, value: f64) -> Row {
    Row::new(name, unit, better, &Sample::from_iter([value]))
}
