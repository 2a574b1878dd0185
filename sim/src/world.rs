//! A cluster in virtual time. Raft's tasks run on the simulated runtime; everything else is an event in one
//! queue, handled in the order of true time. Whatever is drawn comes from one seed.

mod client;
mod daemon;
mod found;
mod kernel;
mod outcome;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::future::select;
use lockstep_model::ids::NodeId;
use lockstep_ownership::identity::Identity;
use lockstep_ownership::message::{Message, Tenure};
use lockstep_seeded::Rng;
use openraft::AsyncRuntime;
use openraft_rt_sim::SimRuntime;

use self::client::{Op, OpResult};
pub use self::found::Shape;
pub(crate) use self::found::{group_addresses, group_spec};
use crate::net::{Channel, SharedNet, now_ns};
use crate::node::Node;
use crate::oracle::Oracle;

/// A millisecond.
pub const MS: u64 = 1_000_000;
/// How often a node's role in Raft is looked at.
const ROLE_PERIOD_NS: u64 = 5 * MS;

/// What happens at a time.
#[derive(Debug, Clone)]
pub(crate) enum Event {
    Deliver { to: NodeId, from: Identity, message: Message },
    Timer { node: NodeId, run: u64 },
    Prepared { node: NodeId, run: u64, tenure: Tenure },
    Flushed { node: NodeId, run: u64, tenure: Tenure },
    Closed { node: NodeId, run: u64, tenure: Tenure },
    Reconcile { node: NodeId, run: u64 },
    Roles,
    Wake { node: NodeId },
    Start { node: NodeId },
    Undrain { node: NodeId },
    Client,
}

/// What clients were told, waiting to be noted.
pub(crate) type Results = Arc<Mutex<Vec<(Op, OpResult)>>>;

/// One cluster.
pub struct World {
    pub(crate) net: SharedNet,
    pub(crate) rng: Rng,
    pub(crate) nodes: BTreeMap<NodeId, Node>,
    pub(crate) oracle: Oracle,
    queue: BinaryHeap<Reverse<(u64, u64)>>,
    events: BTreeMap<u64, Event>,
    next_event: u64,
    /// Clients ask until this is false.
    pub(crate) clients: bool,
    next_rule: u64,
    results: Results,
}

impl World {
    /// The nodes' numbers.
    pub fn ids(&self) -> Vec<NodeId> {
        self.nodes.keys().copied().collect()
    }

    /// What must not happen and did.
    pub fn violation(&self) -> Option<String> {
        self.oracle.violation().map(str::to_owned)
    }

    pub(crate) fn at(&mut self, time_ns: u64, event: Event) {
        self.queue.push(Reverse((time_ns, self.next_event)));
        self.events.insert(self.next_event, event);
        self.next_event += 1;
    }

    pub(crate) fn after(&mut self, ns: u64, event: Event) {
        self.at(now_ns() + ns, event);
    }

    /// Runs for so long, or until a violation.
    pub async fn run_for(&mut self, ns: u64) {
        let end = now_ns() + ns;
        loop {
            self.take_power_cuts();
            self.take_news();
            self.take_results();
            let now = now_ns();
            if self.oracle.violation().is_some() {
                return;
            }
            let next = self.queue.peek().map_or(end, |Reverse((at, _))| *at);
            if next <= now {
                if let Some(Reverse((_, key))) = self.queue.pop()
                    && let Some(event) = self.events.remove(&key)
                {
                    self.handle(event).await;
                }
            } else if now >= end {
                return;
            } else {
                let sleep = SimRuntime::sleep(Duration::from_nanos(next.min(end) - now));
                let net = self.net.clone();
                select(pin!(sleep), pin!(net.news())).await;
            }
        }
    }

    async fn handle(&mut self, event: Event) {
        let (node, run) = match &event {
            Event::Deliver { to, .. } => (*to, None),
            Event::Timer { node, run }
            | Event::Prepared { node, run, .. }
            | Event::Flushed { node, run, .. }
            | Event::Closed { node, run, .. }
            | Event::Reconcile { node, run } => (*node, Some(*run)),
            Event::Wake { node } => return self.read_inbox(*node),
            Event::Start { node } => return self.start(*node).await,
            Event::Undrain { node } => return self.drain(*node, false),
            Event::Roles => return self.look_at_roles(),
            Event::Client => return self.ask(),
        };
        let known = &self.nodes[&node];
        if run.is_some_and(|run| run != known.run) || known.daemon.is_none() {
            return;
        }
        if known.paused_until_ns > now_ns() {
            // When it wakes, what has piled up comes in any order.
            let later = known.paused_until_ns + self.rng.below(MS);
            if matches!(event, Event::Timer { .. }) {
                self.set_timer_at(node, later);
            }
            return self.at(later, event);
        }
        match event {
            Event::Deliver { from, message, .. } => {
                self.with_daemon(node, |participant, now| participant.handle_message(now, from, message));
            }
            Event::Timer { .. } => self.handle_timer(node),
            Event::Prepared { tenure, .. } => self.open_lease(node, tenure),
            Event::Flushed { tenure, .. } => {
                self.with_daemon(node, |participant, now| participant.handle_flushed(now, tenure));
            }
            Event::Closed { tenure, .. } => {
                self.with_daemon(node, |participant, now| participant.handle_closed(now, tenure));
            }
            Event::Reconcile { .. } => self.reconcile(node),
            Event::Roles
            | Event::Wake { .. }
            | Event::Start { .. }
            | Event::Undrain { .. }
            | Event::Client => unreachable!("handled above"),
        }
    }

    /// A lease datagram leaves.
    fn send(&mut self, from: Identity, to: NodeId, message: Message) {
        if !self.nodes.contains_key(&to) {
            return;
        }
        let fate = self.net.lock().fate(Channel::Lease, from.node, to);
        if let Some(again) = fate.again_ns {
            self.after(again, Event::Deliver { to, from, message: message.clone() });
        }
        if let Some(arrives) = fate.arrives_ns {
            self.after(arrives, Event::Deliver { to, from, message });
        }
    }
}
