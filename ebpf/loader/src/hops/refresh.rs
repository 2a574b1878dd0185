//! When to tell the kernel that a neighbour is in use. Packets that leave by the table do not pass the kernel's
//! neighbour code: an entry would grow stale and never be probed, and a dead neighbour would stay a hop.
//!
//! All hops are told once a cycle, evenly spread over it; the cycle's length varies by a fifth, so that the nodes of
//! a cluster do not probe their common gateway in step.

use std::time::{Duration, Instant};

use lockstep_abi::hop::HopKey;

/// Neighbours of one step at most.
const BATCH: usize = 64;
/// Between two steps: at most 1280 neighbours a second.
const PAUSE: Duration = Duration::from_millis(50);

/// The schedule.
pub(super) struct Refresh {
    every: Duration,
    random: u64,
    keys: Vec<HopKey>,
    sent: usize,
    began: Instant,
    length: Duration,
    last: Instant,
}

impl Refresh {
    /// `seed`: any number.
    pub(super) fn new(now: Instant, every: Duration, seed: u64) -> Self {
        let mut refresh = Self {
            every,
            random: seed | 1,
            keys: Vec::new(),
            sent: 0,
            began: now,
            length: Duration::ZERO,
            last: now,
        };
        refresh.begin(now, Vec::new());
        refresh
    }

    /// The neighbours whose turn it is. `all` is asked when a cycle begins.
    pub(super) fn due(&mut self, now: Instant, all: impl FnOnce() -> Vec<HopKey>) -> &[HopKey] {
        if now < self.next_deadline() {
            return &[];
        }
        if self.sent == self.keys.len() {
            self.begin(now, all());
        }
        let elapsed = now.saturating_duration_since(self.began);
        let by_now = self.keys.len() as u128 * elapsed.as_micros() / self.length.as_micros().max(1);
        let from = self.sent;
        self.sent = self.keys.len().min(from + BATCH).min(by_now as usize).max(from);
        self.last = now;
        &self.keys[from..self.sent]
    }

    /// When something is due.
    pub(super) fn next_deadline(&self) -> Instant {
        if self.sent == self.keys.len() {
            return self.began + self.length;
        }
        let share = self.length.as_micros() * (self.sent as u128 + 1) / self.keys.len() as u128;
        // One more, because the division above rounds down and the one in `due` does too.
        let turn = self.began + Duration::from_micros(share as u64 + 1);
        turn.max(self.last + PAUSE)
    }

    fn begin(&mut self, now: Instant, keys: Vec<HopKey>) {
        // xorshift64
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.length = self.every * (80 + (self.random % 41) as u32) / 100;
        self.began = now;
        self.keys = keys;
        self.sent = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(count: u32) -> Vec<HopKey> {
        (0..count).map(|n| HopKey { ifindex: 1, family: 4, address: [n, 0, 0, 0] }).collect()
    }

    /// Runs for `seconds`; answers what was due at each step.
    fn run(count: u32, every: Duration, seconds: u64) -> Vec<(Duration, Vec<HopKey>)> {
        let start = Instant::now();
        let mut refresh = Refresh::new(start, every, 12345);
        let mut steps = Vec::new();
        loop {
            let now = refresh.next_deadline();
            if now > start + Duration::from_secs(seconds) {
                return steps;
            }
            let due = refresh.due(now, || keys(count)).to_vec();
            steps.push((now - start, due));
        }
    }

    #[test]
    fn every_hop_is_told_in_each_cycle_and_none_twice_at_once() {
        for count in [1, 3, 100, 4095] {
            let steps = run(count, Duration::from_secs(15), 60);
            let mut times = std::collections::BTreeMap::<HopKey, Vec<Duration>>::new();
            for (at, due) in &steps {
                assert!(due.len() <= BATCH, "{} of {count} at once", due.len());
                due.iter().for_each(|key| times.entry(*key).or_default().push(*at));
            }
            assert_eq!(times.len(), count as usize);
            for (key, times) in &times {
                // Two cycles of at most 18 s after the first one, which is empty.
                assert!(times.len() >= 2 && times.len() <= 5, "{key:?} of {count}: {times:?}");
                for pair in times.windows(2) {
                    let gap = pair[1] - pair[0];
                    assert!(gap >= Duration::from_secs(8) && gap <= Duration::from_secs(25), "{gap:?}");
                }
            }
            let pauses = steps.windows(2).filter(|pair| !pair[0].1.is_empty() && !pair[1].1.is_empty());
            for pair in pauses {
                assert!(pair[1].0 - pair[0].0 >= PAUSE);
            }
        }
    }

    #[test]
    fn a_cycle_that_is_too_short_for_all_still_reaches_the_last() {
        let steps = run(4095, Duration::from_millis(100), 10);
        let last = *keys(4095).last().unwrap();
        assert!(steps.iter().any(|(_, due)| due.contains(&last)));
    }

    #[test]
    fn cycles_differ_in_length() {
        let steps = run(1, Duration::from_secs(15), 300);
        let told: Vec<Duration> =
            steps.iter().filter(|(_, due)| !due.is_empty()).map(|(at, _)| *at).collect();
        let gaps: std::collections::BTreeSet<Duration> =
            told.windows(2).map(|pair| pair[1] - pair[0]).collect();
        assert!(gaps.len() > 5, "{gaps:?}");
    }
}
