//! Runs seeds, and says which of them break something.

use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::channel;
use std::time::Instant;

use clap::Parser;
use lockstep_sim::schedule::{Options, Report, run};

#[derive(Parser)]
#[command(name = "cargo xtask sim", about = "Deterministic simulation of whole clusters in virtual time")]
struct Arguments {
    /// How many schedules
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    seeds: u64,
    /// The first one's seed
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Threads; default: one for each core
    #[arg(long)]
    jobs: Option<usize>,
    /// Print every event of every schedule
    #[arg(long)]
    trace: bool,
    /// How far the clocks' rates are apart, in per cent. More than 1 is beyond what I3 allows
    #[arg(long, default_value_t = 1)]
    drift: u64,
    /// Go on after a violation
    #[arg(long)]
    keep_going: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let options = Options { keep_text: arguments.trace, drift: arguments.drift };
    let end = arguments.seed.saturating_add(arguments.seeds);
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let jobs = arguments.jobs.unwrap_or(cores).clamp(1, 64);
    let next = AtomicU64::new(arguments.seed);
    let start = Instant::now();
    let mut sum = Sum::default();
    let (reports, received) = channel();
    std::thread::scope(|scope| {
        for _ in 0..jobs {
            let (next, reports) = (&next, reports.clone());
            scope.spawn(move || {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= end || reports.send(run(seed, options)).is_err() {
                        return;
                    }
                }
            });
        }
        drop(reports);
        for report in received {
            print!("{}", report.text);
            if let Some(violation) = &report.violation {
                println!("seed {}: {violation}", report.seed);
                println!("  again: cargo xtask sim --seeds 1 --seed {} --trace", report.seed);
                if !arguments.keep_going {
                    next.store(end, Ordering::Relaxed);
                }
            }
            sum.add(&report);
        }
    });
    let seconds = start.elapsed().as_secs_f64();
    println!(
        "{} schedules, {} violations; {:.0} s of virtual time in {seconds:.1} s; {} leases opened, {} writes acknowledged, {} reads; trace {:016x}",
        sum.schedules,
        sum.violations,
        sum.virtual_ns as f64 / 1e9,
        sum.leases,
        sum.writes,
        sum.reads,
        sum.hash
    );
    if sum.violations == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Of all schedules; the same in whatever order they end.
#[derive(Default)]
struct Sum {
    schedules: u64,
    violations: u64,
    virtual_ns: u64,
    leases: u64,
    writes: u64,
    reads: u64,
    hash: u64,
}

impl Sum {
    fn add(&mut self, report: &Report) {
        self.schedules += 1;
        self.violations += u64::from(report.violation.is_some());
        self.virtual_ns += report.virtual_ns;
        self.leases += report.leases_opened;
        self.writes += report.writes;
        self.reads += report.reads;
        self.hash = self.hash.wrapping_add(report.hash);
    }
}
