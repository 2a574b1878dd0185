//! Time as the machines see it: nanoseconds of this machine's CLOCK_MONOTONIC_RAW, which is never slewed.
//! Instants of two nodes must never be compared; no message carries one.

use std::ops::{Add, Sub};
use std::time::Duration;

use lockstep_model::limits::CLOCK_DRIFT_PERCENT;

/// A reading of the local clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Instant(u64);

impl Instant {
    /// From a clock reading in nanoseconds.
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// The clock reading in nanoseconds.
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// How long ago `earlier` was; zero if it is in the future.
    pub const fn since(self, earlier: Instant) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Instant {
    type Output = Instant;

    fn add(self, rhs: Duration) -> Instant {
        Instant(self.0.saturating_add(u64::try_from(rhs.as_nanos()).unwrap_or(u64::MAX)))
    }
}

impl Sub<Duration> for Instant {
    type Output = Instant;

    fn sub(self, rhs: Duration) -> Instant {
        Instant(self.0.saturating_sub(u64::try_from(rhs.as_nanos()).unwrap_or(u64::MAX)))
    }
}

/// By how much two clocks may drift apart during `duration`.
pub fn drift_over(duration: Duration) -> Duration {
    duration * CLOCK_DRIFT_PERCENT / 100
}

/// A voter suspects an owner from which it has heard nothing valid for this long: late enough for two lost
/// requests in a row, early enough for the next owner to be agreed on while the lease runs out.
pub fn suspect_after(lease: Duration) -> Duration {
    lease * 5 / 6
}

/// How often an owner renews, and a node reports.
pub fn renewal_interval(lease: Duration) -> Duration {
    lease / 3
}
