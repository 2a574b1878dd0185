//! How far apart the driver's turns begin.

use std::time::{Duration, Instant};

/// Two turns begin at least this far apart, unless somebody waits for a takeover or a flush.
const APART: Duration = Duration::from_micros(100);

/// The same after a turn that took in changes of this node's own. What comes in between goes together: a wake-up, a message
/// and its encryption cost as much as many flows. A flow after a pause leaves at once. What comes from a peer was gathered
/// there.
const GATHER: Duration = Duration::from_micros(300);

/// At so many changes for each millisecond, or more, turns begin twice as far apart …
const BUSY: u128 = 27;

/// … and at so many four times, …
const BUSIER: u128 = 36;

/// … but only twice at so many: the peer's thread writes at once what is a turn of such a rate, and no more than that.
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
        let apart = match self.rate() {
            _ if self.taken == 0 => APART,
            0..BUSY => GATHER,
            BUSIER..FLOOD => 4 * GATHER,
            _ => 2 * GATHER,
        };
        apart.saturating_sub(now.saturating_duration_since(self.last_turn))
    }

    /// The next turn begins.
    pub(super) fn begin(&mut self, now: Instant) {
        let since = now.saturating_duration_since(self.last_turn);
        *self = Self { since, ..Self::new(now) };
    }

    /// Changes for each millisecond. They have come since the turn before; of a few that came together nothing follows.
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
            let changes = |rate: u128| (rate * since.as_nanos()).div_ceil(1_000_000) as usize;
            assert_eq!(apart(since, 0), APART);
            assert_eq!(apart(since, 1), GATHER);
            for (rate, times) in [(BUSY, 2), (BUSIER, 4), (FLOOD, 2)] {
                assert_eq!(apart(since, changes(rate)), times * GATHER, "{rate} a millisecond");
            }
            for (rate, times) in [(BUSY, 1), (BUSIER, 2), (FLOOD, 4)] {
                assert_eq!(apart(since, changes(rate) - 1), times * GATHER, "less than {rate} a millisecond");
            }
        }
    }

    #[test]
    fn a_burst_after_a_pause_is_no_rate() {
        assert_eq!(apart(Duration::from_millis(100), 2000), GATHER);
        assert_eq!(apart(Duration::from_micros(10), 8), GATHER);
        // At twenty thousand a second nothing waits longer, however long the thread stood still before.
        for micros in [300, 600, 1200, 5000] {
            assert_eq!(apart(Duration::from_micros(micros), micros as usize / 50), GATHER, "{micros} µs");
        }
    }
}
