//! As many schedules as a test run has time for; `cargo xtask sim` runs more.

use std::sync::atomic::{AtomicU64, Ordering};

use lockstep_sim::schedule::{Options, Report, run};

/// About 25 s of computing time: 13 s on two idle cores.
const SCHEDULES: u64 = 600;

/// Runs every seed on all cores.
fn reports(seeds: std::ops::Range<u64>) -> Vec<Report> {
    let next = AtomicU64::new(seeds.start);
    let worker = || {
        let mut reports = Vec::new();
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds.end {
                return reports;
            }
            reports.push(run(seed, Options::default()));
        }
    };
    std::thread::scope(|scope| {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let threads: Vec<_> = (0..cores).map(|_| scope.spawn(worker)).collect();
        threads.into_iter().flat_map(|t| t.join().expect("a schedule does not panic")).collect()
    })
}

#[test]
fn i3_single_owner_and_no_write_lost_in_whole_clusters() {
    let reports = reports(0..SCHEDULES);
    for report in &reports {
        assert_eq!(report.violation, None, "cargo xtask sim --seeds 1 --seed {} --trace", report.seed);
    }
    // Runs in which nothing is served and nothing is written prove nothing.
    let sum = |of: fn(&Report) -> u64| reports.iter().map(of).sum::<u64>();
    assert!(sum(|r| r.leases_opened) > 2 * SCHEDULES, "{} leases opened", sum(|r| r.leases_opened));
    assert!(sum(|r| r.writes) > 4 * SCHEDULES, "{} writes acknowledged", sum(|r| r.writes));
    assert!(sum(|r| r.reads) > 2 * SCHEDULES, "{} reads answered", sum(|r| r.reads));
}

#[test]
fn two_runs_of_a_seed_are_byte_equal() {
    let options = Options { keep_text: true, ..Options::default() };
    let mut lines = 0;
    for seed in 0..12 {
        let (one, other) = (run(seed, options), run(seed, options));
        let differs = one.text.lines().zip(other.text.lines()).find(|(a, b)| a != b);
        assert_eq!(differs, None, "seed {seed}");
        assert_eq!((one.hash, one.lines), (other.hash, other.lines), "seed {seed}");
        assert!(one.lines > 0, "seed {seed}: the trace is empty");
        lines += one.lines;
    }
    assert!(lines > 12 * 300, "{lines} lines: too little happens for equality to mean anything");
    assert_ne!(run(1, options).hash, run(2, options).hash, "the seed matters");
}
