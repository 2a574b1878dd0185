//! Which nodes hold a group's flows beside its owner.
//!
//! As many standbys as the group wants: those that it has, for as long as they can serve it. One that cannot for
//! [`REPLACE_AFTER`], or that an operator drains, is replaced by the node that the group prefers, or that holds least. Whoever is
//! replaced goes on holding the flows until enough others do, and nobody copies them any more.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use lockstep_model::ids::{GroupId, NodeId};

use super::choice::{NOT_PROGRAMMED, candidates, place};
use super::{FIRST_OWNER_WAIT, Ineligible, Leader, Output, PROPOSAL_RETRY, Standing};
use crate::log::LogView;
use crate::status::Flows;
use crate::time::Instant;
use crate::view::GroupView;

/// A daemon that restarts is back by then, with less to catch up on than another has to copy.
const REPLACE_AFTER: Duration = Duration::from_secs(5);
/// More standbys than are wanted are kept for so long: who asked for one of them to become the owner is about to say so.
const SURPLUS_KEPT: Duration = Duration::from_secs(2);

/// What the leader remembers of a group's standbys.
#[derive(Debug, Default)]
pub(super) struct Replicas {
    /// Since when each of those that cannot serve the group cannot.
    unable: BTreeMap<NodeId, Instant>,
    /// Since when there are fewer than are wanted.
    missing: Option<Instant>,
    /// Since when there are more than are wanted, enough of them hold the flows, and none of them still copies.
    surplus: Option<Instant>,
    proposed: Option<Proposed>,
}

/// A change that is on its way.
#[derive(Debug)]
struct Proposed {
    replaces: BTreeSet<NodeId>,
    nodes: BTreeSet<NodeId>,
    at: Instant,
}

impl Leader {
    pub(super) fn judge_replicas(&mut self, now: Instant, group: GroupId, view: &GroupView, log: &LogView) {
        let Some(owner) = view.assignment else { return };
        // Nobody could catch up with an owner that is silent: it is about to lose the group.
        if self.fresh(now, owner.node, log).is_none() {
            return;
        }
        let mut memory = self.replicas.remove(&group).unwrap_or_default();
        let Some(mut nodes) = self.wanted(now, group, view, owner.node, &mut memory, log) else {
            self.replicas.insert(group, memory);
            return;
        };
        nodes.insert(owner.node);
        let replaces: BTreeSet<_> = view.replicas.keys().copied().collect();
        let pending =
            |proposed: &Proposed| proposed.replaces == replaces && now < proposed.at + PROPOSAL_RETRY;
        if nodes == replaces {
            memory.proposed = None;
        } else if !memory.proposed.as_ref().is_some_and(pending) {
            memory.proposed = Some(Proposed { replaces: replaces.clone(), nodes: nodes.clone(), at: now });
            self.counters.replicas += 1;
            self.outputs.push_back(Output::SetReplicas { group, epoch: owner.epoch, replaces, nodes });
        }
        self.replicas.insert(group, memory);
    }

    /// The standbys that a group is to have next; `None`: somebody is waited for.
    fn wanted(
        &self,
        now: Instant,
        group: GroupId,
        view: &GroupView,
        owner: NodeId,
        memory: &mut Replicas,
        log: &LogView,
    ) -> Option<BTreeSet<NodeId>> {
        let may: BTreeSet<_> = candidates(view, log).filter(|node| *node != owner).collect();
        let stands = |node: NodeId| self.standing(now, node, group, view, log);
        let mut standbys: BTreeSet<_> =
            view.replicas.keys().copied().filter(|node| may.contains(node)).collect();

        memory.unable.retain(|node, _| standbys.contains(node) && stands(*node).is_err());
        for node in standbys.iter().filter(|node| stands(**node).is_err()) {
            memory.unable.entry(*node).or_insert(now);
        }
        let drained = |node: &NodeId| log.view().draining.contains(node);
        let lost = |node: &NodeId| {
            drained(node) || memory.unable.get(node).is_some_and(|since| now >= *since + REPLACE_AFTER)
        };
        let kept: BTreeSet<_> = standbys.iter().copied().filter(|node| !lost(node)).collect();

        let rank = |node: &NodeId| (place(view, *node), self.held_by(*node, log), *node);
        let able =
            |node: &NodeId| !view.replicas.contains_key(node) && stands(*node).is_ok() && !drained(node);
        let mut others: Vec<_> = may.iter().copied().filter(able).collect();
        others.sort_by_key(|node| (stands(*node).is_ok_and(|(s, _)| s == Standing::HeldDown), rank(node)));
        let missing = view.standbys.saturating_sub(kept.len());
        let returns = view.failback
            && others.first().is_some_and(|best| {
                place(view, *best) < place(view, owner)
                    && kept.iter().all(|k| place(view, *best) < place(view, *k))
            });
        let added: Vec<_> = others.into_iter().take(missing.max(returns.into())).collect();
        let since = *memory.missing.get_or_insert(now);
        if missing == 0 {
            memory.missing = None;
        } else if now < since + FIRST_OWNER_WAIT {
            // Nodes hear of a group, and program it, at slightly different times.
            let late = |node: &NodeId| {
                !view.replicas.contains_key(node)
                    && matches!(stands(*node), Err(Ineligible::Behind | Ineligible::Unknown | NOT_PROGRAMMED))
            };
            let worst = added.iter().map(rank).max().filter(|_| added.len() == missing);
            if may.iter().filter(|node| late(node)).any(|node| worst.is_none_or(|worst| rank(node) < worst)) {
                return None;
            }
        }
        if !added.is_empty() {
            memory.surplus = None;
            standbys.extend(added);
            return Some(standbys);
        }

        let caught_up = |node: &NodeId| stands(*node).is_ok_and(|(_, flows)| flows == Flows::CaughtUp);
        let copies = |node: &NodeId| stands(*node).is_ok() && !caught_up(node);
        let mut best: Vec<_> = kept.iter().copied().filter(caught_up).collect();
        if standbys.len() <= view.standbys || best.len() < view.standbys || kept.iter().any(copies) {
            memory.surplus = None;
            return Some(standbys);
        }
        let since = *memory.surplus.get_or_insert(now);
        if now < since + SURPLUS_KEPT {
            return Some(standbys);
        }
        best.sort_by_key(rank);
        Some(best.into_iter().take(view.standbys).collect())
    }

    /// Of how many groups a node holds the flows, or is about to: several groups that look for a standby at once do not all
    /// choose the same.
    fn held_by(&self, node: NodeId, log: &LogView) -> usize {
        let holds = |(group, view): &(&GroupId, &GroupView)| {
            let proposed = self.replicas.get(group).and_then(|memory| memory.proposed.as_ref());
            proposed.map_or(view.replicas.contains_key(&node), |change| change.nodes.contains(&node))
        };
        log.view().groups.iter().filter(holds).count()
    }
}
