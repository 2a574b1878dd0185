//! Two nodes, the streams between them, and what can go wrong.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use lockstep_model::flow::{FlowKey, SHARDS};
use lockstep_model::ids::{EndpointId, Epoch, LogIndex, NodeId};
use lockstep_seeded::Rng;
use lockstep_sync_core::audit::Difference;
use lockstep_sync_core::limits::{AUDIT_PAUSE, TAKEOVER_GRACE};
use lockstep_sync_core::{Connection, Down, StreamId, SyncState, Time, Up};

use crate::node::{Node, Sent};
use crate::table::{GROUP, key};

/// Keys in use: few, so that they meet.
const KEYS: u64 = 24;

#[derive(Debug, Clone, Copy)]
pub(crate) struct Faults {
    pub(crate) lose_events: bool,
    pub(crate) refuse_writes: bool,
    pub(crate) restarts: bool,
    pub(crate) moves: bool,
    /// The standby is taken out of those that hold the group, and back in.
    pub(crate) leaves: bool,
    /// How many times more seldom than usual.
    pub(crate) rarity: u64,
}

impl Faults {
    pub(crate) const NONE: Self = Self {
        lose_events: false,
        refuse_writes: false,
        restarts: false,
        moves: false,
        leaves: false,
        rarity: 1,
    };
}

/// What the schedules met, so that a test can see that it tested something.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    pub(crate) walks: u64,
    pub(crate) nacks: u64,
    pub(crate) lost: u64,
    pub(crate) resumed: u64,
    pub(crate) swept: u64,
    pub(crate) moves: u64,
    pub(crate) removals: u64,
    pub(crate) refused_old_epoch: u64,
    pub(crate) audits: u64,
}

impl Seen {
    pub(crate) fn add(&mut self, world: &World) {
        for node in &world.nodes {
            let (origin, receiver) = (node.origin.counters(), node.receiver.counters());
            self.walks += receiver.walks;
            self.nacks += receiver.nacks;
            self.swept += receiver.swept;
            self.refused_old_epoch += receiver.refused_old_epoch;
            self.audits += receiver.audits;
            self.lost += origin.lost;
            self.resumed += origin.resumed;
        }
        self.moves += world.moves;
        self.removals += world.removals;
    }
}

/// One life of a stream, from subscriber `to` to origin `from`.
#[derive(Default)]
struct Wire {
    down: VecDeque<Down>,
    up: VecDeque<Up>,
    up_open: bool,
    down_open: bool,
}

pub(crate) struct World {
    seed: u64,
    rng: Rng,
    /// Of when the auditors get to work.
    audit_rng: Rng,
    faults: Faults,
    now: Time,
    clock: u64,
    pub(crate) nodes: Vec<Node>,
    owner: Option<usize>,
    last_owner: usize,
    taken_over: Time,
    epoch: Epoch,
    wires: BTreeMap<(usize, u8), (Connection, Wire)>,
    /// Messages of earlier lives, delivered again now and then.
    old: Vec<(usize, StreamId, Connection, Down)>,
    connections: u64,
    moves: u64,
    /// Who holds the group, as was agreed; a node may learn of it later.
    replicas: BTreeMap<NodeId, LogIndex>,
    log: u64,
    removals: u64,
    healing: bool,
}

fn node_id(index: usize) -> NodeId {
    NodeId(index as u64 + 1)
}

impl World {
    pub(crate) fn new(seed: u64, faults: Faults) -> Self {
        let mut world = Self {
            seed,
            rng: Rng::new(seed),
            audit_rng: Rng::new(!seed),
            faults,
            now: Time::default(),
            clock: 1,
            nodes: vec![Node::new(node_id(0), node_id(1)), Node::new(node_id(1), node_id(0))],
            owner: None,
            last_owner: 1,
            taken_over: Time::default(),
            epoch: Epoch(100),
            wires: BTreeMap::new(),
            old: Vec::new(),
            connections: 0,
            moves: 0,
            replicas: [(node_id(0), LogIndex(1)), (node_id(1), LogIndex(1))].into(),
            log: 1,
            removals: 0,
            healing: false,
        };
        (0..2).for_each(|node| world.learn_replicas(node));
        world.take_over(0);
        world
    }

    pub(crate) fn step(&mut self) {
        self.now = self.now + Duration::from_millis(self.rng.below(60));
        let rarity = self.faults.rarity;
        match self.rng.below(16) {
            0..=4 => self.traffic(),
            5 => self.expire(),
            6 | 7 => {
                let node = self.rng.below(2) as usize;
                self.nodes[node].pump(self.now, &mut self.rng);
            }
            8 => self.each_node(Node::read_page),
            9 => {
                let (now, rng) = (self.now, &mut self.rng);
                self.nodes.iter_mut().for_each(|node| node.hand_page_over(now, rng));
            }
            10 => self.each_timeout(),
            11 => self.work(),
            12 if self.rng.one_in(3 * rarity) => self.cut(),
            13 if self.faults.restarts && self.rng.one_in(8 * rarity) => self.restart(),
            14 if self.faults.moves
                && (self.owner.is_none() || rarity == 1 || self.rng.one_in(rarity))
                && self.rng.one_in(3) =>
            {
                self.move_ownership()
            }
            15 if self.faults.leaves && self.rng.one_in(2) => match self.rng.below(3) {
                0 => self.change_replicas(),
                node => self.learn_replicas(node as usize - 1),
            },
            _ => self.connect(),
        }
        // Where faults are rare, nobody is slow either: rounds are to end.
        if rarity > 1 {
            self.work();
            self.work();
            let (now, rng) = (self.now, &mut self.rng);
            self.nodes.iter_mut().for_each(|node| node.pump(now, rng));
        }
        if rarity > 1 || self.audit_rng.one_in(3) {
            let (now, node) = (self.now, self.audit_rng.below(2) as usize);
            self.nodes[node].audit(now, &mut self.audit_rng);
        }
        self.poll();
        let deliveries = if rarity > 1 { 40 } else { 6 };
        for _ in 0..self.rng.below(deliveries) {
            self.deliver();
        }
        if self.faults.leaves && self.owner.is_some() && self.settled() {
            self.assert_equal();
        }
    }

    /// The node that is not the owner is taken out, or back in.
    fn change_replicas(&mut self) {
        let other = node_id(1 - self.owner.unwrap_or(self.last_owner));
        self.log += 1;
        if self.replicas.remove(&other).is_some() {
            self.removals += 1;
        } else {
            self.replicas.insert(other, LogIndex(self.log));
        }
    }

    fn learn_replicas(&mut self, node: usize) {
        self.nodes[node].learn_replicas(self.now, LogIndex(self.log), self.replicas.clone());
    }

    fn each_node(&mut self, f: impl Fn(&mut Node)) {
        self.nodes.iter_mut().for_each(f);
    }

    fn each_timeout(&mut self) {
        let now = self.now;
        self.each_node(|node| node.origin.handle_timeout(now));
    }

    fn traffic(&mut self) {
        let Some(owner) = self.owner else { return };
        for _ in 0..=self.rng.below(4) {
            self.clock += 1;
            let (key, endpoint) = (key(self.rng.below(KEYS)), self.rng.below(3));
            let node = &mut self.nodes[owner];
            let change = node.table.packet(key, self.epoch, self.clock, endpoint);
            if self.faults.lose_events && !self.healing && self.rng.one_in(10 * self.faults.rarity) {
                node.lost_shards |= 1 << key.shard();
            } else {
                node.ring.push_back((change, self.epoch));
            }
            // Two processors that changed the same flow may report in the other order.
            let len = node.ring.len();
            if len >= 2 && self.rng.one_in(4) {
                let (a, b) = (&node.ring[len - 2].0, &node.ring[len - 1].0);
                if a.key() == b.key() && a.version().birth == b.version().birth {
                    node.ring.swap(len - 2, len - 1);
                }
            }
        }
    }

    fn expire(&mut self) {
        let Some(owner) = self.owner else { return };
        let key = key(self.rng.below(KEYS));
        let node = &mut self.nodes[owner];
        // Removal is two-phase: what the kernel had reported of the flow was read long before.
        if node.ring.iter().any(|(change, _)| *change.key() == key) {
            return;
        }
        // Age counts from the takeover at the earliest: nothing expires while records of the former owner may
        // still fill gaps.
        if self.now < self.taken_over + 2 * TAKEOVER_GRACE || !node.jobs.is_empty() {
            return;
        }
        if let Some(change) = node.table.expire(key) {
            node.expired.push_back((change, self.epoch));
        }
    }

    fn work(&mut self) {
        let refuse = self.faults.refuse_writes && !self.healing;
        let (now, refuse) = (self.now, refuse.then_some(4 * self.faults.rarity));
        let node = self.rng.below(2) as usize;
        for _ in 0..=self.rng.below(4) {
            self.nodes[node].work(now, &mut self.rng, refuse);
        }
    }

    fn move_ownership(&mut self) {
        match self.owner.take() {
            Some(owner) => {
                self.nodes[owner].origin.disown(self.now, GROUP);
                self.nodes[owner].receiver.disown(self.now, GROUP);
                self.last_owner = owner;
            }
            None => self.take_over(1 - self.last_owner),
        }
    }

    fn take_over(&mut self, node: usize) {
        self.epoch = Epoch(self.epoch.get() + 1);
        self.owner = Some(node);
        self.taken_over = self.now;
        self.moves += 1;
        self.log += 1;
        self.replicas.entry(node_id(node)).or_insert(LogIndex(self.log));
        self.learn_replicas(node);
        self.nodes[node].receiver.own(self.now, GROUP, self.epoch);
        self.nodes[node].origin.own(self.now, GROUP, self.epoch);
    }

    fn restart(&mut self) {
        let index = self.rng.below(2) as usize;
        for shard in 0..SHARDS {
            for subscriber in 0..2 {
                self.close(subscriber, shard);
            }
        }
        let owned = (self.owner == Some(index)).then_some(self.epoch);
        // The state of its disk may be of a while ago.
        let (as_of, replicas) = match self.faults.leaves && self.rng.one_in(2) {
            true => (self.nodes[index].as_of, self.nodes[index].replicas.clone()),
            false => (LogIndex(self.log), self.replicas.clone()),
        };
        let replicas = (as_of, replicas);
        self.nodes[index].restart(self.now, node_id(1 - index), replicas, owned);
        if let Some(epoch) = owned {
            assert_eq!(self.nodes[index].origin.owned(), vec![(GROUP, epoch)]);
        }
    }

    fn connect(&mut self) {
        let (subscriber, shard) = (self.rng.below(2) as usize, self.rng.below(u64::from(SHARDS)) as u8);
        if self.wires.contains_key(&(subscriber, shard)) {
            return;
        }
        self.connections += 1;
        let connection = Connection(self.connections);
        let wire = Wire { up_open: true, down_open: true, ..Wire::default() };
        self.wires.insert((subscriber, shard), (connection, wire));
        let stream = StreamId { peer: node_id(1 - subscriber), shard };
        self.nodes[subscriber].receiver.connected(stream, connection);
    }

    fn cut(&mut self) {
        let (subscriber, shard) = (self.rng.below(2) as usize, self.rng.below(u64::from(SHARDS)) as u8);
        self.close(subscriber, shard);
    }

    fn close(&mut self, subscriber: usize, shard: u8) {
        let Some((connection, wire)) = self.wires.remove(&(subscriber, shard)) else { return };
        let stream = StreamId { peer: node_id(1 - subscriber), shard };
        self.old.extend(wire.down.into_iter().map(|message| (subscriber, stream, connection, message)));
        self.nodes[subscriber].receiver.disconnected(stream, connection);
        let stream = StreamId { peer: node_id(subscriber), shard };
        self.nodes[1 - subscriber].origin.disconnected(stream, connection);
    }

    fn poll(&mut self) {
        for index in 0..2 {
            for sent in self.nodes[index].poll(self.now) {
                match sent {
                    Sent::Down(stream, connection, message) => {
                        let subscriber = stream.peer.get() as usize - 1;
                        if let Some((held, wire)) = self.wires.get_mut(&(subscriber, stream.shard))
                            && *held == connection
                        {
                            wire.down.push_back(message);
                        }
                    }
                    Sent::Up(stream, connection, message) => {
                        if let Some((held, wire)) = self.wires.get_mut(&(index, stream.shard))
                            && *held == connection
                        {
                            wire.up.push_back(message);
                        }
                    }
                    Sent::Close(stream, connection) => {
                        let peer = stream.peer.get() as usize - 1;
                        for subscriber in [index, peer] {
                            if self
                                .wires
                                .get(&(subscriber, stream.shard))
                                .is_some_and(|(held, _)| *held == connection)
                            {
                                self.close(subscriber, stream.shard);
                            }
                        }
                    }
                }
            }
        }
    }

    fn deliver(&mut self) {
        let (subscriber, shard) = (self.rng.below(2) as usize, self.rng.below(u64::from(SHARDS)) as u8);
        self.deliver_on(subscriber, shard);
        if !self.old.is_empty() && self.rng.one_in(6) {
            let at = self.rng.below(self.old.len() as u64) as usize;
            let (subscriber, stream, connection, message) = self.old[at].clone();
            self.nodes[subscriber].receiver.handle_down(self.now, stream, connection, message);
        }
    }

    fn deliver_on(&mut self, subscriber: usize, shard: u8) -> bool {
        let Some((connection, wire)) = self.wires.get_mut(&(subscriber, shard)) else { return false };
        let connection = *connection;
        if wire.up_open
            && let Some(message) = wire.up.pop_front()
        {
            let stream = StreamId { peer: node_id(subscriber), shard };
            self.nodes[1 - subscriber].origin.handle_up(self.now, stream, connection, message);
            return true;
        }
        if wire.down_open
            && let Some(message) = wire.down.pop_front()
        {
            let stream = StreamId { peer: node_id(1 - subscriber), shard };
            if !matches!(message, Down::Welcome { .. }) && self.rng.one_in(4) {
                self.old.push((subscriber, stream, connection, message.clone()));
                self.nodes[subscriber].receiver.handle_down(self.now, stream, connection, message.clone());
            }
            self.nodes[subscriber].receiver.handle_down(self.now, stream, connection, message);
            return true;
        }
        false
    }

    /// Nothing fails any more; runs until everybody is idle.
    pub(crate) fn heal(&mut self) {
        self.healing = true;
        if self.owner.is_none() {
            self.take_over(1 - self.last_owner);
        }
        // Of every second seed the other node holds nothing in the end.
        let other = node_id(1 - self.owner.expect("made above"));
        if self.faults.leaves && self.replicas.contains_key(&other) != self.seed.is_multiple_of(2) {
            self.change_replicas();
        }
        (0..2).for_each(|node| self.learn_replicas(node));
        self.traffic();
        for round in 0.. {
            assert!(round < 20_000, "seed {}: does not settle: {}", self.seed, self.state());
            self.quiet_round();
            if self.settled() {
                break;
            }
        }
    }

    /// As long as it takes to read the tables three times, and the pauses in between, under traffic.
    pub(crate) fn audit(&mut self) {
        let until = self.now + 3 * AUDIT_PAUSE;
        while self.now < until {
            if self.rng.one_in(2) {
                self.traffic();
            }
            self.quiet_round();
        }
    }

    fn quiet_round(&mut self) {
        self.now = self.now + Duration::from_millis(20);
        self.connect();
        for index in 0..2 {
            self.nodes[index].pump(self.now, &mut self.rng);
        }
        self.each_timeout();
        self.each_node(Node::read_page);
        let (now, rng) = (self.now, &mut self.rng);
        self.nodes.iter_mut().for_each(|node| node.hand_page_over(now, rng));
        let audit_rng = &mut self.audit_rng;
        self.nodes.iter_mut().for_each(|node| node.audit(now, audit_rng));
        for _ in 0..4 {
            self.work();
        }
        self.poll();
        for subscriber in 0..2 {
            for shard in 0..SHARDS {
                while self.deliver_on(subscriber, shard) {}
            }
        }
    }

    /// Changes a node's table behind its daemon's back. The flows it was done to.
    pub(crate) fn plant(&mut self, at_owner: bool) -> Vec<(FlowKey, Difference)> {
        let owner = self.owner.expect("healing made one");
        let node = if at_owner { owner } else { 1 - owner };
        let (epoch, table) = (self.epoch, &mut self.nodes[node].table);
        let held: Vec<FlowKey> = table.entries.keys().copied().collect();
        let (changed, missing, extra) = (held[0], held[1], key(KEYS + 1));
        let record = &mut table.entries.get_mut(&changed).expect("it is held").record;
        record.endpoint = EndpointId(record.endpoint.get() + 10);
        table.entries.remove(&missing);
        table.packet(extra, epoch, self.clock, 1);
        // What is gone from the owner's table is too much at the standby.
        let (gone, made) = (Difference::Missing, Difference::Extra);
        let (missing_is, extra_is) = if at_owner { (made, gone) } else { (gone, made) };
        vec![(changed, Difference::Changed), (missing, missing_is), (extra, extra_is)]
    }

    pub(crate) fn diverged(&self) -> Vec<(FlowKey, Difference)> {
        self.nodes.iter().flat_map(|node| node.diverged.iter().copied()).collect()
    }

    fn settled(&self) -> bool {
        let owner = &self.nodes[self.owner.expect("healing made one")];
        let standby = &self.nodes[1 - self.owner.expect("healing made one")];
        self.wires.len() == 2 * usize::from(SHARDS)
            && owner.ring.is_empty()
            && owner.expired.is_empty()
            && owner.lost_shards == 0
            && owner.origin.is_flushed()
            // What a former owner still had to say, and what the cores were told and have not asked to be done yet.
            && standby.origin.is_flushed()
            && owner.receiver.is_idle()
            && standby.receiver.is_idle()
            // What it says of itself counts when it has heard of what was agreed.
            && standby.replicas == self.replicas
            && match (self.holds(standby), standby.receiver.group_sync(self.now, GROUP)) {
                (true, sync) => sync.state == SyncState::CaughtUp,
                (false, sync) => standby.table.entries.is_empty() && sync.epoch == Epoch(0),
            }
    }

    fn holds(&self, node: &Node) -> bool {
        self.replicas.contains_key(&node.id)
    }

    pub(crate) fn walks(&self) -> u64 {
        self.nodes.iter().map(|node| node.origin.counters().passes).sum()
    }

    fn state(&self) -> String {
        let nodes = self.nodes.iter().map(|node| {
            let sync = node.receiver.group_sync(self.now, GROUP);
            let lag: Vec<_> =
                node.origin.lag(self.now).iter().map(|l| (l.connected, l.unacknowledged, l.walks)).collect();
            format!(
                "{:?} jobs {} lag {lag:?} {sync:?} {:?} {:?}",
                node.id,
                node.jobs.len(),
                node.origin.counters(),
                node.receiver.counters()
            )
        });
        nodes.collect::<Vec<_>>().join("; ")
    }

    pub(crate) fn assert_equal(&self) {
        let owner = self.owner.expect("healing made one");
        let (held, copied) = (self.nodes[owner].table.content(), self.nodes[1 - owner].table.content());
        if !self.holds(&self.nodes[1 - owner]) {
            assert!(copied.is_empty(), "seed {}: {copied:?}", self.seed);
            return;
        }
        let missing: Vec<_> = held.iter().filter(|(key, flow)| copied.get(key) != Some(flow)).collect();
        let extra: Vec<_> = copied.iter().filter(|(key, flow)| held.get(key) != Some(flow)).collect();
        let seed = self.seed;
        assert!(
            missing.is_empty() && extra.is_empty(),
            "seed {seed}: owner has {missing:?}, standby {extra:?}; found to differ: {:?}",
            self.diverged()
        );
    }

    /// Everything that was ever delivered twice or late is delivered once more: nothing may come of it.
    pub(crate) fn replay_everything(&mut self) {
        for (subscriber, stream, connection, message) in std::mem::take(&mut self.old) {
            self.nodes[subscriber].receiver.handle_down(self.now, stream, connection, message);
        }
        self.poll();
        for _ in 0..200 {
            self.work();
        }
    }
}
