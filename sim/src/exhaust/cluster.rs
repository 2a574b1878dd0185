//! One state of the explored cluster, and those that follow from it.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::{IpAddr, Ipv4Addr};
use std::rc::Rc;
use std::time::Duration;

use lockstep_model::ids::{GroupId, NodeId};
use lockstep_model::limits::MAX_LEASE;
use lockstep_ownership::identity::{BootId, Identity};
use lockstep_ownership::log::LogView;
use lockstep_ownership::membership::Membership;
use lockstep_ownership::message::{Message, Tenure};
use lockstep_ownership::owner::{self, Owner, Until};
use lockstep_ownership::time::Instant;
use lockstep_ownership::voter::{self, Voter};

use super::scenario::{Applies, Budget, GROUPS, Scenario};
use super::shared::{Shared, digest};
use super::steps::{Step, What};
use crate::clock::{Clock, MAX_PPM};

mod log;

/// The lease is the longest, so that few rounds see every wait.
const LEASE: Duration = MAX_LEASE;
const CLOCK_STEP: Duration = Duration::from_micros(100);
/// What separates two instants.
const ROUND_NS: u64 = LEASE.as_nanos() as u64 / 3 + 5_000_000;
/// The address that moves.
const ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
/// Slack of a moved address, as in `node/src/reconcile.rs`.
const MOVE_SLACK_NS: u64 = 100_000_000;
/// Before the exploration everybody has waited for this long.
const BEGIN_NS: u64 = 10_000_000_000;

#[derive(Debug, Clone)]
struct Node {
    me: Identity,
    clock: Clock,
    log: LogView,
    voter: Voter,
    owner: Owner,
    /// Entries of the agreed log that it has, and has applied.
    has: usize,
    applied: usize,
    /// It has what another leader proposed instead.
    rival: bool,
    /// By group, the true time at which the kernel's lease ends.
    kernel: BTreeMap<GroupId, u64>,
    /// The true time from which it serves the address, by the group that it thinks has it.
    address: (GroupId, u64),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Letter {
    pub(super) to: NodeId,
    pub(super) from: Identity,
    pub(super) message: Message,
    late: bool,
}

/// A state.
#[derive(Debug, Clone)]
pub struct Cluster<'a> {
    scenario: &'a Scenario,
    now_ns: u64,
    round: u8,
    log_steps: u8,
    budget: Budget,
    nodes: BTreeMap<NodeId, Shared<Node>>,
    letters: Vec<Letter>,
    violation: Option<String>,
    steps: Option<Rc<Step>>,
}

impl<'a> Cluster<'a> {
    /// The beginning: all have applied what is settled, and ask for what they were given.
    pub fn new(scenario: &'a Scenario) -> Self {
        let mut cluster = Self {
            scenario,
            now_ns: BEGIN_NS,
            round: 0,
            log_steps: 0,
            budget: scenario.budget,
            nodes: BTreeMap::new(),
            letters: Vec::new(),
            violation: None,
            steps: None,
        };
        for id in (1..=scenario.nodes).map(NodeId) {
            // Node 1's clock is as slow as it may be, the others' are as fast.
            let clock = Clock::new(0, if id.get() == 1 { 0 } else { 2 * MAX_PPM });
            let me = Identity { node: id, boot: BootId([id.get() as u8; 16]), incarnation: 1 };
            let node = Node {
                me,
                clock,
                log: LogView::default(),
                voter: Voter::new(Instant::from_nanos(0)),
                owner: Owner::new(me, CLOCK_STEP),
                has: 0,
                applied: 0,
                rival: scenario.rival.as_ref().is_some_and(|(_, nodes)| nodes.contains(&id)),
                kernel: BTreeMap::new(),
                address: (GROUPS[0], 0),
            };
            cluster.nodes.insert(id, Shared::new(node));
            cluster.read_log(id, Instant::from_nanos(0));
        }
        for id in cluster.ids() {
            cluster.with(id, |node, now| node.owner.handle_log(now, &node.log));
        }
        cluster
    }

    fn ids(&self) -> Vec<NodeId> {
        self.nodes.keys().copied().collect()
    }

    /// What must not happen and did.
    pub fn violation(&self) -> Option<&str> {
        self.violation.as_deref()
    }

    /// How it came to this.
    pub fn steps(&self) -> Vec<String> {
        let mut steps = Vec::new();
        let mut step = self.steps.as_ref();
        while let Some(known) = step {
            steps.push(known.what.to_string());
            step = known.before.as_ref();
        }
        steps.reverse();
        steps
    }

    fn note(&mut self, what: What) {
        let before = self.steps.take();
        self.steps = Some(Rc::new(Step { what, before }));
    }

    /// Whether any kernel forwards.
    pub fn serves(&self) -> bool {
        self.nodes.values().any(|n| n.kernel.values().any(|end| *end > self.now_ns))
    }

    /// Two states with one fingerprint go on alike. In which order letters were sent decides nothing: every order in
    /// which they arrive is tried.
    pub fn fingerprint(&self) -> u64 {
        let mut letters: Vec<u64> = self.letters.iter().map(digest).collect();
        letters.sort_unstable();
        let nodes: Vec<u64> = self.nodes.values().map(Shared::digest).collect();
        let mut hasher = DefaultHasher::new();
        (self.round, self.log_steps, self.budget, letters, nodes).hash(&mut hasher);
        hasher.finish()
    }

    // --- steps ------------------------------------------------------------------------------------------

    /// Every state that can come next.
    pub fn successors(&self) -> Vec<Self> {
        if self.violation.is_some() {
            return Vec::new();
        }
        // Letters to different nodes of one instant do not disturb each other: one node after the other.
        let Some(to) = self.letters.iter().filter(|l| !l.late).map(|l| l.to).min() else {
            return self.between_rounds();
        };
        let mut next = Vec::new();
        for (i, letter) in self.letters.iter().enumerate().filter(|(_, l)| l.to == to && !l.late) {
            let fate = |what: &'static str, spend: fn(&mut Budget) -> Option<()>| {
                let mut state = self.clone();
                let before = state.budget;
                spend(&mut state.budget)?;
                if state.budget != before {
                    state.budget.all = state.budget.all.checked_sub(1)?;
                }
                let letter = state.letters.remove(i);
                state.note(What::Letter(what, letter.clone()));
                Some((state, letter))
            };
            if let Some((mut state, letter)) = fate("arrives", |_| Some(())) {
                state.deliver(letter, true);
                next.push(state);
            }
            if let Some((state, _)) = fate("lost", |b| spend(&mut b.lost)) {
                next.push(state);
            }
            if let Some((mut state, letter)) = fate("late", |b| spend(&mut b.late)) {
                state.letters.push(Letter { late: true, ..letter });
                next.push(state);
            }
            if let Some((mut state, letter)) = fate("twice", |b| spend(&mut b.twice)) {
                state.letters.push(Letter { late: true, ..letter.clone() });
                state.deliver(letter, true);
                next.push(state);
            }
            if matches!(letter.message, Message::Request(_))
                && let Some((mut state, letter)) = fate("arrives, answer lost", |b| spend(&mut b.lost))
            {
                state.deliver(letter, false);
                next.push(state);
            }
        }
        next
    }

    fn between_rounds(&self) -> Vec<Self> {
        let mut next = Vec::new();
        if self.log_steps < self.scenario.log_steps {
            next.extend(self.ids().into_iter().filter_map(|id| self.append(id)));
            if self.scenario.applies == Applies::Later {
                next.extend(self.ids().into_iter().filter_map(|id| self.apply(id)));
            }
        }
        if self.budget.restarts > 0 && self.budget.all > 0 {
            next.extend(self.ids().into_iter().map(|id| self.restart(id)));
        }
        if self.round < self.scenario.rounds {
            let mut state = self.clone();
            state.pass();
            next.push(state);
        }
        next
    }

    /// The daemon forgets what it promised and held; the kernel goes on.
    fn restart(&self, id: NodeId) -> Self {
        let mut state = self.clone();
        state.budget.restarts -= 1;
        state.budget.all -= 1;
        state.note(What::Restarts(id));
        let Some(node) = state.nodes.get_mut(&id) else { return state };
        let node = node.change();
        node.me.incarnation += 1;
        let now = node.clock.local(state.now_ns);
        node.log = LogView::default();
        node.voter = Voter::new(now);
        node.owner = Owner::new(node.me, CLOCK_STEP);
        state.read_log(id, now);
        state.with(id, |node, now| node.owner.handle_log(now, &node.log));
        state
    }

    /// Time passes until the next round; what is due on the way is done on the way.
    fn pass(&mut self) {
        let end = self.now_ns + ROUND_NS;
        self.note(What::Round(self.round + 1));
        while let Some((at, id)) = self.next_deadline().filter(|(at, _)| *at <= end) {
            self.now_ns = at.max(self.now_ns + 1);
            self.with(id, |node, now| {
                node.voter.handle_timeout(now, &node.log);
                node.owner.handle_timeout(now, &node.log);
            });
        }
        self.now_ns = end.max(self.now_ns);
        self.round += 1;
        self.log_steps = 0;
        for letter in &mut self.letters {
            letter.late = false;
        }
        self.check_address();
    }

    fn next_deadline(&self) -> Option<(u64, NodeId)> {
        let due = |n: &Shared<Node>| n.voter.next_deadline().into_iter().chain(n.owner.next_deadline()).min();
        let all = self.nodes.iter().filter_map(|(id, n)| Some((n.clock.real(due(n)?), *id)));
        all.min()
    }

    // --- what happens in a node -------------------------------------------------------------------------

    fn with(&mut self, id: NodeId, f: impl FnOnce(&mut Node, Instant)) {
        let now_ns = self.now_ns;
        let Some(node) = self.nodes.get_mut(&id) else { return };
        let node = node.change();
        f(node, node.clock.local(now_ns));
        self.carry_out(id, true);
    }

    fn deliver(&mut self, letter: Letter, answered: bool) {
        let now_ns = self.now_ns;
        let Some(node) = self.nodes.get_mut(&letter.to) else { return };
        let node = node.change();
        let now = node.clock.local(now_ns);
        match letter.message {
            Message::Request(m) => {
                node.voter.handle_request(now, letter.from, &m, &node.log);
                node.owner.handle_asked(now, letter.from, &m.tenures, &node.log);
            }
            Message::Reply(m) => node.owner.handle_reply(now, letter.from.node, &m, &node.log),
            Message::Release(m) => node.voter.handle_release(now, letter.from, &m, &node.log),
            Message::ReleaseAck(m) => node.owner.handle_release_ack(letter.from.node, &m),
            Message::Report(_) => {}
        }
        self.carry_out(letter.to, answered);
    }

    /// What voter and owner of a node want. Answers arrive at once, unless they are lost; whoever waits for a
    /// promise to end is answered later.
    fn carry_out(&mut self, id: NodeId, answered: bool) {
        loop {
            let Some(node) = self.nodes.get_mut(&id) else { return };
            let node = node.change();
            let me = node.me;
            if let Some(output) = node.voter.poll_output() {
                match output {
                    voter::Output::Reply(m) if answered || m.to.node == id => {
                        let letter =
                            Letter { to: m.to.node, from: me, message: Message::Reply(m), late: false };
                        self.deliver(letter, true);
                    }
                    voter::Output::ReleaseAck(m) => {
                        let to = m.to.node;
                        self.deliver(
                            Letter { to, from: me, message: Message::ReleaseAck(m), late: false },
                            true,
                        );
                    }
                    voter::Output::Reply(_) | voter::Output::HearingChanged(_) => {}
                }
            } else if let Some(output) = node.owner.poll_output() {
                self.carry_out_owner(me, output);
            } else {
                return;
            }
        }
    }

    fn carry_out_owner(&mut self, me: Identity, output: owner::Output) {
        let id = me.node;
        match output {
            owner::Output::Request(m) => {
                let voters = self.nodes[&id].log.membership().map(Membership::voters).unwrap_or_default();
                for to in voters {
                    self.post(me, to, Message::Request(m.clone()));
                }
            }
            owner::Output::Release(to, m) => self.post(me, to, Message::Release(m)),
            owner::Output::SetLease { tenure, until, .. } => self.set_lease(id, tenure, until),
            owner::Output::CloseLease(tenure) => {
                let now_ns = self.now_ns;
                let Some(node) = self.nodes.get_mut(&id) else { return };
                let node = node.change();
                let newer = node.owner.claims().any(|(t, phase, _)| {
                    t.group == tenure.group && t.epoch > tenure.epoch && phase == owner::Phase::Open
                });
                if !newer {
                    node.kernel.remove(&tenure.group);
                }
                let now = node.clock.local(now_ns);
                node.owner.handle_closed(now, tenure, &node.log);
            }
            owner::Output::Flush { tenure, .. } => {
                if let Some(node) = self.nodes.get_mut(&id) {
                    node.change().owner.handle_flushed(tenure);
                }
            }
            owner::Output::IntentStale(_) => {}
        }
    }

    fn post(&mut self, from: Identity, to: NodeId, message: Message) {
        let letter = Letter { to, from, message, late: false };
        if to == from.node { self.deliver(letter, true) } else { self.letters.push(letter) }
    }

    fn set_lease(&mut self, id: NodeId, tenure: Tenure, until: Until) {
        let Until::At(until) = until else {
            self.violation = Some(format!("node {id} took an unbounded lease of {tenure:?}"));
            return;
        };
        let Some(node) = self.nodes.get_mut(&id) else { return };
        let node = node.change();
        let end = node.clock.real(until + CLOCK_STEP);
        node.kernel.insert(tenure.group, end);
        let held = |n: &Shared<Node>| n.kernel.get(&tenure.group).is_some_and(|end| *end > self.now_ns);
        let other = self.nodes.iter().find(|(other, n)| **other != id && held(n));
        if let Some((other, _)) = other {
            self.violation = Some(format!("node {id} opened {tenure:?} while node {other} holds the group"));
        }
        self.check_address();
    }

    /// No two nodes serve the address, under whatever group.
    fn check_address(&mut self) {
        let serves = |n: &Shared<Node>| {
            let (group, from) = n.address;
            from <= self.now_ns && n.kernel.get(&group).is_some_and(|end| *end > self.now_ns)
        };
        let serving: Vec<NodeId> = self.nodes.iter().filter(|(_, n)| serves(n)).map(|(id, _)| *id).collect();
        if serving.len() > 1 {
            self.violation.get_or_insert(format!("nodes {serving:?} serve one address"));
        }
    }
}

fn spend(budget: &mut u8) -> Option<()> {
    *budget = budget.checked_sub(1)?;
    Some(())
}
