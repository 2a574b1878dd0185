//! I3, judged from outside: the periods in which two nodes sent translated packets, or claimed the addresses by
//! ARP, may not overlap.

use std::time::Duration;

pub mod periods;

use super::watch::Seen;
use crate::clock::{Nanos, nanos};

/// What may lie between the lease check in a node's program and the frame's timestamp at the switch: the rest of
/// the program, the transmit path of one virtual link, and a preemption between them.
pub const IN_FLIGHT: Duration = Duration::from_millis(1);

/// The judgement of one change of owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Verdict {
    /// By how much the two periods overlap, beyond [`IN_FLIGHT`].
    pub overlap: Nanos,
    /// Translated packets looked at.
    pub judged: usize,
}

/// Judges `[from, to]`, in which ownership changes at most once.
pub fn judge(seen: &Seen, from: Nanos, to: Nanos) -> Verdict {
    let mut judged = 0;
    let mut periods = Vec::new();
    for node in seen.nodes.values() {
        let translated = within(&node.translated, from, to);
        judged += translated.len();
        // Saying where an address is takes the lease as well.
        let ends = [translated, within(&node.claims, from, to)]
            .into_iter()
            .filter_map(|times| Some((*times.first()?, *times.last()?)));
        if let Some(period) = ends.reduce(|a, b| (a.0.min(b.0), a.1.max(b.1))) {
            periods.push(period);
        }
    }
    periods.sort_unstable();
    let pairs = periods.iter().enumerate().flat_map(|(i, a)| periods[i + 1..].iter().map(move |b| (*a, *b)));
    let overlap = pairs.map(|(a, b)| shift(a, b)).max().unwrap_or(0);
    Verdict { overlap: overlap.saturating_sub(nanos(IN_FLIGHT)), judged }
}

/// Judges `[from, to]`, in which ownership changed at these times: every change by itself, from the middle of the
/// time since the one before to the middle of the time until the one after.
pub fn judge_changes(seen: &Seen, from: Nanos, to: Nanos, changes: &[Nanos]) -> Verdict {
    let inside: Vec<Nanos> = changes.iter().copied().filter(|t| (from..=to).contains(t)).collect();
    let middles = inside.windows(2).map(|pair| pair[0] + (pair[1] - pair[0]) / 2);
    let mut begin = from;
    let mut total = Verdict::default();
    for end in middles.chain([to]) {
        let verdict = judge(seen, begin, end);
        total.overlap = total.overlap.max(verdict.overlap);
        total.judged += verdict.judged;
        begin = end + 1;
    }
    total
}

fn within(times: &[Nanos], from: Nanos, to: Nanos) -> &[Nanos] {
    &times[times.partition_point(|t| *t < from)..times.partition_point(|t| *t <= to)]
}

/// By how much one of two periods would have to be earlier, or later, for them not to overlap. What they have in common
/// would be nothing where one is a single packet amid the other.
fn shift(a: (Nanos, Nanos), b: (Nanos, Nanos)) -> Nanos {
    a.1.saturating_sub(b.0).min(b.1.saturating_sub(a.0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capture::watch::NodeSeen;

    const MS: Nanos = 1_000_000;

    fn seen(a: &[Nanos], b: &[Nanos]) -> Seen {
        let node = |times: &[Nanos]| NodeSeen {
            translated: times.iter().map(|t| t * MS).collect(),
            ..NodeSeen::default()
        };
        Seen { nodes: [("a", node(a)), ("b", node(b))].into(), ..Seen::default() }
    }

    #[test]
    fn periods_in_sequence_do_not_overlap() {
        let verdict = judge(&seen(&[1, 2, 3], &[50, 60]), 0, 100 * MS);
        assert_eq!(verdict, Verdict { overlap: 0, judged: 5 });
    }

    #[test]
    fn one_late_packet_of_the_former_owner_is_an_overlap() {
        let verdict = judge(&seen(&[1, 2, 3, 70], &[50, 60, 80]), 0, 100 * MS);
        assert_eq!(verdict, Verdict { overlap: 19 * MS, judged: 7 });
    }

    #[test]
    fn one_packet_amid_the_owners_is_an_overlap() {
        assert_eq!(judge(&seen(&[1, 100], &[50]), 0, 100 * MS).overlap, 48 * MS);
    }

    #[test]
    fn a_third_node_is_compared_with_every_other() {
        let mut seen = seen(&[1, 40], &[10]);
        seen.nodes.get_mut("b").unwrap().translated.clear();
        let third = NodeSeen { translated: vec![30 * MS, 60 * MS], ..NodeSeen::default() };
        seen.nodes.insert("c", third);
        assert_eq!(judge(&seen, 0, 100 * MS).overlap, 9 * MS);
    }

    #[test]
    fn a_late_claim_is_an_overlap() {
        let mut seen = seen(&[1, 2, 3], &[50, 60]);
        seen.nodes.get_mut("a").unwrap().claims.push(56 * MS);
        assert_eq!(judge(&seen, 0, 100 * MS).overlap, 5 * MS);
    }

    #[test]
    fn changes_there_and_back_are_judged_one_by_one() {
        let back = seen(&[1, 2, 3, 90, 91], &[50, 60]);
        assert!(judge(&back, 0, 100 * MS).overlap > 0);
        let changes = [49 * MS, 89 * MS];
        assert_eq!(judge_changes(&back, 0, 100 * MS, &changes), Verdict { overlap: 0, judged: 7 });
        let late = seen(&[1, 2, 3, 55, 90, 91], &[50, 60]);
        assert_eq!(judge_changes(&late, 0, 100 * MS, &changes).overlap, 4 * MS);
    }

    #[test]
    fn what_lies_in_flight_is_allowed_for() {
        let verdict = judge(&seen(&[1, 51], &[50, 60]), 0, 100 * MS);
        assert_eq!(verdict.overlap, 0);
    }
}
