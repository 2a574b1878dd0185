//! A cluster in virtual time: nodes with clocks of their own, a network that loses, delays, repeats and
//! reorders, kernels that go on while a daemon is paused or gone.

mod running;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::time::Duration;

use lockstep_model::ids::{GroupId, LogIndex, NodeId};
use lockstep_ownership::identity::{BootId, Identity};
use lockstep_ownership::log::LogEvent;
use lockstep_ownership::message::{Message, Tenure};
use lockstep_ownership::participant::Participant;
use lockstep_ownership::status::{Candidacy, Flows, LocalStatus};
use lockstep_ownership::view::View;
use lockstep_seeded::Rng;

use crate::clock::{Clock, MAX_PPM};
use crate::raft::{self, Entry, Item, Log};

pub(crate) const MS: u64 = 1_000_000;
/// What a kernel's lease check may lag by; the lease is shortened by it.
pub(crate) const CLOCK_STEP: Duration = Duration::from_micros(100);
pub(crate) const FOREVER: u64 = u64::MAX / 4;

#[derive(Clone, Debug)]
enum Event {
    Deliver { to: NodeId, from: Identity, message: Message },
    Timer { node: NodeId },
    Flushed { node: NodeId, run: Identity, tenure: Tenure },
    Closed { node: NodeId, run: Identity, tenure: Tenure },
    Commit { node: NodeId, up_to: usize },
    Start { node: NodeId, reboot: bool },
    Propose { node: NodeId, item: Item },
}

struct Node {
    clock: Clock,
    me: Identity,
    /// `None` while the daemon is down.
    daemon: Option<Participant>,
    log: Log,
    view: View,
    paused_until: u64,
    timer_at: u64,
    /// True time until which the kernel forwards for a group.
    kernel: BTreeMap<GroupId, u64>,
}

/// One schedule.
pub(crate) struct World {
    pub(crate) rng: Rng,
    pub(crate) now: u64,
    nodes: BTreeMap<NodeId, Node>,
    queue: BinaryHeap<Reverse<(u64, usize)>>,
    /// By the number in `queue`.
    events: Vec<Option<Event>>,
    /// Directed links that are cut, and until when.
    cut: BTreeMap<(NodeId, NodeId), u64>,
    /// Nodes that Raft does not reach, and until when; lease datagrams do.
    lagging: BTreeMap<NodeId, u64>,
    term: u64,
    committed: Log,
    agreed: View,
    leader: Option<NodeId>,
    /// Whether reports are delivered, leaders judge, and their proposals are carried out.
    pub(crate) governed: bool,
    pub(crate) loss_percent: u64,
    pub(crate) delays: u64,
    pub(crate) leases_opened: u64,
    /// What I3 forbids, once it has happened.
    pub(crate) violation: Option<String>,
}

impl World {
    pub(crate) fn new(seed: u64, voters: u64, spares: u64, groups: u64, lease: Duration) -> Self {
        let mut rng = Rng::new(seed);
        let mut log: Log = Vec::new();
        let founder = NodeId(1);
        let mut found = |item| log.push(Entry { term: 1, leader: founder, item });
        found(Item::Members(vec![(1..=voters).map(NodeId).collect()]));
        found(Item::Lease(lease));
        for group in 0..groups {
            found(Item::Group(GroupId(3 + group)));
        }
        let mut world = World {
            now: 0,
            nodes: BTreeMap::new(),
            queue: BinaryHeap::new(),
            events: Vec::new(),
            cut: BTreeMap::new(),
            lagging: BTreeMap::new(),
            term: 1,
            committed: log.clone(),
            agreed: View::default(),
            leader: None,
            governed: false,
            loss_percent: 0,
            delays: 300_000,
            leases_opened: 0,
            violation: None,
            rng: rng.fork(),
        };
        world.agree();
        for id in 1..=voters + spares {
            let clock = Clock::new(rng.below(1 << 40), rng.below(2 * MAX_PPM + 1));
            let node = Node {
                clock,
                me: Identity { node: NodeId(id), boot: BootId([id as u8; 16]), incarnation: 0 },
                daemon: None,
                log: log.clone(),
                view: world.agreed.clone(),
                paused_until: 0,
                timer_at: FOREVER,
                kernel: BTreeMap::new(),
            };
            world.nodes.insert(NodeId(id), node);
            world.start(NodeId(id), false);
        }
        world
    }

    pub(crate) fn ids(&self) -> Vec<NodeId> {
        self.nodes.keys().copied().collect()
    }

    pub(crate) fn groups(&self) -> Vec<GroupId> {
        self.agreed.groups.keys().copied().collect()
    }

    pub(crate) fn lease(&self) -> u64 {
        self.agreed().lease.as_nanos() as u64
    }

    /// The state after everything committed.
    pub(crate) fn agreed(&self) -> &View {
        &self.agreed
    }

    fn agree(&mut self) {
        let known = self.agreed.applied.get() as usize;
        for (i, entry) in self.committed.iter().enumerate().skip(known) {
            raft::apply(&mut self.agreed, i as u64 + 1, &entry.item);
        }
    }

    fn at(&mut self, time: u64, event: Event) {
        self.queue.push(Reverse((time, self.events.len())));
        self.events.push(Some(event));
    }

    // --- faults -----------------------------------------------------------------------------------------

    pub(crate) fn pause(&mut self, node: NodeId, until: u64) {
        if let Some(node) = self.nodes.get_mut(&node) {
            node.paused_until = until;
        }
    }

    /// Ends the daemon; it starts again at `at`. A reboot takes the kernel's leases with it.
    pub(crate) fn stop(&mut self, id: NodeId, at: u64, reboot: bool) {
        let Some(node) = self.nodes.get_mut(&id) else { return };
        if node.daemon.take().is_some() {
            node.timer_at = FOREVER;
            if reboot {
                node.kernel.clear();
            }
            self.at(at, Event::Start { node: id, reboot });
        }
    }

    fn start(&mut self, id: NodeId, reboot: bool) {
        let now = self.now;
        let view_first = self.rng.percent(50);
        let Some(node) = self.nodes.get_mut(&id) else { return };
        if node.daemon.is_some() {
            return;
        }
        if reboot {
            node.me.boot.0[1] += 1;
            node.me.incarnation = 0;
        } else {
            node.me.incarnation += 1;
        }
        let local = node.clock.local(now);
        let mut daemon = Participant::new(local, node.me, CLOCK_STEP);
        if view_first {
            daemon.handle_view(local, node.view.clone());
        }
        for index in 1..=node.log.len() as u64 {
            if let Some(event) = raft::event(&node.log, index) {
                daemon.handle_log(local, event);
            }
        }
        daemon.handle_view(local, node.view.clone());
        let can = |group: &GroupId| Candidacy { group: *group, fitness: Ok(()), flows: Flows::CaughtUp };
        let candidacies = self.agreed.groups.keys().map(can).collect();
        daemon.handle_status(local, LocalStatus { draining: false, candidacies });
        daemon.handle_leadership(local, self.governed && self.leader == Some(id));
        let node = self.nodes.get_mut(&id).expect("it was there above");
        node.daemon = Some(daemon);
        node.timer_at = FOREVER;
        self.drain(id);
    }

    pub(crate) fn cut_link(&mut self, from: NodeId, to: NodeId, until: u64) {
        self.cut.insert((from, to), until);
    }

    pub(crate) fn lag(&mut self, node: NodeId, until: u64) {
        self.lagging.insert(node, until);
    }

    pub(crate) fn surrender(&mut self, id: NodeId) {
        self.with_daemon(id, |daemon, now| daemon.surrender(now));
    }

    /// Everything works from now on, and the leaders govern.
    pub(crate) fn heal(&mut self) {
        self.cut.clear();
        self.lagging.clear();
        self.loss_percent = 0;
        self.delays = 300_000;
        self.governed = true;
        for id in self.ids() {
            self.pause(id, 0);
            self.start(id, false);
        }
    }

    // --- the log ----------------------------------------------------------------------------------------

    /// One leader, elected by whoever can be reached, appends one entry. `reach`: how many percent of the
    /// nodes get it.
    pub(crate) fn propose(&mut self, leader: NodeId, item: Item, reach: u64) -> bool {
        let (now, ids) = (self.now, self.ids());
        let up = |n: &Node| n.daemon.is_some() && n.paused_until <= now;
        let is_member = raft::newest_members(&self.nodes[&leader].log).iter().any(|c| c.contains(&leader));
        if !up(&self.nodes[&leader]) || !is_member {
            return false;
        }
        let mut reached = BTreeSet::from([leader]);
        for id in ids {
            let lags = self.lagging.get(&id).is_some_and(|until| *until > now);
            if id != leader && !lags && up(&self.nodes[&id]) && (self.governed || self.rng.percent(80)) {
                reached.insert(id);
            }
        }
        let log = &self.nodes[&leader].log;
        let votes = reached.iter().copied().filter(|n| raft::up_to_date(log, &self.nodes[n].log)).collect();
        if !raft::is_quorum(raft::newest_members(log), &votes) {
            return false;
        }
        self.term += 1;
        let entry = Entry { term: self.term, leader, item };
        let mut log = log.clone();
        log.push(entry);
        let mut stored = BTreeSet::new();
        for id in reached {
            if id == leader || self.rng.percent(reach) {
                self.store(id, &log);
                stored.insert(id);
            }
        }
        if raft::is_quorum(raft::newest_members(&log), &stored) {
            let same = raft::common_prefix(&log, &self.committed);
            assert_eq!(same, self.committed.len(), "the model of Raft lost a committed entry");
            self.committed = log.clone();
            self.agree();
            for id in stored {
                let delay = if id == leader { 0 } else { self.delay() };
                self.at(self.now + delay, Event::Commit { node: id, up_to: log.len() });
            }
        }
        self.lead(leader);
        true
    }

    /// The membership that is committed.
    pub(crate) fn members(&self) -> Vec<BTreeSet<NodeId>> {
        raft::newest_members(&self.committed).to_vec()
    }

    /// A membership is proposed only by a leader that knows the one before to be committed (Raft section 6).
    pub(crate) fn change_members(&mut self, leader: NodeId, item: Item) {
        let log = &self.nodes[&leader].log;
        let settled = raft::common_prefix(log, &self.committed);
        let newest = log.iter().rposition(|e| matches!(e.item, Item::Members(_))).unwrap_or(0);
        if settled == self.committed.len() && newest < settled {
            self.propose(leader, item, 80);
        }
    }

    /// Elects somebody who brings every log up to date.
    pub(crate) fn settle(&mut self, until: u64) {
        let ids = self.ids();
        let led = ids.into_iter().any(|id| self.propose(id, Item::Blank, 100));
        assert!(led, "a healed cluster can elect a leader");
        self.run(until);
    }

    fn lead(&mut self, leader: NodeId) {
        if !self.governed || self.leader == Some(leader) {
            return;
        }
        if let Some(former) = self.leader.replace(leader) {
            self.with_daemon(former, |daemon, now| daemon.handle_leadership(now, false));
        }
        for id in self.ids() {
            self.with_daemon(id, |daemon, now| daemon.handle_leader(now, Some(leader)));
        }
        self.with_daemon(leader, |daemon, now| daemon.handle_leadership(now, true));
    }

    fn store(&mut self, id: NodeId, log: &Log) {
        let Some(node) = self.nodes.get_mut(&id) else { return };
        let same = raft::common_prefix(&node.log, log);
        let truncated = node.log.len() > same;
        node.log.clone_from(log);
        let events: Vec<LogEvent> =
            (same as u64 + 1..=log.len() as u64).filter_map(|i| raft::event(log, i)).collect();
        self.with_daemon(id, |daemon, now| {
            if truncated {
                daemon.handle_log(now, LogEvent::Truncated { after: LogIndex(same as u64) });
            }
            for event in events {
                daemon.handle_log(now, event);
            }
        });
    }

    fn commit(&mut self, id: NodeId, up_to: usize) {
        let Some(node) = self.nodes.get_mut(&id) else { return };
        let known = raft::common_prefix(&node.log, &self.committed).min(up_to);
        let applied = node.view.applied.get() as usize;
        if known <= applied {
            return;
        }
        for (i, entry) in node.log[applied..known].iter().enumerate() {
            raft::apply(&mut node.view, (applied + i) as u64 + 1, &entry.item);
        }
        let view = node.view.clone();
        self.with_daemon(id, |daemon, now| daemon.handle_view(now, view));
    }

    /// What everybody believes, for a failure's message.
    pub(crate) fn describe(&self) -> String {
        let mut text = format!(
            "members {:?}, leader {:?}, lease {:?}\n",
            self.members(),
            self.leader,
            self.agreed().lease
        );
        for (id, node) in &self.nodes {
            let now = node.clock.local(self.now);
            let Some(daemon) = &node.daemon else { continue };
            text += &format!(
                "node {id}: now {now:?} applied {} of {} claims {:?} heard {:?} promises {:?} leader {:?}\n",
                node.view.applied,
                node.log.len(),
                daemon.owner().claims().collect::<Vec<_>>(),
                daemon.voter().heard(now).collect::<Vec<_>>(),
                daemon.voter().promises(now).collect::<Vec<_>>(),
                daemon.leader().counters(),
            );
        }
        text
    }

    /// Who may forward for a group now.
    pub(crate) fn serving(&self, group: GroupId) -> Vec<NodeId> {
        let serves = |n: &Node| n.kernel.get(&group).is_some_and(|until| *until > self.now);
        self.nodes.iter().filter(|(_, n)| serves(n)).map(|(id, _)| *id).collect()
    }
}
