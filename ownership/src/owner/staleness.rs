//! Whether this node's intent lags behind what voters have applied.

use std::time::Duration;

use lockstep_model::ids::LogIndex;

use crate::time::Instant;

/// For how long the intent may lag before the owner stops creating flows and says it is unfit: longer than an
/// election and a snapshot of usual size take.
pub const STALE_AFTER: Duration = Duration::from_secs(2);

/// Compares what voters say with what is applied here.
#[derive(Debug, Clone, Default)]
pub(crate) struct Staleness {
    newest_seen: LogIndex,
    /// What is to be reached, and since when it has been known.
    behind: Option<(LogIndex, Instant)>,
    stale: bool,
}

impl Staleness {
    pub(crate) fn handle_seen(&mut self, now: Instant, seen: LogIndex, applied: LogIndex) {
        self.newest_seen = self.newest_seen.max(seen);
        self.handle_applied(now, applied);
    }

    pub(crate) fn handle_applied(&mut self, now: Instant, applied: LogIndex) {
        match self.behind {
            Some((target, _)) if applied < target => {}
            _ => self.behind = (self.newest_seen > applied).then_some((self.newest_seen, now)),
        }
    }

    /// `Some` when it changed.
    pub(crate) fn poll(&mut self, now: Instant) -> Option<bool> {
        let stale = self.behind.is_some_and(|(_, since)| now >= since + STALE_AFTER);
        (stale != self.stale).then(|| {
            self.stale = stale;
            stale
        })
    }

    pub(crate) fn is_stale(&self) -> bool {
        self.stale
    }

    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.behind.filter(|_| !self.stale).map(|(_, since)| since + STALE_AFTER)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stale_is_one_index_not_reached_for_too_long_not_always_being_a_little_behind() {
        let mut s = Staleness::default();
        let at = |ms: u64| Instant::from_nanos(ms * 1_000_000);
        s.handle_seen(at(0), LogIndex(10), LogIndex(9));
        for i in 0..40 {
            let now = at(i * 100);
            s.handle_seen(now, LogIndex(11 + i), LogIndex(10 + i));
            assert_eq!(s.poll(now), None);
        }
        s.handle_seen(at(4000), LogIndex(100), LogIndex(60));
        assert_eq!(s.poll(at(5999)), None);
        assert_eq!(s.poll(at(6001)), Some(true));
        s.handle_applied(at(6100), LogIndex(100));
        assert_eq!(s.poll(at(6100)), Some(false));
    }
}
