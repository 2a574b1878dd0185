//! An abstract Raft: an election, an append, its replication to some nodes and, with a quorum of them, its
//! commit are one step. What it keeps of the real one: logs diverge and are truncated, entries lie in logs
//! uncommitted, nodes learn of a commit at any later time, memberships are used from the append on, and
//! change through a joint one.

use std::collections::BTreeSet;
use std::time::Duration;

use lockstep_model::ids::{Epoch, GroupId, LogIndex, NodeId};
use lockstep_model::intent::NodeRole;
use lockstep_model::state::Assignment;
use lockstep_ownership::log::LogEvent;
use lockstep_ownership::membership::{LogId, Membership};
use lockstep_ownership::view::View;

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Item {
    Blank,
    Assign { group: GroupId, replaces: Epoch, node: NodeId },
    Members(Vec<BTreeSet<NodeId>>),
    Lease(Duration),
    Group(GroupId),
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Entry {
    pub(crate) term: u64,
    pub(crate) leader: NodeId,
    pub(crate) item: Item,
}

pub(crate) type Log = Vec<Entry>;

pub(crate) fn log_id(log: &Log, index: u64) -> LogId {
    let entry = &log[index as usize - 1];
    LogId { term: entry.term, leader: entry.leader, index: LogIndex(index) }
}

pub(crate) fn event(log: &Log, index: u64) -> Option<LogEvent> {
    match &log[index as usize - 1].item {
        Item::Assign { group, replaces, node } => {
            Some(LogEvent::Assign { index: LogIndex(index), group: *group, replaces: *replaces, node: *node })
        }
        Item::Members(configs) => {
            Some(LogEvent::Membership(Membership { id: log_id(log, index), configs: configs.clone() }))
        }
        Item::Blank | Item::Lease(_) | Item::Group(_) => None,
    }
}

pub(crate) fn newest_members(log: &Log) -> &[BTreeSet<NodeId>] {
    let newest = log.iter().rev().find_map(|e| match &e.item {
        Item::Members(configs) => Some(configs.as_slice()),
        _ => None,
    });
    newest.expect("every log begins with a membership")
}

pub(crate) fn is_quorum(configs: &[BTreeSet<NodeId>], nodes: &BTreeSet<NodeId>) -> bool {
    configs.iter().all(|c| c.intersection(nodes).count() > c.len() / 2)
}

/// Raft section 5.4.1: whether a voter with log `b` may vote for a candidate with log `a`.
pub(crate) fn up_to_date(a: &Log, b: &Log) -> bool {
    let last = |l: &Log| (l.last().map_or(0, |e| e.term), l.len());
    last(a) >= last(b)
}

/// How much of the two logs is the same.
pub(crate) fn common_prefix(a: &Log, b: &Log) -> usize {
    a.iter().zip(b).take_while(|(x, y)| x.term == y.term).count()
}

/// The state after one more entry.
pub(crate) fn apply(view: &mut View, index: u64, item: &Item) {
    view.applied = LogIndex(index);
    match item {
        Item::Blank => {}
        Item::Lease(lease) => view.lease = *lease,
        Item::Group(group) => {
            view.groups.entry(*group).or_default();
        }
        Item::Members(configs) => {
            for node in configs.iter().flatten() {
                view.nodes.insert(*node, NodeRole::Dataplane);
            }
        }
        Item::Assign { group, replaces, node } => {
            if let Some(group) = view.groups.get_mut(group)
                && group.assignment.map_or(Epoch(0), |a| a.epoch) == *replaces
            {
                group.assignment = Some(Assignment { epoch: Epoch(index), node: *node });
            }
        }
    }
}
