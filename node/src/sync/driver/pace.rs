//! How far apart the driver's turns begin.

use std::time::{Duration, Instant};

/// Two turns begin at least this far apart, unless somebody waits for a takeover or a flush.
const APART: Duration = Duration::from_micros(100);

/// The same after a turn that took in changes of this node's own. What comes in between goes together: a wake-up, a message
/// and its encryption cost as much as many flows. A flow after a pause leaves at once. What comes from a peer was gathered
/// there.
const GATHER: Duration = Duration::from_micros(300);

/// Changes of a turn beyond which the next one begins twice as late …
const BUSY: usize = 16;

/// … and four times, if so many came in each millisecond of an interval that was as long as that …
const BUSIER: u128 = 36;

/// … but not so many: the peer's thread writes at once what is a turn of such a rate, and no more than that.
const FLOOD: u128 = 100;

/// See the module.
#[derive(Debug)]
pub(super) struct Pace {
    last_turn: Instant,
    /// How long it began after the one before it.
    since: Duration,
    /// Changes that the turn took in from the kernel.
    taken: usize,
}

impl Pace {
    pub(super) fn new(now: Instant) -> Self {
        Self { last_turn: now, since: Duration::ZERO, taken: 0 }
    }

    /// The turn took in so many changes.
    pub(super) fn took(&mut self, changes: usize) {
        self.taken += changes;
    }

    /// What is left at `now` until the next turn may begin.
    pub(super) fn pause(&self, now: Instant) -> Duration {
        let lasting = self.since >= 2 * GATHER && (BUSIER..FLOOD).contains(&self.rate());
        let apart = match self.taken {
            0 => APART,
            1..=BUSY => GATHER,
            _ if lasting => 4 * GATHER,
            _ => 2 * GATHER,
        };
        apart.saturating_sub(now.saturating_duration_since(self.last_turn))
    }

    /// The next turn begins.
    pub(super) fn begin(&mut self, now: Instant) {
        let since = now.saturating_duration_since(self.last_turn);
        *self = Self { since, ..Self::new(now) };
    }

    /// Changes for each millisecond. They have come since the turn before.
    fn rate(&self) -> u128 {
        self.taken as u128 * 1_000_000 / self.since.max(GATHER).as_nanos()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How far apart two turns are, the first of which began so long after another, and took in so many changes.
    fn apart(since: Duration, changes: usize) -> Duration {
        let now = Instant::now();
        let mut pace = Pace::new(now);
        pace.begin(now + since);
        pace.took(changes);
        let apart = pace.pause(now + since);
        assert_eq!(pace.pause(now + since + apart), Duration::ZERO, "a long turn is followed at once");
        pace.begin(now + since + apart);
        assert_eq!(pace.pause(now + since + apart), APART, "each turn counts its own");
        apart
    }

    #[test]
    fn turns_of_many_changes_are_further_apart() {
        for since in [1, 2, 4].map(|times| times * GATHER) {
            for (changes, times) in [(1, 1), (BUSY, 1), (BUSY + 1, 2), (2048, 2)] {
                assert_eq!(apart(since, changes), times * GATHER, "{changes} changes in {since:?}");
            }
            assert_eq!(apart(since, 0), APART);
        }
    }

    #[test]
    fn turns_at_a_high_rate_are_furthest_apart() {
        for since in [2, 4].map(|times| times * GATHER) {
            let changes = |rate: u128| (rate * since.as_nanos()).div_ceil(1_000_000) as usize;
            for (changes, times) in
                [(changes(BUSIER) - 1, 2), (changes(BUSIER), 4), (changes(FLOOD) - 1, 4), (changes(FLOOD), 2)]
            {
                assert_eq!(apart(since, changes), times * GATHER, "{changes} changes in {since:?}");
            }
        }
    }

    #[test]
    fn a_burst_is_no_rate() {
        for (since, changes) in [(100_000, 20), (100_000, 2000), (5000, 100), (1000, 20), (300, 20)] {
            assert_eq!(apart(Duration::from_micros(since), changes), 2 * GATHER, "{changes} in {since} µs");
        }
    }
}
