//! How late a flow is on the standby, kernel to kernel.
//!
//! Both kernels are one, and so are their clocks: an entry carries its birth, which the owner's program read from
//! `CLOCK_MONOTONIC`. A thread looks keys up in the standby's map until they are there, and reads the same clock then.
//! What it measures is too long by the time between two looks, never too short.

use std::collections::VecDeque;
use std::mem::{offset_of, size_of};
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow};
use aya::maps::MapData;
use lockstep_abi::flow::{FlowKey4, FlowValue4};
use lockstep_cluster_tests::clock;

use crate::bpf;

/// Between two looks.
const PAUSE: Duration = Duration::from_micros(50);
/// Keys looked up in one round, the oldest first.
const ROUND: usize = 32;
/// A flow that is not there after this never will be by itself.
const PATIENCE: Duration = Duration::from_secs(10);

/// Delays, ns.
#[derive(Debug, Clone, Default)]
pub(crate) struct Lags {
    sorted: Vec<u64>,
    /// Flows that did not come.
    pub(crate) missing: usize,
}

impl Lags {
    pub(crate) fn len(&self) -> usize {
        self.sorted.len()
    }

    /// By the nearest-rank method, ms; none of no measurement.
    pub(crate) fn percentile_ms(&self, percent: f64) -> Option<f64> {
        let rank = (self.sorted.len() as f64 * percent / 100.0).ceil().max(1.0) as usize;
        self.sorted.get(rank - 1).map(|lag| *lag as f64 / 1e6)
    }
}

/// The thread that looks. Dropping `samples` ends it, once what it was told of is there or has been waited for.
pub(crate) struct Watcher {
    pub(crate) samples: Sender<FlowKey4>,
    thread: JoinHandle<anyhow::Result<Lags>>,
}

impl Watcher {
    /// Looks at the pinned map `table`.
    pub(crate) fn start(table: &Path) -> anyhow::Result<Self> {
        let map = MapData::from_pin(table).with_context(|| format!("cannot open {}", table.display()))?;
        let (samples, told) = channel();
        let work = move || {
            first()?;
            watch(&map, &told)
        };
        let thread = std::thread::Builder::new().name("lag".into()).spawn(work);
        Ok(Watcher { samples, thread: thread.context("cannot start a thread")? })
    }

    pub(crate) fn finish(self) -> anyhow::Result<Lags> {
        drop(self.samples);
        let mut lags = self.thread.join().map_err(|_| anyhow!("the thread that looks panicked"))??;
        lags.sorted.sort_unstable();
        Ok(lags)
    }
}

/// Before every other thread, for the moments it needs: it would measure its own wait for a processor.
fn first() -> anyhow::Result<()> {
    let parameters = libc::sched_param { sched_priority: 1 };
    // SAFETY: a whole sched_param; 0 means the calling thread.
    let set = unsafe { libc::sched_setscheduler(0, libc::SCHED_FIFO, &parameters) };
    anyhow::ensure!(set == 0, "cannot get real-time priority: {}", std::io::Error::last_os_error());
    Ok(())
}

fn watch(map: &MapData, told: &Receiver<FlowKey4>) -> anyhow::Result<Lags> {
    let mut lags = Lags::default();
    let mut waiting: VecDeque<(FlowKey4, Instant)> = VecDeque::new();
    let mut more = true;
    while more || !waiting.is_empty() {
        let patience = if waiting.is_empty() { Duration::from_millis(100) } else { PAUSE };
        match told.recv_timeout(patience) {
            Ok(key) => waiting.push_back((key, Instant::now())),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => {
                more = false;
                std::thread::sleep(PAUSE);
            }
        }
        while let Ok(key) = told.try_recv() {
            waiting.push_back((key, Instant::now()));
        }
        let mut failed = None;
        let mut looked = 0;
        waiting.retain(|(key, since)| {
            looked += 1;
            if looked > ROUND || failed.is_some() {
                return true;
            }
            match birth(map, key) {
                Ok(Some(birth)) => {
                    lags.sorted.push(clock::now().saturating_sub(birth));
                    false
                }
                Ok(None) if since.elapsed() > PATIENCE => {
                    lags.missing += 1;
                    false
                }
                Ok(None) => true,
                Err(error) => {
                    failed = Some(error);
                    true
                }
            }
        });
        if let Some(error) = failed {
            return Err(error);
        }
    }
    Ok(lags)
}

/// When the flow was made, if the table has it.
fn birth(map: &MapData, key: &FlowKey4) -> anyhow::Result<Option<u64>> {
    const AT: usize = offset_of!(FlowValue4, birth_ns);
    // SAFETY: a FlowKey4 is as many bytes, without padding of the compiler's.
    let key =
        unsafe { std::slice::from_raw_parts(std::ptr::from_ref(key).cast::<u8>(), size_of::<FlowKey4>()) };
    let mut value = [0u8; size_of::<FlowValue4>()];
    match bpf::lookup(map.fd().as_fd(), key, &mut value) {
        Ok(()) => Ok(Some(u64::from_ne_bytes(value[AT..AT + 8].try_into().expect("eight bytes")))),
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(None),
        Err(error) => Err(error).context("cannot look a flow up"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_by_nearest_rank() {
        let lags = Lags { sorted: (1..=1000).map(|ms| ms * 1_000_000).collect(), missing: 0 };
        assert_eq!(lags.percentile_ms(50.0), Some(500.0));
        assert_eq!(lags.percentile_ms(99.9), Some(999.0));
        assert_eq!(Lags::default().percentile_ms(50.0), None);
    }
}
