//! Waiting for a condition with a deadline.

use std::time::{Duration, Instant};

use anyhow::bail;

use crate::interrupt;

/// How often a condition is looked at: far below the durations that are judged, and cheap.
const INTERVAL: Duration = Duration::from_millis(10);

/// Waits until `probe` gives a value. An error of the probe ends the wait; "not yet" is `Ok(None)`.
pub fn until<T>(
    what: &str,
    limit: Duration,
    mut probe: impl FnMut() -> anyhow::Result<Option<T>>,
) -> anyhow::Result<T> {
    let deadline = Instant::now() + limit;
    loop {
        interrupt::check()?;
        if let Some(value) = probe()? {
            return Ok(value);
        }
        if Instant::now() >= deadline {
            bail!("waited {} s for {what}", limit.as_secs_f64());
        }
        std::thread::sleep(INTERVAL);
    }
}

/// As [`until`], for a probe whose errors mean "not yet"; the last one is told when time is up.
pub fn until_ok<T>(
    what: &str,
    limit: Duration,
    mut probe: impl FnMut() -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    let mut last = None;
    until(what, limit, || match probe() {
        Ok(value) => Ok(Some(value)),
        Err(error) => {
            last = Some(error);
            Ok(None)
        }
    })
    .map_err(|error| match last {
        Some(last) => error.context(format!("last attempt: {last:#}")),
        None => error,
    })
}

/// Lets time pass, where time itself is the condition (an interval of undisturbed traffic), ending at once on
/// an interrupt.
pub fn pass(duration: Duration) -> anyhow::Result<()> {
    let end = Instant::now() + duration;
    loop {
        interrupt::check()?;
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(());
        }
        std::thread::sleep(left.min(INTERVAL));
    }
}
