//! One node: voter, owner and leader, with the log they share.
//!
//! A node is a voter of its own: what its owner asks, its voter hears at once, without the network.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use lockstep_model::ids::{Epoch, GroupId, NodeId};
use lockstep_model::state::Assignment;

use crate::failover::FailoverRecord;
use crate::identity::Identity;
use crate::leader::{self, Cause, Leader};
use crate::log::{LogEvent, LogView};
use crate::membership::Membership;
use crate::message::{Message, Report, Tenure};
use crate::owner::{self, Owner, Until};
use crate::status::{Candidacy, LocalStatus, Unfit};
use crate::time::{Instant, renewal_interval};
use crate::view::View;
use crate::voter::{self, Voter};

/// Takeovers under way; a group has at most one, and what is beyond this is not recorded.
const MAX_RECORDS: usize = lockstep_model::limits::MAX_GROUPS;

/// What a node wants done, in this order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Send a datagram.
    Send {
        /// To whom.
        to: NodeId,
        /// What.
        message: Message,
    },
    /// See [`owner::Output::SetLease`].
    SetLease {
        /// The tenure it is for.
        tenure: Tenure,
        /// Its end.
        until: Until,
        /// It was not held just before.
        first: bool,
    },
    /// See [`owner::Output::CloseLease`]; answered by [`Participant::handle_closed`].
    CloseLease(Tenure),
    /// See [`owner::Output::Flush`]; answered by [`Participant::handle_flushed`].
    Flush {
        /// The tenure that ends.
        tenure: Tenure,
        /// When it is closed at the latest.
        deadline: Instant,
    },
    /// See [`owner::Output::IntentStale`].
    IntentStale(bool),
    /// Propose an assignment to Raft.
    Assign {
        /// The group.
        group: GroupId,
        /// Its current epoch.
        replaces: Epoch,
        /// The next owner.
        node: NodeId,
        /// Why.
        cause: Cause,
    },
    /// Propose to Raft who holds a group's flows.
    SetReplicas {
        /// The group.
        group: GroupId,
        /// Its current epoch.
        epoch: Epoch,
        /// Who holds them now.
        replaces: BTreeSet<NodeId>,
        /// Who is to.
        nodes: BTreeSet<NodeId>,
    },
    /// Hand the Raft leadership over.
    TransferLeader(NodeId),
    /// Ask for votes against a leader that is lost, without waiting for Raft's timeouts.
    Campaign {
        /// Who led.
        against: NodeId,
    },
    /// A takeover is complete.
    Failover(FailoverRecord),
}

/// A node.
#[derive(Debug)]
pub struct Participant {
    me: Identity,
    log: LogView,
    voter: Voter,
    owner: Owner,
    leader: Leader,
    status: LocalStatus,
    /// When an operator placed the leadership by way of this node.
    operator_transfer: Option<Instant>,
    next_report: Option<Instant>,
    /// When this node's voter ceased to hear the group's owner.
    suspected: BTreeMap<GroupId, (Epoch, Instant)>,
    failovers: BTreeMap<Tenure, FailoverRecord>,
    /// Assignments applied so far.
    seen: BTreeMap<GroupId, Assignment>,
    outputs: VecDeque<Output>,
}

impl Participant {
    /// A run of a node that starts now. `clock_step`: see [`Owner::new`].
    pub fn new(now: Instant, me: Identity, clock_step: Duration) -> Self {
        Self {
            me,
            log: LogView::default(),
            voter: Voter::new(now),
            owner: Owner::new(me, clock_step),
            leader: Leader::new(me.node),
            status: LocalStatus::default(),
            operator_transfer: None,
            next_report: Some(now),
            suspected: BTreeMap::new(),
            failovers: BTreeMap::new(),
            seen: BTreeMap::new(),
            outputs: VecDeque::new(),
        }
    }

    /// The Raft log has changed.
    pub fn handle_log(&mut self, now: Instant, event: LogEvent) {
        self.log.handle_event(now, event);
        self.log_changed(now);
    }

    /// More of the log is applied.
    pub fn handle_view(&mut self, now: Instant, view: View) {
        self.log.handle_view(view);
        self.voter.handle_view(now, &self.log);
        self.note_assignments(now);
        self.log_changed(now);
    }

    fn log_changed(&mut self, now: Instant) {
        self.owner.handle_log(now, &self.log);
        self.leader.handle_log(now, &self.log);
        self.route(now);
    }

    /// A datagram from another node has come, and `from` provably sent it.
    pub fn handle_message(&mut self, now: Instant, from: Identity, message: Message) {
        self.deliver(now, from, message);
        self.route(now);
    }

    fn deliver(&mut self, now: Instant, from: Identity, message: Message) {
        match message {
            Message::Request(request) => {
                self.voter.handle_request(now, from, &request, &self.log);
                self.owner.handle_asked(now, from, &request.tenures, &self.log);
            }
            Message::Reply(reply) => self.owner.handle_reply(now, from.node, &reply, &self.log),
            Message::Release(release) => self.voter.handle_release(now, from, &release, &self.log),
            Message::ReleaseAck(ack) => self.owner.handle_release_ack(from.node, &ack),
            Message::Report(report) => self.leader.handle_report(now, from.node, report, &self.log),
        }
    }

    /// This node leads, or does not.
    pub fn handle_leadership(&mut self, now: Instant, leads: bool) {
        self.leader.handle_leadership(now, leads, &self.log);
        self.route(now);
    }

    /// Who leads, as far as Raft knows on this node.
    pub fn handle_leader(&mut self, now: Instant, leader: Option<NodeId>) {
        self.leader.handle_leader(now, leader, &self.log);
        self.route(now);
    }

    /// An operator is about to place the leadership: whoever gets it has to know.
    pub fn handle_operator_transfer(&mut self, now: Instant) {
        self.operator_transfer = Some(now);
        self.leader.handle_operator_transfer(now);
        self.report(now);
        self.route(now);
    }

    /// What this node knows of itself has changed: reported at once.
    pub fn handle_status(&mut self, now: Instant, status: LocalStatus) {
        if status != self.status {
            self.status = status;
            self.next_report = Some(now);
            self.handle_timeout(now);
        }
    }

    /// See [`Owner::handle_flushed`].
    pub fn handle_flushed(&mut self, now: Instant, tenure: Tenure) {
        self.owner.handle_flushed(tenure);
        self.route(now);
    }

    /// See [`Owner::handle_closed`].
    pub fn handle_closed(&mut self, now: Instant, tenure: Tenure) {
        self.owner.handle_closed(now, tenure, &self.log);
        self.route(now);
    }

    /// See [`Owner::forgo`].
    pub const fn forgo(&mut self, up_to: Epoch) {
        self.owner.forgo(up_to);
    }

    /// See [`Owner::surrender`].
    pub fn surrender(&mut self, now: Instant) {
        self.owner.surrender(now, &self.log);
        self.route(now);
    }

    /// See [`Owner::prepare_growth`].
    pub fn prepare_growth(&mut self, now: Instant) {
        self.owner.prepare_growth(now, &self.log);
        self.route(now);
    }

    /// See [`Owner::growth_done`].
    pub fn growth_done(&mut self) {
        self.owner.growth_done();
    }

    /// The kernel lease of a takeover is written.
    pub fn handle_map_written(&mut self, now: Instant, tenure: Tenure) {
        if let Some(record) = self.failovers.get_mut(&tenure) {
            record.map_written.get_or_insert(now);
        }
    }

    /// The first announcement after a takeover is sent, or nothing could be: the takeover is complete.
    pub fn handle_announced(&mut self, now: Instant, tenure: Tenure, sent: bool) {
        if let Some(mut record) = self.failovers.remove(&tenure) {
            record.announced = sent.then_some(now);
            self.outputs.push_back(Output::Failover(record));
        }
    }

    /// Time passes.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.voter.handle_timeout(now, &self.log);
        self.owner.handle_timeout(now, &self.log);
        self.route(now);
        if self.next_report.is_some_and(|at| now >= at) {
            self.report(now);
            self.route(now);
        }
        self.leader.handle_timeout(now, &self.log);
        self.route(now);
    }

    /// Moves what the machines want to where it is wanted, until none wants anything.
    fn route(&mut self, now: Instant) {
        loop {
            if let Some(output) = self.voter.poll_output() {
                self.route_voter(now, output);
            } else if let Some(output) = self.owner.poll_output() {
                self.route_owner(now, output);
            } else if let Some(output) = self.leader.poll_output() {
                self.outputs.push_back(match output {
                    leader::Output::Assign { group, replaces, node, cause } => {
                        Output::Assign { group, replaces, node, cause }
                    }
                    leader::Output::SetReplicas { group, epoch, replaces, nodes } => {
                        Output::SetReplicas { group, epoch, replaces, nodes }
                    }
                    leader::Output::TransferLeader(to) => Output::TransferLeader(to),
                    leader::Output::Campaign { against } => Output::Campaign { against },
                });
            } else {
                return;
            }
        }
    }

    fn route_voter(&mut self, now: Instant, output: voter::Output) {
        match output {
            voter::Output::Reply(reply) => self.send(now, reply.to.node, Message::Reply(reply)),
            voter::Output::ReleaseAck(ack) => self.send(now, ack.to.node, Message::ReleaseAck(ack)),
            voter::Output::HearingChanged(heard) => {
                let Tenure { group, epoch } = heard.tenure;
                if heard.hears {
                    self.suspected.retain(|g, (e, _)| *g != group || *e < epoch);
                } else {
                    self.suspected.insert(group, (epoch, now));
                }
                self.report(now);
            }
        }
    }

    fn route_owner(&mut self, now: Instant, output: owner::Output) {
        match output {
            owner::Output::Request(request) => self.broadcast(now, Message::Request(request)),
            owner::Output::Release(to, release) => self.send(now, to, Message::Release(release)),
            owner::Output::SetLease { tenure, until, first } => {
                if let Some(record) = self.failovers.get_mut(&tenure) {
                    record.promised.get_or_insert(now);
                }
                self.outputs.push_back(Output::SetLease { tenure, until, first });
            }
            owner::Output::Flush { tenure, deadline } => {
                self.outputs.push_back(Output::Flush { tenure, deadline })
            }
            owner::Output::CloseLease(tenure) => self.outputs.push_back(Output::CloseLease(tenure)),
            owner::Output::IntentStale(stale) => {
                self.outputs.push_back(Output::IntentStale(stale));
                self.report(now);
            }
        }
    }

    fn broadcast(&mut self, now: Instant, message: Message) {
        for to in self.voters() {
            self.send(now, to, message.clone());
        }
    }

    /// A message to this node itself does not leave it; what it causes is routed by the caller's loop.
    fn send(&mut self, now: Instant, to: NodeId, message: Message) {
        if to == self.me.node {
            self.deliver(now, self.me, message);
        } else {
            self.outputs.push_back(Output::Send { to, message });
        }
    }

    fn voters(&self) -> BTreeSet<NodeId> {
        self.log.membership().map(Membership::voters).unwrap_or_default()
    }

    fn report(&mut self, now: Instant) {
        let lease = self.log.view().lease;
        self.next_report = Some(now + renewal_interval(lease).max(Duration::from_millis(10)));
        let report = self.own_report(now);
        self.leader.handle_report(now, self.me.node, report.clone(), &self.log);
        for to in self.voters() {
            if to != self.me.node {
                self.outputs.push_back(Output::Send { to, message: Message::Report(report.clone()) });
            }
        }
    }

    /// What this node says of itself.
    fn own_report(&self, now: Instant) -> Report {
        let starting = now < self.owner.may_acquire_at(&self.log);
        let stale = self.owner.intent_is_stale();
        let candidacies = self.status.candidacies.iter().map(|candidacy| {
            let fitness = match candidacy.fitness {
                Ok(()) if stale => Err(Unfit::IntentStale),
                // An owner that restarted may renew what it had.
                Ok(()) if starting && !self.is_assigned_here(candidacy.group) => Err(Unfit::Starting),
                known => known,
            };
            Candidacy { fitness, ..*candidacy }
        });
        Report {
            applied: self.log.view().applied,
            draining: self.status.draining,
            heard: self.voter.heard(now).collect(),
            candidacies: candidacies.collect(),
            holding: self.owner.holding(now).collect(),
            released: self.owner.given_back().collect(),
            leadership_pinned: self
                .operator_transfer
                .map_or(Duration::ZERO, |at| (at + leader::OPERATOR_TRANSFER_HOLD).since(now)),
        }
    }

    fn is_assigned_here(&self, group: GroupId) -> bool {
        self.log.view().assignment(group).is_some_and(|a| a.node == self.me.node)
    }

    /// Starts the record of a takeover when this node is assigned a group.
    fn note_assignments(&mut self, now: Instant) {
        let view = self.log.view();
        self.seen.retain(|group, _| view.groups.contains_key(group));
        self.suspected.retain(|group, _| view.groups.contains_key(group));
        for (group, assignment) in view.groups.iter().filter_map(|(g, v)| v.assignment.map(|a| (*g, a))) {
            let before = self.seen.insert(group, assignment);
            if before == Some(assignment) {
                continue;
            }
            self.failovers.retain(|t, _| t.group != group);
            if assignment.node != self.me.node || self.failovers.len() >= MAX_RECORDS {
                continue;
            }
            let tenure = Tenure { group, epoch: assignment.epoch };
            let replaces = before.map_or(Epoch(0), |b| b.epoch);
            let last = self
                .voter
                .last_heard(group)
                .filter(|(epoch, node, _)| *epoch == replaces && *node != self.me.node);
            let suspected =
                self.suspected.get(&group).filter(|(epoch, _)| *epoch == replaces).map(|(_, at)| *at);
            let record = FailoverRecord {
                tenure,
                replaces,
                owner_before: before.map(|b| b.node),
                last_renewal: last.map(|(_, _, at)| at),
                suspected,
                committed: now,
                promised: None,
                map_written: None,
                announced: None,
            };
            self.failovers.insert(tenure, record);
        }
    }

    /// What is to be done next.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When [`Self::handle_timeout`] has something to do.
    pub fn next_deadline(&self) -> Option<Instant> {
        [
            self.voter.next_deadline(),
            self.owner.next_deadline(),
            self.leader.next_deadline(),
            self.next_report,
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// The log and the applied state.
    pub fn log(&self) -> &LogView {
        &self.log
    }

    /// The voter, for inspection.
    pub fn voter(&self) -> &Voter {
        &self.voter
    }

    /// The owner, for inspection.
    pub fn owner(&self) -> &Owner {
        &self.owner
    }

    /// The leader, for inspection.
    pub fn leader(&self) -> &Leader {
        &self.leader
    }
}
