//! The leader's judgement: who should own what.
//!
//! It reads reports and proposes assignments and leadership transfers; Raft decides whether they happen, and
//! the voters' promises whether they take effect. A wrong judgement costs availability, never I3.
//!
//! A group moves when
//! - its owner is not heard by a quorum (one broken link is no reason),
//! - its owner says that it is unfit, drains, has given the epoch back, or keeps failing to hold a lease,
//! - it is to go back to a node that it prefers, and that has been able to serve it for a while,
//!
//! and only to a node that stands strictly higher than the owner ([`Standing`]). Its standbys are chosen in [`replicas`].

mod campaign;
mod choice;
mod hearing;
mod hold_down;
mod output;
mod replicas;
mod standing;
mod succession;
#[cfg(test)]
mod tests;
mod watch;

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use lockstep_model::ids::{Epoch, GroupId, NodeId};
use lockstep_model::limits::MAX_LEASE;
use lockstep_model::state::Assignment;

use self::campaign::Campaign;
use self::hold_down::HoldDowns;
pub use self::output::{Cause, Counters, Output};
use self::replicas::Replicas;
pub use self::standing::{Ineligible, Standing};
use self::watch::Watch;
use crate::log::LogView;
use crate::message::{Report, Tenure};
use crate::status::Flows;
use crate::time::{Instant, renewal_interval, suspect_after};
use crate::view::GroupView;

/// A new group waits this long for its preferred nodes to become fit, and for those with less to do to hear of it: nodes do
/// both at slightly different times.
const FIRST_OWNER_WAIT: Duration = Duration::from_secs(2);
/// How long a new owner has to be heard for the first time: commit, apply, and one request.
const ASSIGNED_GRACE: Duration = Duration::from_millis(500);
/// How long an owner may report that it holds no lease: the longest promise it may have to wait for, twice.
const HOLD_GRACE: Duration = MAX_LEASE.saturating_mul(2);
/// How long a more preferred node has to be able to serve a group, and to hold its flows, before the group goes back to it.
const FAILBACK_WAIT: Duration = Duration::from_secs(10);
/// A proposal that shows no effect is made again after this.
const PROPOSAL_RETRY: Duration = Duration::from_millis(500);
/// After an operator has placed the leadership, it stays there for a while.
pub const OPERATOR_TRANSFER_HOLD: Duration = Duration::from_secs(10);

#[derive(Debug)]
struct Received {
    at: Instant,
    report: Report,
}

/// A node's judgement, idle unless it leads.
#[derive(Debug)]
pub struct Leader {
    me: NodeId,
    leading_since: Option<Instant>,
    /// When it judged last.
    judged_at: Option<Instant>,
    /// From when on this node's judgement counts: before, it only listens.
    judges_from: Instant,
    campaign: Campaign,
    reports: BTreeMap<NodeId, Received>,
    watches: BTreeMap<GroupId, Watch>,
    replicas: BTreeMap<GroupId, Replicas>,
    hold_downs: HoldDowns,
    /// An operator has placed the leadership, here or elsewhere: until then it stays.
    pinned_until: Option<Instant>,
    transfer_tried: Option<Instant>,
    /// Since when this node does not hear an owner whom a quorum hears.
    cut_off_since: Option<Instant>,
    next_judgement: Option<Instant>,
    outputs: VecDeque<Output>,
    counters: Counters,
}

impl Leader {
    /// A node that does not lead yet.
    pub fn new(me: NodeId) -> Self {
        Self {
            me,
            leading_since: None,
            judged_at: None,
            judges_from: Instant::default(),
            campaign: Campaign::default(),
            reports: BTreeMap::new(),
            watches: BTreeMap::new(),
            replicas: BTreeMap::new(),
            hold_downs: HoldDowns::default(),
            pinned_until: None,
            transfer_tried: None,
            cut_off_since: None,
            next_judgement: None,
            outputs: VecDeque::new(),
            counters: Counters::default(),
        }
    }

    /// This node leads, or does not.
    pub fn handle_leadership(&mut self, now: Instant, leads: bool, log: &LogView) {
        if leads == self.leading_since.is_some() {
            return;
        }
        self.leading_since = leads.then_some(now);
        self.judged_at = None;
        self.watches.values_mut().for_each(|watch| watch.start_over(now));
        self.replicas.clear();
        // Time for what is on its way to be heard; who campaigned has heard enough.
        let settling =
            if self.campaign.is_on(now) { Duration::ZERO } else { suspect_after(log.view().lease) };
        self.judges_from = now + settling;
        self.transfer_tried = None;
        self.cut_off_since = None;
        self.next_judgement = leads.then_some(now);
        self.judge(now, log);
    }

    /// A node reports. Kept even while another leads, so that a new leader is not blind.
    pub fn handle_report(&mut self, now: Instant, from: NodeId, report: Report, log: &LogView) {
        // Only what an operator said to the sender itself, or the pin would travel in circles for ever.
        if from != self.me && !report.leadership_pinned.is_zero() {
            self.pin(now + report.leadership_pinned.min(OPERATOR_TRANSFER_HOLD));
        }
        self.reports.insert(from, Received { at: now, report });
        self.judge(now, log);
    }

    /// The applied state or the membership has changed.
    pub fn handle_log(&mut self, now: Instant, log: &LogView) {
        if let Some(membership) = log.membership() {
            let voters = membership.voters();
            let nodes = &log.view().nodes;
            self.reports.retain(|node, _| voters.contains(node) || nodes.contains_key(node));
        }
        self.judge(now, log);
    }

    /// An operator has placed the leadership here or elsewhere. Reports carry it to whoever leads next.
    pub fn handle_operator_transfer(&mut self, now: Instant) {
        self.pin(now + OPERATOR_TRANSFER_HOLD);
    }

    fn pin(&mut self, until: Instant) {
        self.pinned_until = Some(self.pinned_until.map_or(until, |known| known.max(until)));
    }

    /// Time passes.
    pub fn handle_timeout(&mut self, now: Instant, log: &LogView) {
        if self.next_judgement.is_some_and(|at| now >= at) {
            self.judge(now, log);
        }
    }

    fn judge(&mut self, now: Instant, log: &LogView) {
        // Also while another leads: if it dies together with an owner, the next leader must know that this owner
        // was heard once, and not give it the time of a new one.
        self.watches.retain(|group, _| log.view().groups.contains_key(group));
        self.replicas.retain(|group, _| log.view().groups.contains_key(group));
        for (group, view) in &log.view().groups {
            self.watch(now, *group, view, log);
        }
        let lease = log.view().lease;
        let stood_still = self.judged_at.is_some_and(|at| now >= at + lease);
        self.judged_at = Some(now);
        if stood_still {
            // It was stopped, or had no processor: whatever it knows is from before, and what it missed comes in any order.
            // It listens first, as a new leader does.
            self.counters.stood_still += 1;
            self.judges_from = now + suspect_after(lease);
        }
        if self.leading_since.is_none() {
            self.next_judgement = self.consider_campaign(now, log);
            return;
        }
        // Reports and flips come by themselves; what only time decides may be this late.
        self.next_judgement = Some(now + renewal_interval(lease).max(Duration::from_millis(10)));
        if now < self.judges_from {
            return;
        }
        for (group, view) in &log.view().groups {
            self.judge_group(now, *group, view, log);
            self.judge_replicas(now, *group, view, log);
        }
        self.cut_off_since = match self.hears_owners(now, self.me, log) {
            true => None,
            false => self.cut_off_since.or(Some(now)),
        };
        self.consider_transfer(now, log);
    }

    /// Notes what the reports say about a group's owner.
    fn watch(&mut self, now: Instant, group: GroupId, view: &GroupView, log: &LogView) {
        let epoch = view.assignment.map_or(Epoch(0), |a| a.epoch);
        if self.watches.get(&group).is_none_or(|w| w.epoch != epoch) {
            self.watches.insert(group, Watch::new(now, epoch));
        }
        let Some(owner) = view.assignment else { return };
        let heard = self.is_heard(now, owner.node, Tenure { group, epoch }, log);
        let holds =
            self.fresh(now, owner.node, log).is_some_and(|r| r.holding.contains(&Tenure { group, epoch }));
        if let Some(watch) = self.watches.get_mut(&group) {
            watch.note(now, heard, holds);
        }
    }

    fn judge_group(&mut self, now: Instant, group: GroupId, view: &GroupView, log: &LogView) {
        let cause = self.cause(now, group, view, log);
        let Some(watch) = self.watches.get_mut(&group) else { return };
        let Some(cause) = cause else {
            watch.candidate_since = None;
            return;
        };
        let (replaces, since) = (watch.epoch, watch.since);
        if watch.promised_to(now).is_some() {
            return;
        }
        let best = self.best(now, group, view, cause, log);
        let Some((node, standing, flows)) = best.filter(|(_, standing, _)| *standing > cause.standing())
        else {
            return;
        };
        let caught_up = flows == Flows::CaughtUp;
        let patience = match cause {
            Cause::Failback => FAILBACK_WAIT,
            _ => self.patience(now, group, view, flows, log),
        };
        let Some(watch) = self.watches.get_mut(&group) else { return };
        let candidate_since = *watch.candidate_since.get_or_insert(now);
        match cause {
            Cause::First => {
                let settled = self.is_first_choice(now, group, view, node, standing, log);
                if !settled && now < since + FIRST_OWNER_WAIT {
                    return;
                }
            }
            _ if now < candidate_since + patience => return,
            _ => {}
        }
        let Some(watch) = self.watches.get_mut(&group) else { return };
        watch.proposed = Some((node, now));
        if let Some(owner) = view.assignment
            && cause.is_failure()
            && !watch.blamed
        {
            watch.blamed = true;
            self.hold_downs.note_failure(now, owner.node);
        }
        *self.counters.proposed.entry(cause).or_default() += 1;
        if cause != Cause::First && !caught_up {
            self.counters.takeover_without_flows += 1;
        }
        self.outputs.push_back(Output::Assign { group, replaces, node, cause });
    }

    /// Why a group should move, if it should.
    fn cause(&mut self, now: Instant, group: GroupId, view: &GroupView, log: &LogView) -> Option<Cause> {
        let Some(owner) = view.assignment else { return Some(Cause::First) };
        let watch = self.watches.get(&group)?;
        if let Some(cause) = self.owner_says(now, group, owner, log) {
            return Some(cause);
        }
        let last_held = watch.last_held;
        if self.is_unheard(now, group, owner, log) {
            if !self.sees(now, log) {
                self.counters.blind += 1;
                return None;
            }
            return Some(Cause::NotHeard);
        }
        // It says so itself: that nothing was heard of its lease is no reason.
        let says = self.fresh(now, owner.node, log).is_some();
        if says && now >= last_held + HOLD_GRACE {
            return Some(Cause::NoLease);
        }
        (view.failback && self.preferred(now, group, view, log)).then_some(Cause::Failback)
    }

    /// Whether the group prefers a node to its owner that can serve it, holds its flows, and has not failed lately.
    fn preferred(&self, now: Instant, group: GroupId, view: &GroupView, log: &LogView) -> bool {
        let best = self.best(now, group, view, Cause::Failback, log);
        best.is_some_and(|(_, standing, _)| standing > Cause::Failback.standing())
    }

    /// Why the group should leave its owner, by the owner's own account.
    fn owner_says(&self, now: Instant, group: GroupId, owner: Assignment, log: &LogView) -> Option<Cause> {
        let report = self.fresh(now, owner.node, log)?;
        if report.released.iter().any(|t| t.group == group && t.epoch >= owner.epoch) {
            return Some(Cause::GivenBack);
        }
        match standing::of_report(report, group) {
            Ok(_) => None,
            Err(Ineligible::Draining) => Some(Cause::OwnerDraining),
            Err(_) => Some(Cause::OwnerUnfit),
        }
    }

    /// Whether a node is held down, for `group status`.
    pub fn is_held_down(&self, now: Instant, node: NodeId) -> bool {
        self.hold_downs.is_held(now, node)
    }

    /// What is to be done next.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When [`Self::handle_timeout`] has something to do.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.next_judgement
    }

    /// The newest report of a node and its age.
    pub fn report(&self, now: Instant, node: NodeId) -> Option<(&Report, Duration)> {
        self.reports.get(&node).map(|r| (&r.report, now.since(r.at)))
    }

    /// Counters.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }
}
