//! Whom a group goes to, and how long that node is to wait for a better one.

use std::cmp::{Ordering, Reverse};
use std::time::Duration;

use lockstep_model::ids::{GroupId, NodeId};
use lockstep_model::intent::NodeRole;

use super::{Cause, Ineligible, Leader, Standing, standing};
use crate::log::LogView;
use crate::message::{Report, Tenure};
use crate::status::{Flows, SILENT_AFTER, Unfit};
use crate::time::Instant;
use crate::view::GroupView;

/// With nobody caught up, how long before the freshest is taken.
const CAUGHT_UP_WAIT: Duration = Duration::from_secs(1);
/// How long before a node without any flows is taken while another may have some: every connection ends with that, and a
/// daemon that was killed, with its flows in its kernel, is back by then.
const EMPTY_WAIT: Duration = Duration::from_secs(3);
/// What an owner is until it has programmed its kernel after a restart, and anybody with a new group.
pub(super) const NOT_PROGRAMMED: Ineligible = Ineligible::Unfit(Unfit::IntentNotApplied);

impl Leader {
    /// The best candidate that is left.
    pub(super) fn best(
        &self,
        now: Instant,
        group: GroupId,
        view: &GroupView,
        cause: Cause,
        log: &LogView,
    ) -> Option<(NodeId, Standing, Flows)> {
        let owner = view.assignment.map(|a| a.node);
        log.view()
            .nodes
            .keys()
            .filter(|n| cause.owner_may_stay() || Some(**n) != owner)
            .filter_map(|n| {
                let (standing, flows) = self.standing(now, *n, group, view, log).ok()?;
                Some((*n, standing, flows))
            })
            .filter(|(n, _, flows)| {
                let preferred = || owner.is_some_and(|owner| place(view, *n) < place(view, owner));
                cause != Cause::Failback || (*flows == Flows::CaughtUp && preferred())
            })
            .max_by_key(|(n, standing, flows)| {
                // Flows before anything: a node without any ends every connection. With somebody caught up, preference and
                // load decide between those; with nobody, freshness.
                (
                    *flows != Flows::Never,
                    *standing,
                    Reverse(*flows),
                    Reverse(place(view, *n)),
                    Reverse(self.load(now, *n, log)),
                    Reverse(*n),
                )
            })
    }

    /// How many groups a node owns or is about to own: several that look for an owner at once do not all go to the same node.
    fn load(&self, now: Instant, node: NodeId, log: &LogView) -> usize {
        let owner = |group: &GroupId, view: &GroupView| {
            let promised = self.watches.get(group).and_then(|watch| watch.promised_to(now));
            promised.or(view.assignment.map(|a| a.node))
        };
        log.view().groups.iter().filter(|(group, view)| owner(group, view) == Some(node)).count()
    }

    /// How long a node that knows the flows so well is to wait for another that knows them better.
    pub(super) fn patience(
        &self,
        now: Instant,
        group: GroupId,
        view: &GroupView,
        flows: Flows,
        log: &LogView,
    ) -> Duration {
        let at_best = |node: NodeId| self.flows(now, node, group, log).is_some_and(|known| known >= flows);
        match flows {
            Flows::CaughtUp => Duration::ZERO,
            Flows::Silent(_) | Flows::Behind(_) => CAUGHT_UP_WAIT,
            Flows::Kept if self.owner_returns(now, group, view, log) => CAUGHT_UP_WAIT,
            // Nothing tells it what it lacks: it is only a matter of who else may turn up.
            Flows::Kept | Flows::Never if candidates(view, log).all(at_best) => Duration::ZERO,
            Flows::Kept => CAUGHT_UP_WAIT,
            Flows::Never => EMPTY_WAIT,
        }
    }

    /// Whether the owner has restarted with its flows and is about to ask for its lease again. Its kernel forwarded on until
    /// that ended, so it has more than another that was restarted with it.
    fn owner_returns(&self, now: Instant, group: GroupId, view: &GroupView, log: &LogView) -> bool {
        view.assignment.is_some_and(|owner| {
            let kept = self.flows(now, owner.node, group, log) == Some(Flows::Kept);
            let soon = match self.owner_says(now, group, owner, log) {
                None => true,
                Some(Cause::OwnerUnfit) => self
                    .fresh(now, owner.node, log)
                    .is_some_and(|r| standing::of_report(r, group) == Err(NOT_PROGRAMMED)),
                Some(_) => false,
            };
            kept && soon
        })
    }

    /// How well a node says it knows the flows, whether or not it can serve them now.
    pub(super) fn flows(&self, now: Instant, node: NodeId, group: GroupId, log: &LogView) -> Option<Flows> {
        let report = self.fresh(now, node, log)?;
        let said = report.candidacies.iter().find(|c| c.group == group).map(|c| c.flows)?;
        let Some(view) = log.view().groups.get(&group) else { return Some(said) };
        Some(self.counting(now, (group, view), (node, report), said, log))
    }

    /// Whether nobody that the group prefers to `node` could still turn up as fit, and nobody with less to do has yet to hear of
    /// the group, or to program it.
    pub(super) fn is_first_choice(
        &self,
        now: Instant,
        group: GroupId,
        view: &GroupView,
        node: NodeId,
        standing: Standing,
        log: &LogView,
    ) -> bool {
        standing == Standing::Fit
            && candidates(view, log).filter(|other| *other != node).all(|other| {
                let known = self.standing(now, other, group, view, log);
                match place(view, other).cmp(&place(view, node)) {
                    Ordering::Less => known.is_ok_and(|(s, _)| s == Standing::Fit),
                    Ordering::Equal => {
                        !matches!(known, Err(Ineligible::Unknown | NOT_PROGRAMMED))
                            || self.load(now, other, log) >= self.load(now, node, log)
                    }
                    Ordering::Greater => true,
                }
            })
    }

    /// How a node stands for a group, or why it cannot be chosen.
    pub fn standing(
        &self,
        now: Instant,
        node: NodeId,
        group: GroupId,
        view: &GroupView,
        log: &LogView,
    ) -> Result<(Standing, Flows), Ineligible> {
        if candidates(view, log).all(|candidate| candidate != node) {
            return Err(Ineligible::NotCandidate);
        }
        let report = self.fresh(now, node, log).ok_or(Ineligible::Silent)?;
        if view.assignment.is_some_and(|newest| report.applied.get() < newest.epoch.get()) {
            return Err(Ineligible::Behind);
        }
        let flows = standing::of_report(report, group)?;
        let flows = self.counting(now, (group, view), (node, report), flows, log);
        let held = self.hold_downs.is_held(now, node);
        Ok((if held { Standing::HeldDown } else { Standing::Fit }, flows))
    }

    /// What a node says of the flows it holds, if that counts: nobody tells it of them any more once it is not among the replicas,
    /// and it may not have heard of that yet, or that it is one again. To whom the owner has been silent for longer than to
    /// others, it has not said everything.
    fn counting(
        &self,
        now: Instant,
        (group, view): (GroupId, &GroupView),
        (node, report): (NodeId, &Report),
        said: Flows,
        log: &LogView,
    ) -> Flows {
        let heard = view.replicas.get(&node).is_some_and(|since| report.applied >= *since);
        if view.assignment.is_some() && !view.replicas.is_empty() && !heard {
            return Flows::Never;
        }
        let Flows::Silent(age) = said else { return said };
        let owner = view.assignment.map(|owner| Tenure { group, epoch: owner.epoch });
        let others = owner.and_then(|tenure| self.silence(now, tenure, log));
        if others.is_some_and(|silence| age > silence + SILENT_AFTER) {
            Flows::Behind(age)
        } else {
            Flows::CaughtUp
        }
    }
}

/// Who may own the group: data-plane nodes, and of those only the named ones if it names any.
pub(super) fn candidates<'a>(view: &'a GroupView, log: &'a LogView) -> impl Iterator<Item = NodeId> + 'a {
    let nodes = log.view().nodes.iter().filter(|(_, role)| **role == NodeRole::Dataplane);
    nodes.map(|(node, _)| *node).filter(|node| !view.restricted || view.preference.contains(node))
}

/// A node's place in the group's preference.
pub(super) fn place(view: &GroupView, node: NodeId) -> usize {
    view.preference.iter().position(|n| *n == node).unwrap_or(usize::MAX)
}
