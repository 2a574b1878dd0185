//! Threads that only notice when they do not get to run.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::Context;
use lockstep_cluster_tests::clock::{self, Nanos, between_ms, nanos};

use crate::processor;

/// As the daemons' lease threads: `node/src/lease/realtime.rs`.
const PRIORITY: libc::c_int = 40;
const NAP: Duration = Duration::from_millis(1);
/// Long stalls that are kept one by one; further ones are counted.
const MAX_KEPT: usize = 10_000;

/// A time for which a canary did not run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stall {
    pub(super) from: Nanos,
    pub(super) to: Nanos,
}

/// What the canaries noticed.
#[derive(Debug, Default)]
pub(super) struct Stalls {
    /// Those over the limit.
    pub(super) long: Vec<Stall>,
    pub(super) count: u64,
    pub(super) longest_ms: f64,
}

/// One on each processor; they end when dropped.
pub(super) struct Canaries {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<anyhow::Result<Stalls>>>,
}

impl Canaries {
    /// `limit`: what is longer is kept.
    pub(super) fn start(processors: usize, limit: Duration) -> anyhow::Result<Self> {
        let mut canaries = Canaries { stop: Arc::default(), threads: Vec::new() };
        for processor in 0..processors {
            let stop = canaries.stop.clone();
            let thread = std::thread::Builder::new().name("canary".into()).spawn(move || {
                processor::stay_on(processor)?;
                take_priority()?;
                Ok(sing(limit, &stop))
            });
            canaries.threads.push(thread.context("cannot start a canary")?);
        }
        Ok(canaries)
    }

    /// What all of them noticed.
    pub(super) fn stop(mut self) -> anyhow::Result<Stalls> {
        self.stop.store(true, Ordering::Relaxed);
        let mut all = Stalls::default();
        for thread in self.threads.drain(..) {
            let one = thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
            all.long.extend(one.long);
            all.count += one.count;
            all.longest_ms = all.longest_ms.max(one.longest_ms);
        }
        Ok(all)
    }
}

impl Drop for Canaries {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

fn sing(limit: Duration, stop: &AtomicBool) -> Stalls {
    let mut stalls = Stalls { long: Vec::with_capacity(MAX_KEPT), ..Stalls::default() };
    let mut before = clock::now();
    while !stop.load(Ordering::Relaxed) {
        std::thread::sleep(NAP);
        let now = clock::now();
        let stall = Stall { from: before + nanos(NAP), to: now };
        before = now;
        if stall.to <= stall.from {
            continue;
        }
        stalls.longest_ms = stalls.longest_ms.max(between_ms(stall.from, stall.to));
        if stall.to - stall.from > nanos(limit) {
            stalls.count += 1;
            if stalls.long.len() < MAX_KEPT {
                stalls.long.push(stall);
            }
        }
    }
    stalls
}

fn take_priority() -> anyhow::Result<()> {
    let param = libc::sched_param { sched_priority: PRIORITY };
    // SAFETY: pid 0 is the calling thread; the kernel copies the parameter.
    let result = unsafe { libc::sched_setscheduler(0, libc::SCHED_FIFO, &raw const param) };
    if result == 0 {
        return Ok(());
    }
    Err(std::io::Error::last_os_error()).context("no real-time priority for a canary: run it as root")
}
