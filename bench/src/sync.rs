//! `bench sync`: flow replication between two daemons of a real cluster, new flows made by real packets through the real
//! dataplane. Everything is on one machine: the generator, both balancers and the endpoints share its processors.

mod bed;
mod cost;
mod generator;
mod lag;
mod step;

use std::time::Duration;

use clap::Args;
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
}

const RATES: [u32; 7] = [1_000, 2_000, 20_000, 50_000, 100_000, 200_000, 300_000];
const QUICK_RATES: [u32; 2] = [2_000, 20_000];
const SECONDS: f64 = 3.0;
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
    let mut bed = Bed::create()?;
    let measured = measure(&mut bed, &rates, seconds, &mut report);
    // What was measured before is worth telling in any case.
    report.finish(options.output.json.as_deref())?;
    measured.map_err(|error| bed.cluster.explain(error))
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
