//! I3 over a time in which ownership changed nobody knows how often: what the nodes sent is cut into runs, and a run
//! too short to be an ownership of its own was sent while another node served.
//!
//! ```text
//! a  ███████████                        ████████
//! b             ████████▌ ▌███████████              a's run inside b's period is short: it is late, or early
//! a                      █
//! ```

use super::{IN_FLIGHT, Verdict, shift};
use crate::capture::watch::Seen;
use crate::clock::{Nanos, nanos};

/// Packets of one node, one after the other, with none of another between them.
#[derive(Debug, Clone, Copy)]
struct Run {
    node: usize,
    first: Nanos,
    last: Nanos,
    /// Whether it can be an ownership of its own.
    owns: bool,
}

/// Judges everything. `shortest` is what an ownership lasts at least, from the last packet of the one before to the
/// first of the one after: a lease that was granted runs on for a while whatever happens to its owner. Also tells when
/// the longest overlap ended.
pub fn judge_throughout(seen: &Seen, shortest: Nanos) -> (Verdict, Nanos) {
    let mut sent: Vec<(Nanos, usize)> = Vec::new();
    let mut judged = 0;
    for (node, seen) in seen.nodes.values().enumerate() {
        judged += seen.translated.len();
        sent.extend(seen.translated.iter().chain(&seen.claims).map(|at| (*at, node)));
    }
    sent.sort_unstable();
    let mut runs = runs(&sent);
    mark(&mut runs, shortest);
    let (overlap, until) = longest_overlap(&runs);
    (Verdict { overlap: overlap.saturating_sub(nanos(IN_FLIGHT)), judged }, until)
}

fn runs(sent: &[(Nanos, usize)]) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    for &(at, node) in sent {
        match runs.last_mut().filter(|run| run.node == node) {
            Some(run) => run.last = at,
            None => runs.push(Run { node, first: at, last: at, owns: true }),
        }
    }
    runs
}

fn mark(runs: &mut [Run], shortest: Nanos) {
    for i in 1..runs.len().saturating_sub(1) {
        runs[i].owns = runs[i + 1].first - runs[i - 1].last >= shortest;
    }
}

/// Of every stretch between two ownerships, with the short runs in it.
fn longest_overlap(runs: &[Run]) -> (Nanos, Nanos) {
    let owners: Vec<usize> = (0..runs.len()).filter(|i| runs[*i].owns).collect();
    let stretches = owners.windows(2).map(|pair| &runs[pair[0]..=pair[1]]);
    stretches.map(|stretch| (overlap(stretch), stretch[stretch.len() - 1].first)).max().unwrap_or_default()
}

/// The first and the last run are ownerships, those between them are not.
fn overlap(stretch: &[Run]) -> Nanos {
    let [before, between @ .., after] = stretch else { return 0 };
    if before.node != after.node {
        // One change: from the first packet of the next owner to the last one of the former.
        let former = stretch.iter().filter(|run| run.node == before.node).map(|run| run.last).max();
        let next = stretch.iter().find(|run| run.node == after.node).map(|run| run.first);
        return former.zip(next).map_or(0, |(last, first)| last.saturating_sub(first));
    }
    // No change: what others sent meanwhile came too late, from before, or too early.
    let others = || between.iter().filter(|run| run.node != before.node);
    let Some(first) = others().map(|run| run.first).min() else { return 0 };
    let last = others().map(|run| run.last).max().unwrap_or(first);
    shift((before.first, after.last), (first, last))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capture::watch::NodeSeen;

    const MS: Nanos = 1_000_000;

    /// Every millisecond of these periods.
    fn judge(a: &[(u64, u64)], b: &[(u64, u64)]) -> Verdict {
        let node = |periods: &[(u64, u64)]| NodeSeen {
            translated: periods.iter().flat_map(|(from, to)| *from..=*to).map(|t| t * MS).collect(),
            ..NodeSeen::default()
        };
        let seen = Seen { nodes: [("a", node(a)), ("b", node(b))].into(), ..Seen::default() };
        judge_throughout(&seen, 50 * MS).0
    }

    #[test]
    fn changes_there_and_back_do_not_overlap() {
        let verdict = judge(&[(0, 200), (500, 700), (1000, 1100)], &[(210, 480), (701, 999)]);
        assert_eq!(verdict, Verdict { overlap: 0, judged: 201 + 201 + 101 + 271 + 299 });
        assert_eq!(judge(&[(0, 100)], &[]).overlap, 0);
        assert_eq!(judge(&[], &[]), Verdict::default());
    }

    #[test]
    fn one_late_packet_of_a_former_owner_is_an_overlap_as_long_as_it_is_late() {
        assert_eq!(judge(&[(0, 200), (300, 300)], &[(250, 299), (301, 600)]).overlap, 49 * MS);
    }

    #[test]
    fn one_early_packet_of_the_next_owner_is_an_overlap() {
        assert_eq!(judge(&[(0, 150), (152, 170)], &[(151, 151), (200, 400)]).overlap, 18 * MS);
    }

    #[test]
    fn a_packet_in_the_middle_of_an_ownership_is_measured_from_the_nearer_end() {
        assert_eq!(judge(&[(0, 99), (101, 300)], &[(100, 100)]).overlap, 99 * MS);
    }

    #[test]
    fn two_that_forward_at_once_overlap_for_as_long_as_they_do() {
        let even = (100..200).step_by(2).map(|t| (t, t));
        let odd = (101..200).step_by(2).map(|t| (t, t));
        let a: Vec<_> = [(0, 99)].into_iter().chain(even).collect();
        let b: Vec<_> = odd.chain([(200, 400)]).collect();
        assert_eq!(judge(&a, &b).overlap, 96 * MS);
    }

    #[test]
    fn what_lies_in_flight_is_allowed_for() {
        assert_eq!(judge(&[(0, 100), (102, 102)], &[(101, 101), (103, 300)]).overlap, 0);
    }
}
