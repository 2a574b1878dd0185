//! The kernel's clock as the programs read it: `bpf_ktime_get_ns` is CLOCK_MONOTONIC.

use std::time::Duration;

use nix::time::{ClockId, clock_getres, clock_gettime};

/// An instant of CLOCK_MONOTONIC, in nanoseconds: what leases, births and `last_seen` are written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct KernelInstant(pub u64);

impl KernelInstant {
    /// The precise clock, now.
    pub fn now() -> Self {
        let time = clock_gettime(ClockId::CLOCK_MONOTONIC).expect("CLOCK_MONOTONIC exists on every Linux");
        Self(Duration::from(time).as_nanos() as u64)
    }

    /// Later by `duration`.
    pub fn plus(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(duration.as_nanos() as u64))
    }

    /// How long ago `earlier` was; zero if it is not in the past.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

/// How far the coarse clock moves at once.
pub(crate) fn tick() -> Duration {
    clock_getres(ClockId::CLOCK_MONOTONIC_COARSE)
        .map(Duration::from)
        .expect("CLOCK_MONOTONIC_COARSE exists on every Linux")
}
