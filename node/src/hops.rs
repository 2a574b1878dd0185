//! The thread that keeps the next hops. It waits for netlink and writes maps; nothing waits for it.

use std::io;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use lockstep_loader::{HopReport, HopSink, HopStats, HopStopper, HopWatcher};

/// The longest wait of a step that has nothing to do.
const IDLE: Duration = Duration::from_secs(10);
/// After a step that failed.
const PAUSE: Duration = Duration::from_millis(100);

/// A handle to the thread.
pub(crate) struct Hops {
    stopper: HopStopper,
    seen: Arc<Mutex<Seen>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// What the thread last said.
#[derive(Debug, Clone, Copy, Default)]
struct Seen {
    stats: HopStats,
    failures: u64,
}

impl Hops {
    pub(crate) fn start<S: HopSink + 'static>(watcher: HopWatcher<S>) -> io::Result<Self> {
        let stopper = watcher.stopper();
        let seen = Arc::new(Mutex::new(Seen { stats: watcher.stats(), failures: 0 }));
        tracing::info!(hops = watcher.stats().table.hops, "next hops read");
        let run = {
            let (stopper, seen) = (stopper.clone(), seen.clone());
            move || run(watcher, &stopper, &seen)
        };
        let thread = std::thread::Builder::new().name("hops".into()).spawn(run)?;
        Ok(Self { stopper, seen, thread: Mutex::new(Some(thread)) })
    }

    /// Ends the thread. From then on no hop is usable, and the programs ask the kernel for each packet.
    pub(crate) fn stop(&self) {
        if let Err(error) = self.stopper.stop() {
            tracing::error!(%error, "the thread that keeps the next hops cannot be told to stop");
            return;
        }
        let thread = self.thread.lock().expect("no holder panics").take();
        if thread.is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the thread that keeps the next hops panicked");
        }
    }

    /// Counters by name.
    pub(crate) fn counters(&self) -> Vec<(String, u64)> {
        let Seen { stats, failures } = self.seen();
        [
            ("stamps", stats.table.raises),
            ("rereads", stats.rereads),
            ("lost", stats.table.lost),
            ("full", stats.table.full),
            ("not_tracked", stats.table.not_tracked),
            ("refreshes", stats.refreshes),
            ("refresh_failures", stats.refresh_failures),
            ("failures", failures),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into()
    }

    /// How things stand: name, meaning, value.
    pub(crate) fn gauges(&self) -> [(&'static str, &'static str, u64); 3] {
        let table = self.seen().stats.table;
        [
            ("hops_usable", "Next hops that the fast path may take", table.hops),
            ("hops_idle", "Next hops that do not answer now, or whose link is down", table.idle),
            (
                "hops_left_out",
                "Neighbours that the table has no room for: their packets are slower",
                table.left_out,
            ),
        ]
    }

    fn seen(&self) -> Seen {
        *self.seen.lock().expect("no holder panics")
    }
}

fn run<S: HopSink>(mut watcher: HopWatcher<S>, stopper: &HopStopper, seen: &Mutex<Seen>) {
    while !stopper.is_stopped() {
        let step = watcher.step(IDLE);
        let mut seen = seen.lock().expect("no holder panics");
        match step {
            Ok(report) => {
                tell(&seen.stats, &report);
                seen.stats = report.stats;
            }
            Err(error) => {
                seen.failures += 1;
                drop(seen);
                tracing::error!(%error, "the next hops cannot be kept; tried again");
                std::thread::sleep(PAUSE);
            }
        }
    }
    if let Err(error) = watcher.close() {
        tracing::error!(%error, "the next hops stay as they are: what moves now is not noticed");
    }
}

fn tell(before: &HopStats, report: &HopReport) {
    if let Some(reread) = &report.reread {
        let (links, neighbours) = (reread.links, reread.neighbours);
        tracing::warn!(reason = reread.reason, links, neighbours, "links and neighbours read again");
    }
    for lost in &report.lost {
        tracing::info!(interface = lost.interface, address = %lost.address, "next hop lost");
    }
    let unnamed = report.lost_count - report.lost.len() as u64;
    if unnamed > 0 {
        tracing::info!(unnamed, "more next hops lost");
    }
    let left_out = report.stats.table.left_out;
    if left_out > 0 && before.table.left_out == 0 {
        tracing::warn!(left_out, "the next hop table is full: packets to other neighbours are slower");
    }
    if let Some(error) = &report.refresh_error {
        tracing::warn!(error, "the kernel would not probe a next hop");
    }
}
