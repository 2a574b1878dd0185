//! The voters, as the newest membership in a node's log names them.

use std::collections::{BTreeMap, BTreeSet};

use lockstep_model::ids::{LogIndex, NodeId};

use crate::time::Instant;

/// A Raft log id. Ordered as Raft orders: by term, then by the leader that made it, then by index.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct LogId {
    /// Term.
    pub term: u64,
    /// The leader of the term that appended the entry.
    pub leader: NodeId,
    /// Position.
    pub index: LogIndex,
}

/// A membership entry: one set of voters, or two while the cluster changes from one to the other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Membership {
    /// Where in the log.
    pub id: LogId,
    /// The sets; a quorum needs a majority of each.
    pub configs: Vec<BTreeSet<NodeId>>,
}

impl Membership {
    /// Every voter of any set.
    pub fn voters(&self) -> BTreeSet<NodeId> {
        self.configs.iter().flatten().copied().collect()
    }

    /// Whether `node` alone is a quorum and nobody else is needed for anything.
    pub fn is_sole(&self, node: NodeId) -> bool {
        !self.configs.is_empty() && self.configs.iter().all(|c| c.len() == 1 && c.contains(&node))
    }

    /// Whether `nodes` hold a majority of every set.
    pub fn is_quorum(&self, nodes: impl Fn(NodeId) -> bool) -> bool {
        !self.configs.is_empty()
            && self.configs.iter().all(|c| c.iter().filter(|n| nodes(**n)).count() > c.len() / 2)
    }

    /// The latest instant up to which a majority of every set has promised, given each voter's promise.
    /// `None` without a quorum of promises.
    pub fn promised_until(&self, promises: &BTreeMap<NodeId, Instant>) -> Option<Instant> {
        let mut until: Option<Instant> = None;
        for config in &self.configs {
            let mut ends: Vec<Instant> = config.iter().filter_map(|n| promises.get(n).copied()).collect();
            ends.sort_unstable_by(|a, b| b.cmp(a));
            let end = *ends.get(config.len() / 2)?;
            until = Some(until.map_or(end, |u| u.min(end)));
        }
        until
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(nodes: &[u64]) -> BTreeSet<NodeId> {
        nodes.iter().map(|n| NodeId(*n)).collect()
    }

    fn promises(p: &[(u64, u64)]) -> BTreeMap<NodeId, Instant> {
        p.iter().map(|(n, t)| (NodeId(*n), Instant::from_nanos(*t))).collect()
    }

    #[test]
    fn a_lease_ends_when_the_first_promise_of_the_best_majority_does() {
        let three = Membership { id: LogId::default(), configs: vec![set(&[1, 2, 3])] };
        assert_eq!(three.promised_until(&promises(&[(1, 10)])), None);
        assert_eq!(three.promised_until(&promises(&[(1, 10), (2, 30)])), Some(Instant::from_nanos(10)));
        assert_eq!(
            three.promised_until(&promises(&[(1, 10), (2, 30), (3, 20)])),
            Some(Instant::from_nanos(20))
        );
        assert_eq!(three.promised_until(&promises(&[(8, 10), (9, 30)])), None, "strangers do not count");
    }

    #[test]
    fn a_joint_membership_needs_both_halves() {
        let joint = Membership { id: LogId::default(), configs: vec![set(&[1, 2, 3]), set(&[3, 4, 5])] };
        assert!(!joint.is_quorum(|n| n.get() <= 3));
        assert!(joint.is_quorum(|n| [1, 3, 4].contains(&n.get())));
        assert_eq!(joint.promised_until(&promises(&[(1, 50), (2, 50), (3, 50)])), None);
        assert_eq!(
            joint.promised_until(&promises(&[(1, 50), (2, 50), (3, 50), (4, 7)])),
            Some(Instant::from_nanos(7))
        );
        assert!(!joint.is_sole(NodeId(3)));
    }

    #[test]
    fn even_sets_need_more_than_half() {
        let two = Membership { id: LogId::default(), configs: vec![set(&[1, 2])] };
        assert!(!two.is_quorum(|n| n == NodeId(1)));
        assert_eq!(two.promised_until(&promises(&[(1, 9)])), None);
        let none = Membership { id: LogId::default(), configs: vec![] };
        assert!(!none.is_quorum(|_| true));
        assert!(!none.is_sole(NodeId(1)));
    }
}
