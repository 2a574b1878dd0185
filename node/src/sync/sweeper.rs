//! The thread that ages flows, at a bounded share of a processor.

use std::time::Duration;

use tokio::sync::mpsc;

use super::driver::Done;
use super::table::Ager;
use super::writer::Owned;

/// Between two steps.
const PAUSE: Duration = Duration::from_millis(50);

/// Entries of a step: a table of a million flows is seen every 25 s, at a few percent of a processor.
const BUDGET: usize = 4096;

/// Starts the thread; it ends with the driver.
pub(super) fn start<A: Ager>(
    mut ager: A,
    owned: Owned,
    done: mpsc::UnboundedSender<Done>,
) -> std::io::Result<()> {
    let run = move || {
        while !done.is_closed() {
            std::thread::sleep(PAUSE);
            // Before the step: a removal is told under the epoch it may have happened in, or an older one, and
            // then the walk of the newer one tells it.
            let epochs = owned.snapshot();
            match ager.step(BUDGET) {
                Ok(removed) if removed.is_empty() => {}
                Ok(removed) => {
                    let known = |group| epochs.get(&group).copied().unwrap_or_default();
                    let removed = removed.into_iter().map(|change| (known(change.group()), change)).collect();
                    if done.send(Done::Removed(removed)).is_err() {
                        return;
                    }
                }
                Err(error) => tracing::warn!(%error, "idle flows cannot be looked for"),
            }
        }
    };
    std::thread::Builder::new().name("flow-sweeper".into()).spawn(run)?;
    Ok(())
}
