//! What a node's Raft log says about ownership: appended, not applied.
//!
//! An assignment counts from the moment it is in a voter's log, committed or not: once it is there, a leader
//! may already have a majority for it, and an older epoch that is still extended would outlive the change. An
//! entry that loses its place (truncation) loses its effect with it.

mod edits;

use std::collections::BTreeMap;

use lockstep_model::ids::{Epoch, GroupId, LogIndex, NodeId};
use lockstep_model::state::Assignment;

pub use self::edits::Edit;
use self::edits::Edits;
use crate::membership::{LogId, Membership};
use crate::time::Instant;
use crate::view::View;

/// A change of the log, told in order, at start once for everything the log holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogEvent {
    /// A membership was appended, or came with a snapshot.
    Membership(Membership),
    /// An assignment was appended.
    Assign {
        /// Its position: the epoch, if it takes effect.
        index: LogIndex,
        /// The group.
        group: GroupId,
        /// The epoch it replaces; it has no effect when that is not the current one.
        replaces: Epoch,
        /// The next owner.
        node: NodeId,
    },
    /// A change of intent was appended.
    Edit {
        /// Its position.
        index: LogIndex,
        /// What matters of it before it is applied.
        edit: Edit,
    },
    /// Everything behind `after` was removed.
    Truncated {
        /// The last entry that stays.
        after: LogIndex,
    },
}

#[derive(Debug, Clone, Copy)]
struct Assign {
    group: GroupId,
    replaces: Epoch,
    node: NodeId,
}

/// The part of the log that voter and owner look at.
#[derive(Debug, Clone, Default)]
pub struct LogView {
    view: View,
    /// Not applied yet.
    assigns: BTreeMap<LogIndex, Assign>,
    edits: Edits,
    /// The newest, and those a truncation could bring back.
    memberships: BTreeMap<LogIndex, Membership>,
    membership_since: Instant,
}

impl LogView {
    /// Takes a change of the log in.
    pub fn handle_event(&mut self, now: Instant, event: LogEvent) {
        let before = self.membership_id();
        match event {
            LogEvent::Membership(membership) => {
                self.memberships.insert(membership.id.index, membership);
            }
            LogEvent::Assign { index, group, replaces, node } => {
                self.assigns.insert(index, Assign { group, replaces, node });
            }
            LogEvent::Edit { index, edit } => self.edits.append(index, edit, &self.view),
            LogEvent::Truncated { after } => {
                let next = LogIndex(after.get() + 1);
                self.assigns.split_off(&next);
                self.edits.truncate(next, &self.view);
                self.memberships.split_off(&next);
            }
        }
        self.forget_settled();
        if self.membership_id() != before {
            self.membership_since = now;
        }
    }

    /// Takes the applied state in.
    pub fn handle_view(&mut self, view: View) {
        if view.applied < self.view.applied {
            return;
        }
        self.view = view;
        self.edits.handle_view(&self.view);
        self.forget_settled();
    }

    /// Drops what is applied: no truncation reaches it.
    fn forget_settled(&mut self) {
        let applied = self.view.applied;
        self.assigns.retain(|index, _| *index > applied);
        if let Some((settled, _)) = self.memberships.range(..=applied).next_back() {
            let settled = *settled;
            self.memberships.retain(|index, _| *index >= settled);
        }
    }

    /// The applied state.
    pub fn view(&self) -> &View {
        &self.view
    }

    /// The newest membership.
    pub fn membership(&self) -> Option<&Membership> {
        self.memberships.values().next_back()
    }

    /// The newest membership's log id.
    pub fn membership_id(&self) -> Option<LogId> {
        self.membership().map(|m| m.id)
    }

    /// When the newest membership became the newest.
    pub fn membership_since(&self) -> Instant {
        self.membership_since
    }

    /// The assignment of a group that the log ends with.
    ///
    /// Assignments that lost their race (`replaces` is not current) are passed over, as `apply` will pass
    /// over them: their index would be a floor that nobody can ever reach. One that replaces nothing counts
    /// until it is applied or void: what comes from a snapshot does not say what it replaced.
    pub fn newest_assignment(&self, group: GroupId) -> Option<Assignment> {
        let mut current = self.view.assignment(group);
        for (index, assign) in self.assigns.iter().filter(|(_, a)| a.group == group) {
            let follows = |c: Assignment| c.epoch == assign.replaces || assign.replaces == Epoch(0);
            if current.is_none_or(follows) {
                current = Some(Assignment { epoch: Epoch(index.get()), node: assign.node });
            }
        }
        current
    }

    /// Whether the log, applied or not, knows of another node than `me` that might serve: one that is registered, or
    /// one that a group was given to.
    pub fn knows_other_than(&self, me: NodeId) -> bool {
        self.view.nodes.keys().any(|node| *node != me) || self.assigns.values().any(|a| a.node != me)
    }

    /// Below this epoch, a change that is in the log and not applied yet may have ended what a group serves.
    pub fn ends_below(&self, group: GroupId) -> Epoch {
        self.edits.raised(group)
    }

    /// Whether a group was made and deleted again, as far as is applied. Its id is never used again.
    pub fn is_gone(&self, group: GroupId) -> bool {
        (LogIndex(1)..=self.view.applied).contains(&group.made_at()) && !self.view.groups.contains_key(&group)
    }

    /// The epoch below which a voter with this log refuses: no epoch of a group that is gone is high enough, whose
    /// addresses another group may have.
    pub fn floor(&self, group: GroupId) -> Epoch {
        if self.is_gone(group) {
            return Epoch(u64::MAX);
        }
        self.newest_assignment(group).map_or(Epoch(0), |a| a.epoch)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::view::GroupView;

    const G: GroupId = GroupId(7);

    fn assign(index: u64, replaces: u64, node: u64) -> LogEvent {
        LogEvent::Assign { index: LogIndex(index), group: G, replaces: Epoch(replaces), node: NodeId(node) }
    }

    fn view(applied: u64, epoch: u64, node: u64) -> View {
        let assignment = Some(Assignment { epoch: Epoch(epoch), node: NodeId(node) });
        let groups = [(G, GroupView { assignment, ..GroupView::default() })].into();
        View { applied: LogIndex(applied), groups, ..View::default() }
    }

    fn membership(term: u64, index: u64) -> Membership {
        let id = LogId { term, leader: NodeId(1), index: LogIndex(index) };
        Membership { id, configs: vec![BTreeSet::from([NodeId(1)])] }
    }

    #[test]
    fn an_appended_assignment_raises_the_floor_and_truncation_lowers_it() {
        let mut log = LogView::default();
        log.handle_view(view(5, 5, 1));
        log.handle_event(Instant::default(), assign(8, 5, 2));
        assert_eq!(log.floor(G), Epoch(8));
        log.handle_event(Instant::default(), LogEvent::Truncated { after: LogIndex(7) });
        assert_eq!(log.floor(G), Epoch(5));
    }

    #[test]
    fn an_assignment_that_lost_its_race_is_no_floor() {
        let mut log = LogView::default();
        log.handle_view(view(5, 5, 1));
        log.handle_event(Instant::default(), assign(8, 5, 2));
        log.handle_event(Instant::default(), assign(9, 5, 3));
        assert_eq!(log.newest_assignment(G), Some(Assignment { epoch: Epoch(8), node: NodeId(2) }));
        log.handle_view(view(9, 8, 2));
        assert_eq!(log.floor(G), Epoch(8));
        log.handle_event(Instant::default(), assign(11, 8, 3));
        assert_eq!(log.floor(G), Epoch(11));
    }

    #[test]
    fn an_assignment_from_a_snapshot_counts_before_the_snapshot_is_applied() {
        let mut log = LogView::default();
        log.handle_view(view(5, 5, 1));
        log.handle_event(Instant::default(), assign(40, 0, 2));
        log.handle_event(Instant::default(), assign(60, 40, 3));
        assert_eq!(log.newest_assignment(G), Some(Assignment { epoch: Epoch(60), node: NodeId(3) }));
    }

    #[test]
    fn what_apply_refused_is_forgotten_when_it_is_applied() {
        let mut log = LogView::default();
        log.handle_view(view(5, 5, 1));
        log.handle_event(Instant::default(), assign(8, 5, 99));
        log.handle_view(view(8, 5, 1));
        assert_eq!(log.floor(G), Epoch(5));
    }

    #[test]
    fn truncation_brings_the_older_membership_back_and_restarts_its_age() {
        let mut log = LogView::default();
        let at = Instant::from_nanos;
        log.handle_event(at(1), LogEvent::Membership(membership(1, 1)));
        log.handle_event(at(2), LogEvent::Membership(membership(1, 6)));
        assert_eq!(
            (log.membership_id().map(|m| m.index), log.membership_since()),
            (Some(LogIndex(6)), at(2))
        );
        log.handle_event(at(3), LogEvent::Truncated { after: LogIndex(5) });
        assert_eq!(
            (log.membership_id().map(|m| m.index), log.membership_since()),
            (Some(LogIndex(1)), at(3))
        );
        log.handle_event(at(4), assign(9, 0, 1));
        assert_eq!(log.membership_since(), at(3), "other entries do not touch it");
    }
}
