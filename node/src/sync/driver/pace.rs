//! How far apart the driver's turns begin.

use std::time::{Duration, Instant};

/// Two turns begin at least this far apart, unless somebody waits for a takeover or a flush.
const APART: Duration = Duration::from_micros(100);

/// The same after a turn that took in changes of this node's own. What comes in between goes together: a wake-up, a message
/// and its encryption cost as much as many flows. A flow after a pause leaves at once. What comes from a peer was gathered
/// there.
const GATHER: Duration = Duration::from_micros(300);

/// Changes of a turn beyond which the next one begins twice as late.
const BUSY: usize = 16;

/// See the module.
#[derive(Debug)]
pub(super) struct Pace {
    last_turn: Instant,
    /// Changes that the turn took in from the kernel.
    taken: usize,
}

impl Pace {
    pub(super) fn new(now: Instant) -> Self {
        Self { last_turn: now, taken: 0 }
    }

    /// The turn took in so many changes.
    pub(super) fn took(&mut self, changes: usize) {
        self.taken += changes;
    }

    /// What is left at `now` until the next turn may begin.
    pub(super) fn pause(&self, now: Instant) -> Duration {
        let apart = match self.taken {
            0 => APART,
            1..=BUSY => GATHER,
            _ => 2 * GATHER,
        };
        apart.saturating_sub(now.saturating_duration_since(self.last_turn))
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
    fn turns_of_many_changes_are_further_apart() {
        let now = Instant::now();
        for (changes, apart) in
            [(0, APART), (1, GATHER), (BUSY, GATHER), (BUSY + 1, 2 * GATHER), (2048, 2 * GATHER)]
        {
            let mut pace = Pace::new(now);
            pace.took(changes);
            assert_eq!(pace.pause(now), apart, "{changes} changes");
            assert_eq!(pace.pause(now + apart), Duration::ZERO, "a long turn is followed at once");
            pace.begin(now);
            assert_eq!(pace.pause(now), APART, "each turn counts its own");
        }
    }
}
