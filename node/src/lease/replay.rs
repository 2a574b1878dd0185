//! Refuses datagrams seen before: per sender and run, a counter with a window for reordering.
//!
//! Runs of one boot are ordered, so an earlier one is refused as soon as a later one has spoken. Boots are
//! not ordered; a few of them are remembered, so that recorded datagrams of an earlier boot are still refused.

use std::collections::BTreeMap;

use lockstep_model::ids::NodeId;
use lockstep_model::limits::MAX_NODES;
use lockstep_ownership::identity::{BootId, Identity};

/// Datagrams that may overtake each other.
const WINDOW: u64 = 64;
/// Boots remembered per sender.
const MAX_BOOTS: usize = 8;

/// Why a datagram is not fresh.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stale {
    /// Its counter was seen, or is too old to tell.
    Replay,
    /// A later run of the sender has spoken.
    EarlierRun,
    /// More senders than a cluster has nodes.
    TooManySenders,
}

#[derive(Debug)]
struct Run {
    incarnation: u64,
    highest: u64,
    /// Bit `i`: `highest - i` was seen.
    seen: u64,
    /// Order of first sight, for forgetting the oldest boot.
    order: u64,
}

/// What was seen.
#[derive(Debug, Default)]
pub(crate) struct ReplayGuard {
    senders: BTreeMap<NodeId, BTreeMap<BootId, Run>>,
    order: u64,
}

impl ReplayGuard {
    /// Accepts a datagram once.
    pub(crate) fn accept(&mut self, from: Identity, counter: u64) -> Result<(), Stale> {
        if !self.senders.contains_key(&from.node) && self.senders.len() >= MAX_NODES {
            return Err(Stale::TooManySenders);
        }
        let boots = self.senders.entry(from.node).or_default();
        self.order += 1;
        let fresh = Run { incarnation: from.incarnation, highest: counter, seen: 1, order: self.order };
        match boots.get_mut(&from.boot) {
            Some(run) if from.incarnation < run.incarnation => Err(Stale::EarlierRun),
            Some(run) if from.incarnation == run.incarnation => run.accept(counter),
            Some(run) => {
                *run = fresh;
                Ok(())
            }
            None => {
                if boots.len() >= MAX_BOOTS {
                    let oldest = boots.iter().min_by_key(|(_, run)| run.order).map(|(boot, _)| *boot);
                    boots.retain(|boot, _| Some(*boot) != oldest);
                }
                boots.insert(from.boot, fresh);
                Ok(())
            }
        }
    }
}

impl Run {
    fn accept(&mut self, counter: u64) -> Result<(), Stale> {
        if counter > self.highest {
            let ahead = counter - self.highest;
            self.seen = if ahead < WINDOW { (self.seen << ahead) | 1 } else { 1 };
            self.highest = counter;
            return Ok(());
        }
        let behind = self.highest - counter;
        if behind >= WINDOW || self.seen & (1 << behind) != 0 {
            return Err(Stale::Replay);
        }
        self.seen |= 1 << behind;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(boot: u8, incarnation: u64) -> Identity {
        Identity { node: NodeId(1), boot: BootId([boot; 16]), incarnation }
    }

    #[test]
    fn each_counter_once_in_any_order_within_the_window() {
        let mut guard = ReplayGuard::default();
        for counter in [100, 102, 101, 90, 200, 137] {
            assert_eq!(guard.accept(run(1, 5), counter), Ok(()), "{counter}");
        }
        for counter in [100, 102, 101, 90, 200, 137, 136] {
            assert_eq!(guard.accept(run(1, 5), counter), Err(Stale::Replay), "{counter}");
        }
        assert_eq!(guard.accept(run(1, 5), 138), Ok(()));
    }

    #[test]
    fn a_later_run_silences_the_earlier_one() {
        let mut guard = ReplayGuard::default();
        assert_eq!(guard.accept(run(1, 5), 9), Ok(()));
        assert_eq!(guard.accept(run(1, 6), 1), Ok(()));
        assert_eq!(guard.accept(run(1, 5), 10), Err(Stale::EarlierRun));
        assert_eq!(guard.accept(run(2, 1), 1), Ok(()), "another boot");
        assert_eq!(guard.accept(run(1, 6), 1), Err(Stale::Replay), "and back to the first");
    }

    #[test]
    fn senders_and_boots_are_bounded() {
        let mut guard = ReplayGuard::default();
        for boot in 0..=MAX_BOOTS as u8 {
            assert_eq!(guard.accept(run(boot, 1), 1), Ok(()));
        }
        assert_eq!(guard.senders[&NodeId(1)].len(), MAX_BOOTS);
        for node in 2..=MAX_NODES as u64 {
            assert_eq!(guard.accept(Identity { node: NodeId(node), ..run(0, 1) }, 1), Ok(()));
        }
        assert_eq!(guard.accept(Identity { node: NodeId(1000), ..run(0, 1) }, 1), Err(Stale::TooManySenders));
    }
}
