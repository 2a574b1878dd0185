//! The harness's clock: CLOCK_MONOTONIC in nanoseconds, one base for threads, captures and the nodes' records.

use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

/// A point of CLOCK_MONOTONIC, ns.
pub type Nanos = u64;

/// Now.
pub fn now() -> Nanos {
    read(ClockId::CLOCK_MONOTONIC)
}

/// What to subtract from CLOCK_REALTIME to get CLOCK_MONOTONIC. Kernel packet timestamps are real time; they
/// are converted with the offset of the capture's start.
pub fn realtime_offset() -> Nanos {
    let before = now();
    let real = read(ClockId::CLOCK_REALTIME);
    let after = now();
    real - (before + (after - before) / 2)
}

/// A duration in the clock's unit.
pub const fn nanos(duration: Duration) -> Nanos {
    duration.as_nanos() as Nanos
}

/// Nanoseconds as milliseconds.
pub fn to_ms(nanos: Nanos) -> f64 {
    nanos as f64 / 1e6
}

/// Milliseconds from `from` to `to`, negative when `to` is earlier.
pub fn between_ms(from: Nanos, to: Nanos) -> f64 {
    (to as i128 - from as i128) as f64 / 1e6
}

fn read(clock: ClockId) -> Nanos {
    let time = clock_gettime(clock).expect("the clock exists on every Linux");
    time.tv_sec() as Nanos * 1_000_000_000 + time.tv_nsec() as Nanos
}
