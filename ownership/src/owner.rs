//! An owner: collects the promises of a quorum into a lease, per group.
//!
//! ```text
//!   assigned here          a quorum has promised              assigned elsewhere, or a quorum
//!   ───────────► Asking ─────────────────────────► Open ────► will not renew ───► Awaiting
//!                  │                               │ ▲                              │ the successor has asked,
//!                  │                               └─┘ renewal                      │ there is none, or patience ended
//!                  │                                                                ▼
//!                  │ assigned elsewhere                                           Yielding
//!                  │                                                                │ flushed, or the lease ended
//!                  ▼                                                                ▼
//!              Abandoned ──────────────► released ◄──────── grace period over ── Closing
//! ```
//!
//! Invariant: a lease ends before the promises of a quorum do. It is counted from the time its request was
//! *sent* (a promise is counted from its arrival, so later), shortened by the drift of two clocks over its
//! length and by the kernel clock's step.
//!
//! Release is terminal: an epoch that was given back is never asked for again, whatever the log says.

mod claim;
mod inspect;
mod output;
mod release;
mod staleness;
mod succession;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use lockstep_model::ids::{Epoch, GroupId, NodeId};
use lockstep_model::limits::MAX_LEASE;

use self::claim::Claim;
pub use self::claim::{Phase, Until};
pub use self::output::{Counters, Output};
use self::release::Releases;
pub use self::staleness::STALE_AFTER;
use self::staleness::Staleness;
use self::succession::{Asked, PATIENCE};
use crate::identity::Identity;
use crate::log::LogView;
use crate::membership::{LogId, Membership};
use crate::message::{RefusalReason, ReleaseAck, Reply, Request, Tenure};
use crate::time::{Instant, drift_over, renewal_interval};

#[derive(Debug, Clone, Copy)]
struct Sent {
    at: Instant,
    duration: Duration,
}

/// An owner.
#[derive(Debug, Clone)]
pub struct Owner {
    me: Identity,
    /// The kernel clock's step: by how much the reading that a lease is compared with may be old.
    clock_step: Duration,
    claims: BTreeMap<Tenure, Claim>,
    /// By group, the highest epoch given back.
    given_back: BTreeMap<GroupId, Epoch>,
    /// Assignments up to this epoch were to a kernel that is gone.
    forgone: Epoch,
    /// Groups seen assigned to somebody else: what an earlier run left in the kernel has been closed.
    foreign: BTreeSet<GroupId>,
    releases: Releases,
    asked: Asked,
    sent: BTreeMap<u64, Sent>,
    next_nonce: u64,
    next_request: Option<Instant>,
    staleness: Staleness,
    /// Under which membership was asked last.
    asked_under: Option<LogId>,
    /// A membership with other nodes is about to be proposed: no unbounded lease any more.
    bounded: bool,
    outputs: VecDeque<Output>,
    counters: Counters,
}

impl Owner {
    /// An owner that starts now.
    pub fn new(me: Identity, clock_step: Duration) -> Self {
        Self {
            me,
            clock_step,
            claims: BTreeMap::new(),
            given_back: BTreeMap::new(),
            forgone: Epoch(0),
            foreign: BTreeSet::new(),
            releases: Releases::default(),
            asked: Asked::default(),
            sent: BTreeMap::new(),
            next_nonce: 1,
            next_request: None,
            staleness: Staleness::default(),
            asked_under: None,
            bounded: false,
            outputs: VecDeque::new(),
            counters: Counters::default(),
        }
    }

    /// The applied state or the log has changed.
    pub fn handle_log(&mut self, now: Instant, log: &LogView) {
        self.staleness.handle_applied(now, log.view().applied);
        let mut over = Vec::new();
        for (group, view) in &log.view().groups {
            let Some(assignment) = view.assignment else { continue };
            let tenure = Tenure { group: *group, epoch: assignment.epoch };
            // What this run serves itself is closed at the end of its hand-over, once it is flushed.
            if assignment.node != self.me.node && self.foreign.insert(*group) && !self.serves(*group) {
                self.outputs.push_back(Output::CloseLease(tenure));
            }
            if assignment.node == self.me.node && assignment.epoch <= self.forgone {
                let given_back = self.given_back.entry(*group).or_default();
                *given_back = (*given_back).max(assignment.epoch);
            }
            let given_back = self.given_back.get(group).is_some_and(|e| assignment.epoch <= *e);
            if assignment.node == self.me.node && !given_back && !self.claims.contains_key(&tenure) {
                self.claims.insert(tenure, Claim::new());
                self.next_request = Some(now);
            }
        }
        for (tenure, claim) in &self.claims {
            let current = log.view().assignment(tenure.group);
            if claim.asks() && current.is_none_or(|a| a.epoch != tenure.epoch || a.node != self.me.node) {
                // Reassigned to this node: the old tenure serves until the new one opens.
                let mine = current.is_some_and(|a| a.node == self.me.node && a.epoch > tenure.epoch);
                if !(mine && claim.phase == Phase::Open) {
                    over.push(*tenure);
                }
            }
        }
        for tenure in over {
            self.end(now, tenure, PATIENCE, log);
        }
        self.given_back.retain(|group, _| log.view().groups.contains_key(group));
        self.foreign.retain(|group| log.view().groups.contains_key(group));
        self.asked.retain(log);
        self.bind_unbounded(now, log);
        // A new voter is asked at once: until it has promised, the lease runs on what is left of the last renewal.
        if self.next_request.is_some() && self.asked_under != log.membership_id() {
            self.next_request = Some(now);
        }
        if self.next_request.is_none() && self.claims.values().any(Claim::asks) {
            self.next_request = Some(now);
        }
        self.handle_timeout(now, log);
    }

    /// Whether the kernel may hold a lease of the group that this run has opened.
    fn serves(&self, group: GroupId) -> bool {
        self.claims.iter().any(|(tenure, claim)| tenure.group == group && claim.may_serve())
    }

    /// No more renewals of a claim, whose successor is waited for so long at most.
    fn end(&mut self, now: Instant, tenure: Tenure, patience: Duration, log: &LogView) {
        let Some(claim) = self.claims.get_mut(&tenure) else { return };
        let given_back = self.given_back.entry(tenure.group).or_default();
        *given_back = (*given_back).max(tenure.epoch);
        claim.phase = match claim.phase {
            Phase::Asking => Phase::Abandoned,
            Phase::Open => {
                let deadline = match claim.until {
                    Some(Until::At(until)) => until,
                    // Nobody waits for it, but it has to end.
                    Some(Until::Unbounded) => now + MAX_LEASE,
                    None => now,
                };
                claim.until = Some(Until::At(deadline));
                Phase::Awaiting { patience: now + patience }
            }
            ended => ended,
        };
        self.flush_for_successors(now, log);
    }

    /// The kernel is empty: what was assigned up to this epoch is given back unclaimed, so that a standby which still has the
    /// flows serves on. To be told before the first [`Self::handle_log`].
    pub const fn forgo(&mut self, up_to: Epoch) {
        self.forgone = up_to;
    }

    /// Gives everything back, as if it were assigned elsewhere: the last resort of a shutdown that nobody
    /// took over from.
    pub fn surrender(&mut self, now: Instant, log: &LogView) {
        let all: Vec<Tenure> = self.claims.keys().copied().collect();
        for tenure in all {
            self.end(now, tenure, Duration::ZERO, log);
        }
        self.handle_timeout(now, log);
    }

    /// What was to be flushed of a tenure is with the standbys.
    pub fn handle_flushed(&mut self, tenure: Tenure) {
        if let Some(claim) = self.claims.get_mut(&tenure)
            && claim.phase == Phase::Yielding
        {
            claim.phase = Phase::Closing;
            self.outputs.push_back(Output::CloseLease(tenure));
        }
    }

    /// The kernel lease of a tenure is closed and no program runs that has read it.
    pub fn handle_closed(&mut self, now: Instant, tenure: Tenure, log: &LogView) {
        if self.claims.get(&tenure).is_some_and(|c| c.phase == Phase::Closing) {
            self.claims.remove(&tenure);
            self.release(now, tenure, log);
            self.handle_timeout(now, log);
        }
    }

    fn release(&mut self, now: Instant, tenure: Tenure, log: &LogView) {
        let voters = log.membership().map(Membership::voters).unwrap_or_default();
        self.releases.start(now, tenure, voters);
    }

    /// A voter has answered.
    pub fn handle_reply(&mut self, now: Instant, voter: NodeId, reply: &Reply, log: &LogView) {
        if reply.to != self.me {
            self.counters.late_replies += 1;
            return;
        }
        self.staleness.handle_seen(now, reply.applied, log.view().applied);
        let Some(sent) = self.sent.get(&reply.nonce).copied() else {
            self.counters.late_replies += 1;
            return;
        };
        let promised = (sent.at + sent.duration) - drift_over(sent.duration) - self.clock_step;
        for answer in &reply.answers {
            let Some(claim) = self.claims.get_mut(&answer.tenure) else { continue };
            match answer.outcome {
                Ok(()) => {
                    claim.refused_by.remove(&voter);
                    let known = claim.promises.entry(voter).or_insert(promised);
                    *known = (*known).max(promised);
                    if claim.asks() {
                        self.extend(now, answer.tenure, sent.at, log);
                    }
                }
                Err(refused) => {
                    *self.counters.refused.entry(refused.reason).or_default() += 1;
                    if matches!(refused.reason, RefusalReason::BelowFloor | RefusalReason::Released) {
                        claim.refused_by.insert(voter);
                        self.yield_if_hopeless(now, answer.tenure, refused.reason, log);
                    }
                }
            }
        }
        self.poll_staleness(now);
    }

    /// Opens or extends the lease of a claim, if its promises reach further than before.
    fn extend(&mut self, now: Instant, tenure: Tenure, sent_at: Instant, log: &LogView) {
        let Some(membership) = log.membership() else { return };
        let Some(claim) = self.claims.get_mut(&tenure) else { return };
        let Some(until) = membership.promised_until(&claim.promises) else { return };
        let further = match claim.until {
            Some(Until::At(before)) => until > before,
            Some(Until::Unbounded) => false,
            None => true,
        };
        if !further || until <= now {
            return;
        }
        let first = !claim.holds(now);
        claim.until = Some(Until::At(until));
        claim.last_renewal = Some(sent_at);
        self.opened(tenure, Until::At(until), first);
    }

    fn opened(&mut self, tenure: Tenure, until: Until, first: bool) {
        if let Some(claim) = self.claims.get_mut(&tenure) {
            claim.phase = Phase::Open;
        }
        if first {
            self.counters.opened += 1;
        } else {
            self.counters.renewed += 1;
        }
        self.outputs.push_back(Output::SetLease { tenure, until, first });
        // This node's earlier tenures of the group end in this one: nothing to close, nothing to give back.
        let earlier = |t: &Tenure| t.group == tenure.group && t.epoch < tenure.epoch;
        self.claims.retain(|t, _| !earlier(t));
    }

    /// When so many voters know of a higher epoch that no quorum can renew, the lease is going to end: use
    /// what is left of it to hand over. One such voter is no reason: the epoch it knows of may never be
    /// committed.
    ///
    /// An epoch that an earlier run of this node gave back is over, which only the voters know any more: saying
    /// so is what makes the leader assign the group anew, to this node if there is no other.
    fn yield_if_hopeless(&mut self, now: Instant, tenure: Tenure, reason: RefusalReason, log: &LogView) {
        let Some(membership) = log.membership() else { return };
        let Some(claim) = self.claims.get(&tenure) else { return };
        let ends = match claim.phase {
            Phase::Open => true,
            Phase::Asking => reason == RefusalReason::Released,
            Phase::Awaiting { .. } | Phase::Yielding | Phase::Closing | Phase::Abandoned => false,
        };
        if ends && !membership.is_quorum(|n| !claim.refused_by.contains(&n)) {
            self.end(now, tenure, PATIENCE, log);
        }
    }

    /// A voter has noted a release.
    pub fn handle_release_ack(&mut self, voter: NodeId, ack: &ReleaseAck) {
        if ack.to == self.me {
            self.releases.handle_ack(voter, &ack.tenures);
        }
    }

    /// A membership with other nodes is about to be proposed. The leases are bounded when
    /// [`Self::is_bounded`] says so *and* the outputs have been carried out.
    pub fn prepare_growth(&mut self, now: Instant, log: &LogView) {
        self.bounded = true;
        self.bind_unbounded(now, log);
        self.handle_timeout(now, log);
    }

    /// The proposal failed, or was carried out.
    pub fn growth_done(&mut self) {
        self.bounded = false;
    }

    /// Whether no lease is unbounded.
    pub fn is_bounded(&self) -> bool {
        self.claims.values().all(|c| c.until != Some(Until::Unbounded))
    }

    /// Whether this node needs nobody's promise. Not as the only voter of others, though: a group could be given to one
    /// of them, whose request this node's voter would grant, not knowing of a lease that nobody asked it for.
    fn is_alone(&self, log: &LogView) -> bool {
        !self.bounded
            && log.membership().is_some_and(|m| m.is_sole(self.me.node))
            && !log.knows_other_than(self.me.node)
    }

    /// Gives unbounded leases an end once this node is not alone any more.
    fn bind_unbounded(&mut self, now: Instant, log: &LogView) {
        if self.is_alone(log) {
            return;
        }
        let lease = log.view().lease;
        let until = (now + lease) - drift_over(lease) - self.clock_step;
        for (tenure, claim) in &mut self.claims {
            if claim.until == Some(Until::Unbounded) {
                claim.until = Some(Until::At(until));
                self.outputs.push_back(Output::SetLease {
                    tenure: *tenure,
                    until: Until::At(until),
                    first: false,
                });
                self.next_request = Some(now);
            }
        }
    }

    /// Time passes.
    pub fn handle_timeout(&mut self, now: Instant, log: &LogView) {
        self.note_lapsed(now);
        self.flush_for_successors(now, log);
        let ended: Vec<Tenure> = self
            .claims
            .iter()
            .filter(|(_, c)| c.phase == Phase::Yielding && !c.until.is_some_and(|u| u.holds(now)))
            .map(|(t, _)| *t)
            .collect();
        for tenure in ended {
            self.handle_flushed(tenure);
        }
        self.release_abandoned(now, log);
        for (node, release) in self.releases.due(now) {
            self.outputs.push_back(Output::Release(node, release));
        }
        self.renew(now, log);
        self.poll_staleness(now);
    }

    /// A tenure that never opened is given back only when no earlier one of the group is open here: a voter
    /// may have merged the promises of both into one.
    fn release_abandoned(&mut self, now: Instant, log: &LogView) {
        let abandoned: Vec<Tenure> = self
            .claims
            .iter()
            .filter(|(t, c)| c.phase == Phase::Abandoned && !self.serves(t.group))
            .map(|(t, _)| *t)
            .collect();
        for tenure in abandoned {
            self.claims.remove(&tenure);
            self.release(now, tenure, log);
        }
    }

    fn note_lapsed(&mut self, now: Instant) {
        for claim in self.claims.values_mut() {
            if claim.phase == Phase::Open && claim.until.is_some_and(|u| !u.holds(now)) {
                claim.until = None;
                self.counters.lapsed += 1;
            }
        }
    }

    fn poll_staleness(&mut self, now: Instant) {
        if let Some(stale) = self.staleness.poll(now) {
            self.outputs.push_back(Output::IntentStale(stale));
        }
    }

    /// Asks for every claim that may be asked for, when it is time.
    fn renew(&mut self, now: Instant, log: &LogView) {
        if self.next_request.is_none_or(|at| now < at) {
            return;
        }
        let Some(membership) = log.membership() else {
            // Asked for again when the log has one.
            self.next_request = None;
            return;
        };
        let alone = self.is_alone(log);
        let may_acquire = self.may_acquire_at(log);
        let asking: Vec<Tenure> = self
            .claims
            .iter()
            .filter(|(_, c)| c.asks() && (c.phase == Phase::Open || now >= may_acquire))
            .map(|(t, _)| *t)
            .filter(|t| !self.claims.iter().any(|(o, c)| o.group == t.group && o.epoch > t.epoch && c.asks()))
            .collect();
        if asking.is_empty() {
            let waits = self.claims.values().any(Claim::asks);
            self.next_request = waits.then_some(may_acquire);
            return;
        }
        if alone {
            for tenure in asking {
                let claim = self.claims.get_mut(&tenure).expect("it was found above");
                if claim.until != Some(Until::Unbounded) {
                    let first = !claim.holds(now);
                    claim.until = Some(Until::Unbounded);
                    self.opened(tenure, Until::Unbounded, first);
                }
            }
            self.next_request = None;
            return;
        }
        let duration = log.view().lease;
        let nonce = self.next_nonce;
        self.next_nonce += 1;
        self.sent.retain(|_, s| now < s.at + s.duration);
        self.sent.insert(nonce, Sent { at: now, duration });
        self.asked_under = Some(membership.id);
        self.next_request = Some(now + renewal_interval(duration));
        self.counters.requests += 1;
        let request = Request { nonce, membership: membership.id, duration, tenures: asking };
        self.outputs.push_back(Output::Request(request));
    }

    /// Before this, nothing new is acquired: an owner that a quorum of an older membership elected may still
    /// hold a lease that the newest membership's voters know nothing of.
    pub fn may_acquire_at(&self, log: &LogView) -> Instant {
        log.membership_since() + MAX_LEASE
    }

    /// What is to be done next.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When [`Self::handle_timeout`] has something to do.
    pub fn next_deadline(&self) -> Option<Instant> {
        let claims = self.claims.values().filter_map(|c| match (c.phase, c.until) {
            (Phase::Yielding | Phase::Open, Some(Until::At(until))) => Some(until),
            _ => c.flush_at(),
        });
        claims
            .chain(self.next_request)
            .chain(self.releases.next_deadline())
            .chain(self.staleness.next_deadline())
            .min()
    }
}
