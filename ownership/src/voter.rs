//! A voter: gives each group's promise to one owner at a time.
//!
//! ```text
//!              valid request                    request of another run, epoch not lower
//!   free ───────────────────────► promised(H) ─────────────────────────► promised(H) + waiting(N)
//!    ▲  ▲                          │   │  ▲ │                                │
//!    │  └──── until passes ────────┘   │  └─┘ request of H extends,          │ until passes, or H releases:
//!    └─────── H releases ──────────────┘      unless a higher epoch is known ▼ promised(N), replied at once
//! ```
//!
//! Invariant: a promise is replaced only when it has ended, its holder released it, or its holder is the one
//! that asks. A restarted voter has forgotten its promises, so it gives none until the longest possible one
//! has ended.
//!
//! The floor (DESIGN section 7) is what makes an owner's successor certain to get its turn: below the highest
//! epoch promised, validly asked for, or in the log, committed or not, nothing is promised or extended. A change
//! that takes an address from a group gives it an epoch too.

mod ballot;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};

use lockstep_model::ids::{Epoch, GroupId, NodeId};
use lockstep_model::limits::{MAX_GROUPS, MAX_LEASE};

pub use self::ballot::Promise;
use self::ballot::{Ballot, Hearing, Waiting};
use crate::identity::Identity;
use crate::log::LogView;
use crate::membership::LogId;
use crate::message::{Answer, Heard, RefusalReason, Refused, Release, ReleaseAck, Reply, Request, Tenure};
use crate::time::{Instant, suspect_after};

/// Groups a voter keeps: those that exist, and as many that it has not yet heard to be deleted.
const MAX_BALLOTS: usize = 2 * MAX_GROUPS;

/// What a voter wants done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Send to the node in `to`.
    Reply(Reply),
    /// Send to the node in `to`.
    ReleaseAck(ReleaseAck),
    /// The voter began or ceased to hear the owner: report it now.
    HearingChanged(Heard),
}

/// Plain counters.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counters {
    /// Promises made or extended.
    pub granted: u64,
    /// Requests kept until an older promise ends.
    pub queued: u64,
    /// Kept requests that were answered.
    pub granted_from_queue: u64,
    /// Kept requests that became pointless or invalid before their turn.
    pub queue_expired: u64,
    /// Releases noted.
    pub released: u64,
    /// Releases of an epoch that belongs to another node.
    pub release_not_assignee: u64,
    /// By reason.
    pub refused: BTreeMap<RefusalReason, u64>,
}

/// A voter.
#[derive(Debug, Clone)]
pub struct Voter {
    /// Before this, nothing is promised.
    started: Instant,
    ballots: BTreeMap<GroupId, Ballot>,
    outputs: VecDeque<Output>,
    counters: Counters,
}

impl Voter {
    /// A voter that starts now, and remembers nothing of its earlier runs.
    pub fn new(now: Instant) -> Self {
        Self {
            started: now + MAX_LEASE,
            ballots: BTreeMap::new(),
            outputs: VecDeque::new(),
            counters: Counters::default(),
        }
    }

    /// An owner asks.
    pub fn handle_request(&mut self, now: Instant, from: Identity, request: &Request, log: &LogView) {
        let mut answers = Vec::new();
        for tenure in &request.tenures {
            match self.consider(now, from, *tenure, request, log) {
                Ok(true) => answers.push(Answer { tenure: *tenure, outcome: Ok(()) }),
                Ok(false) => self.counters.queued += 1,
                Err(reason) => {
                    *self.counters.refused.entry(reason).or_default() += 1;
                    let floor = self.floor(tenure.group, log);
                    answers.push(Answer { tenure: *tenure, outcome: Err(Refused { reason, floor }) });
                }
            }
        }
        if !answers.is_empty() {
            self.reply(from, request.nonce, log, answers);
        }
    }

    /// `Ok(true)`: promised. `Ok(false)`: kept until its turn.
    fn consider(
        &mut self,
        now: Instant,
        from: Identity,
        tenure: Tenure,
        request: &Request,
        log: &LogView,
    ) -> Result<bool, RefusalReason> {
        if request.duration.is_zero() || request.duration > MAX_LEASE {
            return Err(RefusalReason::Duration);
        }
        if !self.ballots.contains_key(&tenure.group) && self.ballots.len() >= MAX_BALLOTS {
            return Err(RefusalReason::TooManyGroups);
        }
        self.check(from, tenure, request.membership, log)?;

        let started = self.started;
        let ballot = self.ballots.entry(tenure.group).or_default();
        ballot.asked = ballot.asked.max(tenure.epoch);
        let until = now + request.duration;
        let free_at = ballot.free_at(from, started);
        if now >= free_at {
            ballot.grant(tenure.epoch, from, until);
            self.counters.granted += 1;
        } else {
            ballot.waiting = Some(Waiting {
                epoch: tenure.epoch,
                from,
                nonce: request.nonce,
                membership: request.membership,
                until,
            });
        }
        self.hear(now, from, tenure, request);
        Ok(now >= free_at)
    }

    /// What a request must satisfy when it comes, and again when its turn comes.
    fn check(
        &self,
        from: Identity,
        tenure: Tenure,
        membership: LogId,
        log: &LogView,
    ) -> Result<(), RefusalReason> {
        if log.membership_id().is_some_and(|own| own > membership) {
            return Err(RefusalReason::OldMembership);
        }
        if tenure.epoch < self.floor(tenure.group, log) {
            return Err(RefusalReason::BelowFloor);
        }
        if tenure.epoch < log.ends_below(tenure.group) {
            return Err(RefusalReason::AddressMoves);
        }
        if self.ballots.get(&tenure.group).is_some_and(|b| tenure.epoch <= b.released) {
            return Err(RefusalReason::Released);
        }
        let assigned = log.newest_assignment(tenure.group);
        if assigned.is_some_and(|a| a.epoch == tenure.epoch && a.node != from.node) {
            return Err(RefusalReason::NotAssignee);
        }
        Ok(())
    }

    fn hear(&mut self, now: Instant, from: Identity, tenure: Tenure, request: &Request) {
        let ballot = self.ballots.entry(tenure.group).or_default();
        let before = ballot.hearing;
        let hearing = Hearing {
            epoch: tenure.epoch,
            node: from.node,
            at: now,
            patience: suspect_after(request.duration),
            hears: true,
        };
        ballot.hearing = Some(hearing);
        if before.is_none_or(|b| !b.hears || b.epoch != hearing.epoch) {
            self.outputs.push_back(Output::HearingChanged(heard(tenure.group, &hearing, now)));
        }
    }

    /// A former owner gives back. Only the run that holds a promise can end it: an earlier run of the same
    /// node knows nothing of the kernel lease that a later one has opened. The epoch is over for both.
    pub fn handle_release(&mut self, now: Instant, from: Identity, release: &Release, log: &LogView) {
        for tenure in &release.tenures {
            let assigned = log.newest_assignment(tenure.group);
            if assigned.is_some_and(|a| a.epoch == tenure.epoch && a.node != from.node) {
                self.counters.release_not_assignee += 1;
                continue;
            }
            if !self.ballots.contains_key(&tenure.group) && self.ballots.len() >= MAX_BALLOTS {
                *self.counters.refused.entry(RefusalReason::TooManyGroups).or_default() += 1;
                continue;
            }
            self.counters.released += 1;
            let ballot = self.ballots.entry(tenure.group).or_default();
            ballot.released = ballot.released.max(tenure.epoch);
            if ballot.promise.is_some_and(|p| p.holder == from && p.epoch == tenure.epoch) {
                ballot.promise = None;
            }
        }
        let ack = ReleaseAck { to: from, tenures: release.tenures.clone() };
        self.outputs.push_back(Output::ReleaseAck(ack));
        self.serve_queue(now, log);
    }

    /// Time passes.
    pub fn handle_timeout(&mut self, now: Instant, log: &LogView) {
        self.serve_queue(now, log);
        for (group, ballot) in &mut self.ballots {
            if let Some(hearing) = ballot.hearing.as_mut()
                && hearing.hears
                && now >= hearing.at + hearing.patience
            {
                hearing.hears = false;
                self.outputs.push_back(Output::HearingChanged(heard(*group, hearing, now)));
            }
        }
    }

    /// Answers kept requests whose turn has come.
    fn serve_queue(&mut self, now: Instant, log: &LogView) {
        let ready: Vec<(GroupId, Waiting)> = self
            .ballots
            .iter()
            .filter_map(|(group, b)| {
                b.waiting.filter(|w| now >= b.free_at(w.from, self.started)).map(|w| (*group, w))
            })
            .collect();
        let mut replies: BTreeMap<(Identity, u64), Vec<Answer>> = BTreeMap::new();
        for (group, waiting) in ready {
            let tenure = Tenure { group, epoch: waiting.epoch };
            let outcome = self.check(waiting.from, tenure, waiting.membership, log);
            let floor = self.floor(group, log);
            let ballot = self.ballots.entry(group).or_default();
            ballot.waiting = None;
            let answers = replies.entry((waiting.from, waiting.nonce)).or_default();
            match outcome {
                Ok(()) if waiting.until > now => {
                    ballot.grant(waiting.epoch, waiting.from, waiting.until);
                    self.counters.granted += 1;
                    self.counters.granted_from_queue += 1;
                    answers.push(Answer { tenure, outcome: Ok(()) });
                }
                Ok(()) => self.counters.queue_expired += 1,
                Err(reason) => {
                    self.counters.queue_expired += 1;
                    *self.counters.refused.entry(reason).or_default() += 1;
                    answers.push(Answer { tenure, outcome: Err(Refused { reason, floor }) });
                }
            }
        }
        for ((to, nonce), answers) in replies {
            if !answers.is_empty() {
                self.reply(to, nonce, log, answers);
            }
        }
    }

    /// Forgets groups that are gone and bind nobody any more. Their ids are never used again.
    pub fn handle_view(&mut self, now: Instant, log: &LogView) {
        self.ballots
            .retain(|group, ballot| !log.is_gone(*group) || ballot.promise.is_some_and(|p| p.until > now));
    }

    fn reply(&mut self, to: Identity, nonce: u64, log: &LogView, answers: Vec<Answer>) {
        let applied = log.view().applied;
        self.outputs.push_back(Output::Reply(Reply { to, nonce, applied, answers }));
    }

    /// What is to be done next.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When [`Self::handle_timeout`] has something to do.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.ballots
            .values()
            .flat_map(|b| {
                let turn = b.waiting.map(|w| b.free_at(w.from, self.started));
                let suspect = b.hearing.filter(|h| h.hears).map(|h| h.at + h.patience);
                turn.into_iter().chain(suspect)
            })
            .min()
    }

    /// The epoch of a group below which this voter refuses.
    pub fn floor(&self, group: GroupId, log: &LogView) -> Epoch {
        let asked = self.ballots.get(&group).map_or(Epoch(0), |b| b.asked);
        asked.max(log.floor(group))
    }

    /// The owners heard.
    pub fn heard(&self, now: Instant) -> impl Iterator<Item = Heard> + '_ {
        self.ballots.iter().filter_map(move |(group, b)| b.hearing.as_ref().map(|h| heard(*group, h, now)))
    }

    /// Under which epoch, from which node, and when the last valid request for a group came.
    pub fn last_heard(&self, group: GroupId) -> Option<(Epoch, NodeId, Instant)> {
        self.ballots.get(&group)?.hearing.map(|h| (h.epoch, h.node, h.at))
    }

    /// Promises in force, for inspection.
    pub fn promises(&self, now: Instant) -> impl Iterator<Item = (GroupId, Promise)> + '_ {
        self.ballots
            .iter()
            .filter_map(move |(group, b)| b.promise.filter(|p| p.until > now).map(|p| (*group, p)))
    }

    /// Counters.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }
}

fn heard(group: GroupId, hearing: &Hearing, now: Instant) -> Heard {
    Heard { tenure: Tenure { group, epoch: hearing.epoch }, hears: hearing.hears, age: now.since(hearing.at) }
}
