//! One state of the explored cluster, and those that follow from it.

use std::collections::BTreeMap;
use std::fmt::{Debug, Write};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::{IpAddr, Ipv4Addr};
use std::rc::Rc;
use std::time::Duration;

use lockstep_model::ids::{Epoch, GroupId, LogIndex, NodeId};
use lockstep_model::limits::MAX_LEASE;
use lockstep_model::state::Assignment;
use lockstep_ownership::identity::{BootId, Identity};
use lockstep_ownership::log::{Edit, LogEvent, LogView};
use lockstep_ownership::membership::{LogId, Membership};
use lockstep_ownership::message::{Message, Tenure};
use lockstep_ownership::owner::{self, Owner, Until};
use lockstep_ownership::time::Instant;
use lockstep_ownership::view::{GroupView, View};
use lockstep_ownership::voter::{self, Voter};

use super::scenario::{Applies, Budget, Entry, GROUPS, Scenario};
use crate::clock::{Clock, MAX_PPM};

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
struct Letter {
    to: NodeId,
    from: Identity,
    message: Message,
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
    nodes: BTreeMap<NodeId, Node>,
    letters: Vec<Letter>,
    violation: Option<String>,
    steps: Option<Rc<Step>>,
}

/// How a state was reached.
#[derive(Debug)]
struct Step {
    what: String,
    before: Option<Rc<Step>>,
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
            cluster.nodes.insert(id, node);
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
            steps.push(known.what.clone());
            step = known.before.as_ref();
        }
        steps.reverse();
        steps
    }

    fn note(&mut self, what: String) {
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
        let mut letters: Vec<u64> = self.letters.iter().map(|letter| digest(&letter)).collect();
        letters.sort_unstable();
        let nodes: Vec<u64> = self.nodes.values().map(digest).collect();
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
            let fate = |what: &str, spend: fn(&mut Budget) -> Option<()>| {
                let mut state = self.clone();
                let before = state.budget;
                spend(&mut state.budget)?;
                if state.budget != before {
                    state.budget.all = state.budget.all.checked_sub(1)?;
                }
                let letter = state.letters.remove(i);
                state.note(format!("{what}: {} -> {to} {:?}", letter.from.node, letter.message));
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

    fn agreed(&self) -> usize {
        let all = self.scenario.settled.len() + self.scenario.agreed.len();
        // An entry is agreed on when a majority of the newest voters before or at it have it.
        (self.scenario.settled.len()..=all)
            .rfind(|len| {
                let members = self.members(*len);
                members.is_quorum(|id| self.nodes[&id].has >= *len)
            })
            .unwrap_or(self.scenario.settled.len())
    }

    fn entry(&self, at: usize) -> Option<&'a Entry> {
        let scenario: &'a Scenario = self.scenario;
        scenario.settled.iter().chain(&scenario.agreed).nth(at)
    }

    fn members(&self, len: usize) -> Membership {
        let newest = (0..len).rev().find_map(|at| match self.entry(at)? {
            Entry::Members(configs) => Some(Membership { id: log_id(2, at), configs: configs.clone() }),
            _ => None,
        });
        newest.expect("every log begins with a membership")
    }

    /// A node gets the next entry from whoever has it; the first one comes from node 2, which leads.
    fn append(&self, id: NodeId) -> Option<Self> {
        let node = &self.nodes[&id];
        let most = self.nodes.values().map(|n| n.has).max().unwrap_or(0);
        self.entry(node.has)?;
        if node.has == most && (id.get() != 2 || self.agreed() < most) {
            return None;
        }
        let mut state = self.clone();
        state.log_steps += 1;
        state.note(format!("node {id} appends entry {}", node.has + 1));
        let at = node.has;
        let event = state.event(at);
        state.with(id, |node, now| {
            if node.rival {
                node.rival = false;
                node.log.handle_event(now, LogEvent::Truncated { after: LogIndex(at as u64) });
            }
            node.has += 1;
            if let Some(event) = event {
                node.log.handle_event(now, event);
            }
            node.owner.handle_log(now, &node.log);
        });
        if self.scenario.applies == Applies::AtOnce {
            while let Some(next) = state.ids().into_iter().find_map(|id| state.apply(id)) {
                state = Self { log_steps: state.log_steps, ..next };
            }
        }
        Some(state)
    }

    fn apply(&self, id: NodeId) -> Option<Self> {
        let node = &self.nodes[&id];
        if node.applied >= node.has.min(self.agreed()) {
            return None;
        }
        let mut state = self.clone();
        state.log_steps += 1;
        state.note(format!("node {id} applies entry {}", node.applied + 1));
        let (view, moved) = (state.view(node.applied + 1), state.entry(node.applied));
        let moved = if let Some(Entry::Move { to, .. }) = moved { Some(*to) } else { None };
        let now_ns = state.now_ns;
        state.with(id, |node, now| {
            node.applied += 1;
            if let Some(to) = moved {
                let from = node.clock.real(now + MAX_LEASE) + MOVE_SLACK_NS;
                node.address = (to, from.max(now_ns));
            }
            node.log.handle_view(view);
            node.voter.handle_view(now, &node.log);
            node.owner.handle_log(now, &node.log);
        });
        Some(state)
    }

    /// The daemon forgets what it promised and held; the kernel goes on.
    fn restart(&self, id: NodeId) -> Self {
        let mut state = self.clone();
        state.budget.restarts -= 1;
        state.budget.all -= 1;
        state.note(format!("node {id} restarts"));
        let Some(node) = state.nodes.get_mut(&id) else { return state };
        node.me.incarnation += 1;
        let now = node.clock.local(state.now_ns);
        node.log = LogView::default();
        node.voter = Voter::new(now);
        node.owner = Owner::new(node.me, CLOCK_STEP);
        state.read_log(id, now);
        state.with(id, |node, now| node.owner.handle_log(now, &node.log));
        state
    }

    /// Tells a node that starts what its log holds.
    fn read_log(&mut self, id: NodeId, now: Instant) {
        let settled = self.scenario.settled.len();
        let known = self.nodes[&id].has.max(settled);
        let applied = self.nodes[&id].applied.max(settled);
        let mut events: Vec<LogEvent> = (0..known).filter_map(|at| self.event(at)).collect();
        if self.nodes[&id].rival
            && let Some((Entry::Assign { group, replaces, node }, _)) = &self.scenario.rival
        {
            let index = LogIndex(settled as u64 + 1);
            events.push(LogEvent::Assign { index, group: *group, replaces: Epoch(*replaces), node: *node });
        }
        let view = self.view(applied);
        let Some(node) = self.nodes.get_mut(&id) else { return };
        (node.has, node.applied) = (known, applied);
        for event in events {
            node.log.handle_event(now, event);
        }
        node.log.handle_view(view);
    }

    /// Time passes until the next round; what is due on the way is done on the way.
    fn pass(&mut self) {
        let end = self.now_ns + ROUND_NS;
        self.note(format!("round {}", self.round + 1));
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
        let due = |n: &Node| n.voter.next_deadline().into_iter().chain(n.owner.next_deadline()).min();
        let all = self.nodes.iter().filter_map(|(id, n)| Some((n.clock.real(due(n)?), *id)));
        all.min()
    }

    // --- what happens in a node -------------------------------------------------------------------------

    fn with(&mut self, id: NodeId, f: impl FnOnce(&mut Node, Instant)) {
        let now_ns = self.now_ns;
        let Some(node) = self.nodes.get_mut(&id) else { return };
        f(node, node.clock.local(now_ns));
        self.carry_out(id, true);
    }

    fn deliver(&mut self, letter: Letter, answered: bool) {
        let now_ns = self.now_ns;
        let Some(node) = self.nodes.get_mut(&letter.to) else { return };
        let now = node.clock.local(now_ns);
        match letter.message {
            Message::Request(m) => node.voter.handle_request(now, letter.from, &m, &node.log),
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
                    node.owner.handle_flushed(tenure);
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
        let end = node.clock.real(until + CLOCK_STEP);
        node.kernel.insert(tenure.group, end);
        let held = |n: &Node| n.kernel.get(&tenure.group).is_some_and(|end| *end > self.now_ns);
        let other = self.nodes.iter().find(|(other, n)| **other != id && held(n));
        if let Some((other, _)) = other {
            self.violation = Some(format!("node {id} opened {tenure:?} while node {other} holds the group"));
        }
        self.check_address();
    }

    /// No two nodes serve the address, under whatever group.
    fn check_address(&mut self) {
        let serves = |n: &Node| {
            let (group, from) = n.address;
            from <= self.now_ns && n.kernel.get(&group).is_some_and(|end| *end > self.now_ns)
        };
        let serving: Vec<NodeId> = self.nodes.iter().filter(|(_, n)| serves(n)).map(|(id, _)| *id).collect();
        if serving.len() > 1 {
            self.violation.get_or_insert(format!("nodes {serving:?} serve one address"));
        }
    }

    // --- the log ----------------------------------------------------------------------------------------

    fn event(&self, at: usize) -> Option<LogEvent> {
        let index = LogIndex(at as u64 + 1);
        match self.entry(at)? {
            Entry::Assign { group, replaces, node } => {
                let replaces = Epoch(*replaces);
                Some(LogEvent::Assign { index, group: *group, replaces, node: *node })
            }
            Entry::Members(configs) => {
                Some(LogEvent::Membership(Membership { id: log_id(2, at), configs: configs.clone() }))
            }
            Entry::Move { to, .. } => {
                let edit = Edit { gives: [(ADDRESS, to.to_string())].into(), ..Edit::default() };
                Some(LogEvent::Edit { index, edit })
            }
        }
    }

    fn view(&self, applied: usize) -> View {
        let mut view = View { applied: LogIndex(applied as u64), lease: LEASE, ..View::default() };
        view.groups = GROUPS.map(|g| (g, GroupView { name: g.to_string(), ..GroupView::default() })).into();
        view.holders.insert(ADDRESS, GROUPS[0]);
        for at in 0..applied {
            let epoch = Epoch(at as u64 + 1);
            match self.entry(at) {
                Some(Entry::Assign { group, replaces, node }) => {
                    let group = view.groups.entry(*group).or_default();
                    if group.assignment.map_or(Epoch(0), |a| a.epoch) == Epoch(*replaces) {
                        group.assignment = Some(Assignment { epoch, node: *node });
                    }
                }
                Some(Entry::Move { from, to }) => {
                    view.holders.insert(ADDRESS, *to);
                    let group = view.groups.entry(*from).or_default();
                    if let Some(assignment) = &mut group.assignment {
                        assignment.epoch = epoch;
                    }
                }
                Some(Entry::Members(_)) | None => {}
            }
        }
        view
    }
}

fn log_id(term: u64, at: usize) -> LogId {
    LogId { term, leader: NodeId(2), index: LogIndex(at as u64 + 1) }
}

fn spend(budget: &mut u8) -> Option<()> {
    *budget = budget.checked_sub(1)?;
    Some(())
}

/// Of everything that decides how it goes on. Counters count what was, and decide nothing.
fn digest(part: &impl Debug) -> u64 {
    let mut text = String::new();
    write!(text, "{part:?}").expect("a string takes everything");
    let mut hasher = DefaultHasher::new();
    let mut rest = text.as_str();
    while let Some(at) = rest.find("counters: Counters {") {
        rest[..at].hash(&mut hasher);
        // Counters hold maps of counts, but no other structures.
        let mut depth = 0;
        let end = rest[at..].char_indices().find(|(_, c)| {
            depth += i32::from(*c == '{') - i32::from(*c == '}');
            *c == '}' && depth == 0
        });
        rest = &rest[at + end.map_or(rest.len() - at, |(i, _)| i + 1)..];
    }
    rest.hash(&mut hasher);
    hasher.finish()
}
