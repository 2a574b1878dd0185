//! Who is heard by whom, as far as fresh reports tell.

use std::time::Duration;

use lockstep_model::ids::{GroupId, NodeId};
use lockstep_model::state::Assignment;

use super::{ASSIGNED_GRACE, Leader};
use crate::log::LogView;
use crate::message::{Report, Tenure};
use crate::time::Instant;

impl Leader {
    /// Whether no quorum of those who report hears an owner, who has had time to be heard.
    pub(super) fn is_unheard(&self, now: Instant, group: GroupId, owner: Assignment, log: &LogView) -> bool {
        let known = self.watches.get(&group);
        let grace_over = known.is_some_and(|watch| watch.was_heard || now >= watch.since + ASSIGNED_GRACE);
        grace_over && !self.is_heard(now, owner.node, Tenure { group, epoch: owner.epoch }, log)
    }

    /// Whether a quorum reports.
    pub(super) fn sees(&self, now: Instant, log: &LogView) -> bool {
        log.membership().is_some_and(|all| all.is_quorum(|n| self.fresh(now, n, log).is_some()))
    }

    /// Whether a quorum hears the owner under this epoch, or already another under a later one, which the log gave the
    /// group to and this node has not applied yet: that it hands over is no failure. The owner hears itself, whoever else
    /// does not hear it say so: that the link between it and the leader is broken is no reason to move anything.
    pub(super) fn is_heard(&self, now: Instant, owner: NodeId, tenure: Tenure, log: &LogView) -> bool {
        log.membership().is_some_and(|membership| {
            let by_another =
                membership.voters().into_iter().any(|v| v != owner && self.hears(now, v, tenure, log));
            membership.is_sole(self.me)
                || membership.is_quorum(|v| self.hears(now, v, tenure, log) || (v == owner && by_another))
        })
    }

    pub(super) fn hears(&self, now: Instant, voter: NodeId, tenure: Tenure, log: &LogView) -> bool {
        self.fresh(now, voter, log)
            .is_some_and(|r| r.heard.iter().any(|h| h.hears && covers(h.tenure, tenure)))
    }

    /// How long ago any voter heard the owner; `None`: nobody who reports has heard it.
    pub(super) fn silence(&self, now: Instant, tenure: Tenure, log: &LogView) -> Option<Duration> {
        let ages = log.membership()?.voters().into_iter().filter_map(|voter| {
            let report = self.fresh(now, voter, log)?;
            let since = now.since(self.reports.get(&voter)?.at);
            report.heard.iter().filter(|h| covers(h.tenure, tenure)).map(|h| h.age + since).min()
        });
        ages.min()
    }

    /// Whether a node hears every owner whom a quorum hears.
    pub(super) fn hears_owners(&self, now: Instant, node: NodeId, log: &LogView) -> bool {
        log.view().groups.iter().all(|(group, view)| {
            view.assignment.is_none_or(|owner| {
                let tenure = Tenure { group: *group, epoch: owner.epoch };
                owner.node == node
                    || self.hears(now, node, tenure, log)
                    || !self.is_heard(now, owner.node, tenure, log)
            })
        })
    }

    /// A node's report, unless it is too old to judge by.
    pub(super) fn fresh(&self, now: Instant, node: NodeId, log: &LogView) -> Option<&Report> {
        self.reports.get(&node).filter(|r| now < r.at + log.view().lease).map(|r| &r.report)
    }
}

fn covers(heard: Tenure, tenure: Tenure) -> bool {
    heard.group == tenure.group && heard.epoch >= tenure.epoch
}
