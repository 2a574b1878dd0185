//! What is explored: a cluster, the log that it comes to agree on, and how much may go wrong.

use std::collections::BTreeSet;

use lockstep_model::ids::{GroupId, NodeId};

/// An entry of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry {
    /// A group is given to a node, in place of the entry at `replaces`.
    Assign {
        /// The group.
        group: GroupId,
        /// Index of what it replaces; 0 for the first.
        replaces: u64,
        /// The next owner.
        node: NodeId,
    },
    /// The voters from here on.
    Members(Vec<BTreeSet<NodeId>>),
    /// The address goes from one group to another, whose epochs it raises as `apply` does.
    Move {
        /// Who had it.
        from: GroupId,
        /// Who gets it.
        to: GroupId,
    },
}

/// How much may go wrong, in all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Budget {
    /// Of all kinds together.
    pub all: u8,
    /// Messages, or answers, that are lost.
    pub lost: u8,
    /// Messages that arrive a round later, or still later.
    pub late: u8,
    /// Messages that arrive twice.
    pub twice: u8,
    /// Nodes whose daemon restarts and forgets its promises.
    pub restarts: u8,
}

/// When a node applies what it has appended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Applies {
    /// As soon as it is agreed on, which is after the first nodes have appended it: no state of its own.
    AtOnce,
    /// Any time later: a step of its own.
    Later,
}

/// A scenario.
#[derive(Debug, Clone)]
pub struct Scenario {
    /// Nodes, numbered from 1.
    pub nodes: u64,
    /// Entries that everybody has applied at the beginning.
    pub settled: Vec<Entry>,
    /// Entries that are agreed on later, in this order.
    pub agreed: Vec<Entry>,
    /// What another leader has proposed in place of the first of these, and who has it: it is never agreed on.
    pub rival: Option<(Entry, BTreeSet<NodeId>)>,
    /// When it is applied.
    pub applies: Applies,
    /// Nodes that append it and apply none of it.
    pub lagging: BTreeSet<NodeId>,
    /// Renewal intervals that are explored.
    pub rounds: u8,
    /// Per round, how many nodes' logs may go on.
    pub log_steps: u8,
    /// What may go wrong.
    pub budget: Budget,
}

/// The groups.
pub const GROUPS: [GroupId; 2] = [GroupId(100), GroupId(101)];

/// A set of nodes.
pub fn nodes(ids: impl IntoIterator<Item = u64>) -> BTreeSet<NodeId> {
    ids.into_iter().map(NodeId).collect()
}

fn assign(group: usize, replaces: u64, node: u64) -> Entry {
    Entry::Assign { group: GROUPS[group], replaces, node: NodeId(node) }
}

/// Five voters; the group goes from node 1 to node 2, while another leader has given it to node 3.
pub fn two_leaders() -> Scenario {
    Scenario {
        nodes: 5,
        settled: vec![Entry::Members(vec![nodes(1..=5)]), assign(0, 0, 1)],
        agreed: vec![assign(0, 2, 2)],
        rival: Some((assign(0, 2, 3), nodes([3, 4]))),
        applies: Applies::AtOnce,
        lagging: BTreeSet::new(),
        rounds: 5,
        log_steps: 2,
        budget: Budget { all: 2, lost: 1, late: 1, twice: 1, restarts: 1 },
    }
}

/// A voter restarts inside its promise.
pub fn restarted_voter() -> Scenario {
    Scenario {
        nodes: 3,
        settled: vec![Entry::Members(vec![nodes(1..=3)]), assign(0, 0, 1)],
        agreed: vec![assign(0, 2, 2), assign(0, 3, 1)],
        rival: None,
        applies: Applies::AtOnce,
        lagging: BTreeSet::new(),
        rounds: 6,
        log_steps: 2,
        budget: Budget { all: 2, lost: 2, late: 1, twice: 1, restarts: 1 },
    }
}

/// The voters change twice, and the group with them.
pub fn two_memberships() -> Scenario {
    Scenario {
        nodes: 4,
        settled: vec![Entry::Members(vec![nodes(1..=3)]), assign(0, 0, 1)],
        agreed: vec![
            Entry::Members(vec![nodes(1..=3), nodes(2..=4)]),
            Entry::Members(vec![nodes(2..=4)]),
            assign(0, 2, 4),
        ],
        rival: None,
        applies: Applies::AtOnce,
        lagging: BTreeSet::new(),
        rounds: 5,
        log_steps: 2,
        budget: Budget { all: 2, lost: 1, late: 1, twice: 0, restarts: 0 },
    }
}

/// An address goes from node 1's group to node 2's.
pub fn moved_address() -> Scenario {
    Scenario {
        nodes: 3,
        settled: vec![Entry::Members(vec![nodes(1..=3)]), assign(0, 0, 1), assign(1, 0, 2)],
        agreed: vec![Entry::Move { from: GROUPS[0], to: GROUPS[1] }],
        rival: None,
        applies: Applies::Later,
        lagging: BTreeSet::new(),
        rounds: 6,
        log_steps: 2,
        budget: Budget { all: 2, lost: 1, late: 0, twice: 0, restarts: 0 },
    }
}
