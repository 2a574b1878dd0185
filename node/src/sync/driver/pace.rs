//! How far apart the driver's turns begin.

use std::time::{Duration, Instant};

/// Two turns begin at least this far apart, unless somebody waits for a takeover or a flush. What comes in between goes
/// together: a wake-up, a message and its encryption cost as much as many flows. A flow after a pause leaves at once.
const GATHER: Duration = Duration::from_micros(150);

/// Records of a turn beyond which the next one begins later in proportion …
const BUSY: usize = 8;
/// … up to this many times [`GATHER`]: from 50,000 records a second on, up to 0.6 ms.
const MOST_GATHERS: usize = 4;

/// See the module.
#[derive(Debug)]
pub(super) struct Pace {
    last_turn: Instant,
    /// Records that the turn took in, from the kernel and from peers.
    taken: usize,
}

impl Pace {
    pub(super) fn new(now: Instant) -> Self {
        Self { last_turn: now, taken: 0 }
    }

    /// The turn took in so many records.
    pub(super) fn took(&mut self, records: usize) {
        self.taken += records;
    }

    /// What is left at `now` until the next turn may begin.
    pub(super) fn pause(&self, now: Instant) -> Duration {
        let times = (self.taken / BUSY).clamp(1, MOST_GATHERS);
        (GATHER * times as u32).saturating_sub(now.saturating_duration_since(self.last_turn))
    }

    /// The next turn begins.
    pub(super) fn begin(&mut self, now: Instant) {
        *self = Self::new(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turns_of_many_records_are_further_apart_up_to_a_bound() {
        let now = Instant::now();
        for (records, times) in [(0, 1), (1, 1), (15, 1), (16, 2), (31, 3), (32, 4), (2048, 4)] {
            let mut pace = Pace::new(now);
            pace.took(records);
            assert_eq!(pace.pause(now), GATHER * times, "{records} records");
            assert_eq!(pace.pause(now + 4 * GATHER), Duration::ZERO, "a long turn is followed at once");
            pace.begin(now);
            assert_eq!(pace.pause(now), GATHER, "each turn counts its own");
        }
    }
}
