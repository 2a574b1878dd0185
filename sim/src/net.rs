//! The network between the nodes: what becomes of each message, by channel and direction.
//!
//! Raft's calls and lease datagrams travel apart (TCP and UDP), so either can be cut while the other works.

pub mod wire;

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};

use lockstep_model::ids::NodeId;
use lockstep_raft_store::replica::Replica;
use lockstep_seeded::Rng;
use openraft_rt_sim::{SimInstant, SimRuntime};
use tokio::sync::Notify;

use crate::node::News;
use crate::trace::Trace;

/// The shortest way through the network.
const BASE_DELAY_NS: u64 = 50_000;
/// How much longer it usually takes.
const USUAL_DELAY_NS: u64 = 300_000;

/// A kind of traffic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Channel {
    /// Raft's calls.
    Raft,
    /// Lease datagrams.
    Lease,
}

/// What becomes of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fate {
    /// `None`: it is lost.
    pub arrives_ns: Option<u64>,
    /// It arrives once more.
    pub again_ns: Option<u64>,
}

/// A node as the network sees it.
#[derive(Default)]
struct Host {
    /// Which of its runs is connected; 0: none.
    run: u64,
    replica: Option<Arc<Replica<SimRuntime>>>,
    paused_until_ns: u64,
    news_held_until_ns: u64,
}

/// What is shared by all that runs in one world.
pub struct Net {
    rng: Rng,
    hosts: BTreeMap<NodeId, Host>,
    /// Cut ways and until when.
    cuts: BTreeMap<(Channel, NodeId, NodeId), u64>,
    /// Of a hundred messages, how many are lost.
    pub loss_percent: u64,
    /// Of a hundred messages, how many take up to `long_delay_ns` longer.
    pub late_percent: u64,
    /// See `late_percent`.
    pub long_delay_ns: u64,
    /// Of a hundred messages, how many arrive twice, half of these up to `long_delay_ns` later.
    pub repeat_percent: u64,
    /// Of a hundred nodes whose vote has just reached its candidate, how many lose power at that moment.
    pub power_after_vote_percent: u64,
    /// The next candidate that gets a vote is cut off for so long, the voter loses power, and all others reach each other.
    pub elected_alone_ns: Option<u64>,
    /// Nodes that have lost power when they had voted.
    pub power_cuts: Vec<NodeId>,
    /// What happened.
    pub trace: Trace,
    /// What nodes have to tell their lease threads, by run.
    pub news: VecDeque<(NodeId, u64, News)>,
}

/// The network. Clones are the same network.
#[derive(Clone)]
pub struct SharedNet {
    net: Arc<Mutex<Net>>,
    wake: Arc<Notify>,
}

/// True time since the world began.
pub fn now_ns() -> u64 {
    let now = SimInstant::try_now().expect("only code inside the world asks");
    u64::try_from(now.elapsed_since_start().as_nanos()).expect("no world lasts for centuries")
}

/// Where a node listens.
pub fn address(node: NodeId) -> SocketAddr {
    let last = u8::try_from(node.get()).expect("a simulated cluster is small");
    ([10, 9, 0, last], 7400).into()
}

impl SharedNet {
    /// A network without nodes.
    pub fn new(rng: Rng, keep_text: bool) -> Self {
        let net = Net {
            rng,
            hosts: BTreeMap::new(),
            cuts: BTreeMap::new(),
            loss_percent: 0,
            late_percent: 0,
            long_delay_ns: 0,
            repeat_percent: 0,
            power_after_vote_percent: 0,
            elected_alone_ns: None,
            power_cuts: Vec::new(),
            trace: Trace::new(keep_text),
            news: VecDeque::new(),
        };
        Self { net: Arc::new(Mutex::new(net)), wake: Arc::default() }
    }

    /// The network itself, for a moment.
    pub fn lock(&self) -> MutexGuard<'_, Net> {
        self.net.lock().expect("no holder panics")
    }

    /// Notes what happens now.
    pub fn note(&self, what: fmt::Arguments<'_>) {
        let now = now_ns();
        self.lock().trace.note(now, what);
    }

    /// Hands news of a node's run to the world.
    pub fn tell(&self, node: NodeId, run: u64, news: News) {
        self.lock().news.push_back((node, run, news));
        self.wake();
    }

    /// The world has something to look at.
    pub fn wake(&self) {
        self.wake.notify_one();
    }

    /// Until there are news.
    pub async fn news(&self) {
        self.wake.notified().await;
    }
}

impl Net {
    /// A run of a node is reachable.
    pub fn connect(&mut self, node: NodeId, run: u64, replica: Arc<Replica<SimRuntime>>) {
        let host = self.hosts.entry(node).or_default();
        host.run = run;
        host.replica = Some(replica);
    }

    /// A node is not reachable any more.
    pub fn disconnect(&mut self, node: NodeId) {
        if let Some(host) = self.hosts.get_mut(&node) {
            host.run = 0;
            host.replica = None;
        }
    }

    /// A node neither sends nor receives before then.
    pub fn pause(&mut self, node: NodeId, until_ns: u64) {
        self.hosts.entry(node).or_default().paused_until_ns = until_ns;
    }

    /// A node hears before then of nothing that it applies.
    pub fn hold_news(&mut self, node: NodeId, until_ns: u64) {
        self.hosts.entry(node).or_default().news_held_until_ns = until_ns;
    }

    /// See [`Self::hold_news`].
    pub fn news_held_until(&self, node: NodeId) -> u64 {
        self.hosts.get(&node).map_or(0, |h| h.news_held_until_ns)
    }

    fn paused_until(&self, node: NodeId) -> u64 {
        self.hosts.get(&node).map_or(0, |h| h.paused_until_ns)
    }

    fn run(&self, node: NodeId) -> u64 {
        self.hosts.get(&node).map_or(0, |h| h.run)
    }

    fn replica(&self, node: NodeId) -> Option<(Arc<Replica<SimRuntime>>, u64)> {
        let host = self.hosts.get(&node)?;
        Some((host.replica.clone()?, host.run))
    }

    /// Cuts one way, on one channel.
    pub fn cut(&mut self, channel: Channel, from: NodeId, to: NodeId, until_ns: u64) {
        let until = self.cuts.entry((channel, from, to)).or_default();
        *until = (*until).max(until_ns);
    }

    /// Everything works.
    pub fn heal(&mut self) {
        self.cuts.clear();
        self.loss_percent = 0;
        self.late_percent = 0;
        self.repeat_percent = 0;
        self.power_after_vote_percent = 0;
        self.elected_alone_ns = None;
        for host in self.hosts.values_mut() {
            host.paused_until_ns = 0;
            host.news_held_until_ns = 0;
        }
    }

    /// Draws what becomes of a message that is sent now.
    pub fn fate(&mut self, channel: Channel, from: NodeId, to: NodeId) -> Fate {
        let cut = self.cuts.get(&(channel, from, to)).is_some_and(|until| *until > now_ns());
        if cut || self.rng.percent(self.loss_percent) {
            return Fate { arrives_ns: None, again_ns: None };
        }
        let arrives_ns = Some(self.delay_ns());
        let again_ns = self.rng.percent(self.repeat_percent).then(|| {
            let late = if self.rng.percent(50) { self.rng.below(self.long_delay_ns) } else { 0 };
            self.delay_ns() + late
        });
        Fate { arrives_ns, again_ns }
    }

    /// A vote has reached its candidate.
    fn voted(&mut self, voter: NodeId, candidate: NodeId) {
        if let Some(alone_ns) = self.elected_alone_ns.take() {
            self.cuts.retain(|(channel, _, _), _| *channel != Channel::Raft);
            let until = now_ns() + alone_ns;
            let others: Vec<NodeId> = self.hosts.keys().copied().filter(|id| *id != candidate).collect();
            for other in others {
                self.cut(Channel::Raft, candidate, other, until);
                self.cut(Channel::Raft, other, candidate, until);
            }
            return self.power_cuts.push(voter);
        }
        if self.rng.percent(self.power_after_vote_percent) {
            self.power_cuts.push(voter);
        }
    }

    fn delay_ns(&mut self) -> u64 {
        let usual = BASE_DELAY_NS + self.rng.below(USUAL_DELAY_NS);
        let late = self.rng.percent(self.late_percent);
        if late { usual + self.rng.below(self.long_delay_ns) } else { usual }
    }
}
