//! How long changes take until a peer has confirmed them: from the change in this node's kernel to the acknowledgement, so by
//! one clock, the way back included.

use std::time::Duration;

use crate::time::Time;

/// Quantiles are over this one and the one before.
const PERIOD: Duration = Duration::from_secs(10);

/// Below this everything is alike.
const FIRST_BITS: u32 = 10;
/// Steps for each doubling: a quantile is too high by a quarter at most, never too low.
const STEPS_BITS: u32 = 2;
const STEPS: usize = 1 << STEPS_BITS;
/// Up to 2^37 ns, more than two minutes.
const BUCKETS: usize = 27 * STEPS;

#[derive(Debug, Clone)]
struct Histogram {
    counts: [u32; BUCKETS],
    samples: u64,
    max: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { counts: [0; BUCKETS], samples: 0, max: 0 }
    }
}

fn bucket(nanos: u64) -> usize {
    let nanos = nanos.max(1 << FIRST_BITS);
    let octave = nanos.ilog2();
    let step = (nanos >> (octave - STEPS_BITS)) as usize & (STEPS - 1);
    ((octave - FIRST_BITS) as usize * STEPS + step).min(BUCKETS - 1)
}

/// The first value behind a bucket.
fn end(bucket: usize) -> u64 {
    let (octave, step) = ((bucket / STEPS) as u32 + FIRST_BITS, (bucket % STEPS) as u64);
    (1 << octave) + ((step + 1) << (octave - STEPS_BITS))
}

/// The delays to one peer and of one group, lately.
#[derive(Debug, Default)]
pub(super) struct Lags {
    period: u64,
    now: Histogram,
    before: Histogram,
}

/// Quantiles of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Lag {
    /// Of how many changes.
    pub samples: u64,
    /// Half of them took no longer.
    pub p50: Duration,
    /// 99 of 100 took no longer.
    pub p99: Duration,
    /// The longest.
    pub max: Duration,
}

impl Lags {
    pub(super) fn add(&mut self, now: Time, lag: Duration) {
        self.turn(now);
        let nanos = u64::try_from(lag.as_nanos()).unwrap_or(u64::MAX);
        self.now.counts[bucket(nanos)] += 1;
        self.now.samples += 1;
        self.now.max = self.now.max.max(nanos);
    }

    pub(super) fn read(&mut self, now: Time) -> Lag {
        self.turn(now);
        let samples = self.now.samples + self.before.samples;
        let max = self.now.max.max(self.before.max);
        let quantile = |percent: u64| {
            let rank = (samples * percent).div_ceil(100);
            let mut seen = 0;
            let both = self.now.counts.iter().zip(&self.before.counts);
            let found = both.map(|(a, b)| u64::from(*a) + u64::from(*b)).position(|count| {
                seen += count;
                seen >= rank
            });
            Duration::from_nanos(if samples == 0 { 0 } else { end(found.unwrap_or(BUCKETS - 1)).min(max) })
        };
        Lag { samples, p50: quantile(50), p99: quantile(99), max: Duration::from_nanos(max) }
    }

    fn turn(&mut self, now: Time) {
        let period = now.as_nanos() / PERIOD.as_nanos() as u64;
        if period == self.period {
            return;
        }
        let last = std::mem::take(&mut self.now);
        self.before = if period == self.period + 1 { last } else { Histogram::default() };
        self.period = period;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_ends_behind_what_is_in_it_and_not_far() {
        for nanos in [1, 1023, 1024, 1500, 40_000, 999_999, 1_000_000, 123_456_789, 60_000_000_000] {
            let end = end(bucket(nanos));
            assert!(end > nanos && (end <= nanos + nanos / 4 + 1 || nanos < 1024), "{nanos}: {end}");
        }
        assert_eq!(bucket(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn quantiles_are_of_the_last_two_periods() {
        let (mut lags, at) = (Lags::default(), |seconds: u64| Time::from_nanos(seconds * 1_000_000_000));
        (1..=99).for_each(|_| lags.add(at(1), Duration::from_micros(200)));
        lags.add(at(1), Duration::from_millis(30));
        let lag = lags.read(at(2));
        assert_eq!((lag.samples, lag.max), (100, Duration::from_millis(30)));
        assert!(lag.p50 >= Duration::from_micros(200) && lag.p99 < Duration::from_micros(251), "{lag:?}");
        assert_eq!(lags.read(at(12)).samples, 100);
        lags.add(at(12), Duration::from_millis(1));
        assert_eq!(lags.read(at(21)).samples, 1);
        assert_eq!(lags.read(at(60)), Lag::default());
    }
}
