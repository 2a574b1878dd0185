//! What this node finds of one endpoint: probe results in a row become an opinion. Pure; time comes in.
//!
//! ```text
//!              rise successes                     fall failures
//!   none ────────────────────────► up ◄─────────────────────────► down
//!     └──────────────────────────────── fall failures ─────────────▲
//! ```
//!
//! An endpoint that the cluster has never judged has its first result decide: a new one that does not answer
//! leaves at once. After a restart of the daemon full counts are asked for, because the verdict is known.

use std::time::{Duration, Instant};

use lockstep_model::health::Failure;
use lockstep_model::intent::HealthCheck;

/// Who is not heard of for this many intervals has not probed, or does not say.
pub(crate) const WINDOW_INTERVALS: u32 = 3;

/// How long a probe counts.
pub(crate) fn window(check: &HealthCheck) -> Duration {
    check.interval * WINDOW_INTERVALS
}

/// One node's view of one endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct View {
    /// Whether it is up; `None`: too few results yet.
    pub(crate) opinion: Option<bool>,
    /// When the last probe was answered, or given up.
    pub(crate) last: Option<Instant>,
    /// Why the last probe failed, if it did.
    pub(crate) failure: Option<Failure>,
    /// The last results that are alike.
    streak: u8,
    /// Since when it has found down what the cluster does not.
    alone_since: Option<Instant>,
}

impl View {
    /// Takes a result in. Whether the opinion is another now.
    pub(crate) fn result(
        &mut self,
        now: Instant,
        check: &HealthCheck,
        judged: bool,
        result: Result<(), Failure>,
    ) -> bool {
        let up = result.is_ok();
        let alike = self.last.is_some() && self.failure.is_none() == up;
        self.streak = if alike { self.streak.saturating_add(1) } else { 1 };
        self.last = Some(now);
        self.failure = result.err();
        let needed = match (self.opinion, judged) {
            (None, false) => 1,
            _ if up => check.rise,
            _ => check.fall,
        };
        let changes = self.opinion != Some(up) && self.streak >= needed;
        if changes {
            self.opinion = Some(up);
        }
        changes
    }

    /// Compares with the cluster's verdict. Whether this node alone finds the endpoint down, and has for so long that
    /// the others would have found it out as well.
    pub(crate) fn is_alone(&mut self, now: Instant, check: &HealthCheck, is_down: bool) -> bool {
        if is_down || self.opinion != Some(false) {
            self.alone_since = None;
            return false;
        }
        let since = *self.alone_since.get_or_insert(now);
        now.duration_since(since) >= window(check)
    }
}

#[cfg(test)]
mod tests {
    use lockstep_model::health::FailureKind;
    use lockstep_model::intent::{AllDown, Probe};

    use super::*;

    fn check(rise: u8, fall: u8) -> HealthCheck {
        let (interval, timeout) = (Duration::from_secs(1), Duration::from_millis(500));
        HealthCheck {
            probe: Probe::Tcp,
            port: 0,
            interval,
            timeout,
            rise,
            fall,
            all_down: AllDown::ServeNone,
        }
    }

    const FAILED: Result<(), Failure> = Err(Failure::of(FailureKind::Timeout));

    /// Opinions after each of the results; `+` is a success.
    fn opinions(rise: u8, fall: u8, judged: bool, results: &str) -> String {
        let (mut view, now) = (View::default(), Instant::now());
        let after = |result: char| {
            let before = view.opinion;
            let result = if result == '+' { Ok(()) } else { FAILED };
            let changed = view.result(now, &check(rise, fall), judged, result);
            assert_eq!(changed, view.opinion != before);
            match view.opinion {
                None => '?',
                Some(true) => 'u',
                Some(false) => 'd',
            }
        };
        results.chars().map(after).collect()
    }

    #[test]
    fn an_opinion_takes_rise_successes_or_fall_failures_in_a_row() {
        assert_eq!(opinions(2, 3, true, "++---++"), "?uuuddu");
        assert_eq!(opinions(2, 3, true, "++--+--+---"), "?uuuuuuuuud");
        assert_eq!(opinions(3, 1, true, "-++-+++"), "ddddddu");
        assert_eq!(opinions(1, 1, true, "+-+"), "udu");
        assert_eq!(opinions(2, 3, true, "-+-+-+"), "??????", "neither");
        assert_eq!(opinions(10, 10, true, "---------+---------"), "???????????????????");
    }

    #[test]
    fn the_first_result_decides_on_what_was_never_judged() {
        assert_eq!(opinions(2, 3, false, "-+-++"), "ddddu");
        assert_eq!(opinions(2, 3, false, "+---"), "uuud");
    }

    #[test]
    fn a_streak_longer_than_a_byte_counts_does_not_wrap() {
        assert!(opinions(2, 3, true, &"-".repeat(600)).ends_with("ddd"));
    }

    #[test]
    fn a_node_is_alone_when_the_others_had_time_to_find_the_same_and_did_not() {
        let (mut view, start) = (View::default(), Instant::now());
        let check = check(1, 1);
        let after = |seconds| start + Duration::from_secs(seconds);
        assert!(!view.is_alone(start, &check, false), "no opinion");
        view.result(start, &check, true, FAILED);
        assert!(!view.is_alone(after(0), &check, false));
        assert!(!view.is_alone(after(2), &check, false));
        assert!(view.is_alone(after(3), &check, false));
        assert!(!view.is_alone(after(4), &check, true), "the others agree");
        assert!(!view.is_alone(after(5), &check, false), "and no more: they may be earlier by a probe");
        assert!(view.is_alone(after(8), &check, false));
        view.result(after(9), &check, true, Ok(()));
        assert!(!view.is_alone(after(9), &check, false));
    }
}
