//! One node: a machine with a disk, a clock and a kernel, and the daemon that runs on it now and then.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use lockstep_model::ids::{GroupId, LogIndex, NodeId};
use lockstep_ownership::identity::{BootId, Identity};
use lockstep_ownership::log::{Edit, LogEvent};
use lockstep_ownership::membership::{LogId, Membership};
use lockstep_ownership::message::Tenure;
use lockstep_ownership::owner::Until;
use lockstep_ownership::participant::Participant;
use lockstep_ownership::time::Instant;
use lockstep_raft_store::fs::sim::SimFs;
use lockstep_raft_store::layout::DataDir;
use lockstep_raft_store::observer::{LogObserver, Observed};
use lockstep_raft_store::replica::Replica;
use lockstep_raft_store::state_machine::Published;
use openraft_rt_sim::SimRuntime;

use crate::clock::Clock;
use crate::net::SharedNet;

/// What Raft tells the lease thread, in order.
#[derive(Debug)]
pub enum News {
    /// The log changed.
    Log(LogEvent),
    /// More of it is applied.
    Published(Published),
}

/// A machine.
pub struct Node {
    /// Its clock.
    pub clock: Clock,
    /// Its disk.
    pub disk: SimFs,
    /// Its present or next run.
    pub me: Identity,
    /// Runs so far, over all boots.
    pub run: u64,
    /// `None`: down.
    pub daemon: Option<Daemon>,
    /// A run that ends: its store is not closed before this is true.
    pub ending: Option<Arc<AtomicBool>>,
    /// What forwards, whether or not there is a daemon.
    pub kernel: Kernel,
    /// The daemon is stopped until then.
    pub paused_until_ns: u64,
    /// News that wait while the daemon is paused.
    pub inbox: VecDeque<News>,
}

/// A running daemon.
pub struct Daemon {
    /// Voter, owner and leader.
    pub participant: Participant,
    /// Raft.
    pub replica: Arc<Replica<SimRuntime>>,
    /// The state applied last.
    pub published: Published,
    /// Leases that wait for what is queued to be applied.
    pub opening: BTreeMap<Tenure, Until>,
    /// True time at which the last of them is prepared.
    pub prepared_ns: u64,
    /// Leases in the kernel.
    pub written: BTreeSet<Tenure>,
    /// When this run applied the index at which an address left its former group.
    pub moves: BTreeMap<LogIndex, Instant>,
    /// Whether Raft leads here, as the participant was told last.
    pub leads: bool,
    /// Who leads, as it was told last.
    pub leader: Option<NodeId>,
    /// It gives its groups away.
    pub draining: bool,
    /// True time of the next look at the participant's deadline.
    pub timer_at_ns: u64,
    /// Holds the lock, as the real daemon does.
    pub dir: DataDir,
}

/// What the kernel's programs compare with.
#[derive(Debug, Default)]
pub struct Kernel {
    /// By group: under which epoch, and the true time at which the lease ends.
    pub leases: BTreeMap<GroupId, (Tenure, u64)>,
    /// The group whose lease decides about an address.
    pub addresses: BTreeMap<IpAddr, GroupId>,
}

impl Kernel {
    /// Until which true time it forwards for an address.
    pub fn forwards_until(&self, address: &IpAddr) -> Option<u64> {
        self.leases.get(self.addresses.get(address)?).map(|(_, end)| *end)
    }
}

impl Node {
    /// A machine that has never run.
    pub fn new(id: NodeId, clock: Clock) -> Self {
        let boot = BootId([u8::try_from(id.get()).expect("a simulated cluster is small"); 16]);
        Self {
            clock,
            disk: SimFs::new(),
            me: Identity { node: id, boot, incarnation: 0 },
            run: 0,
            daemon: None,
            ending: None,
            kernel: Kernel::default(),
            paused_until_ns: 0,
            inbox: VecDeque::new(),
        }
    }
}

/// Tells the world what is in a log.
pub struct Observer {
    /// Whose.
    pub node: NodeId,
    /// Which run's.
    pub run: u64,
    /// By way of.
    pub net: SharedNet,
}

impl LogObserver for Observer {
    fn appended(&self, index: u64, observed: &Observed) {
        let index = LogIndex(index);
        let event = match observed {
            Observed::Assignment { group, replaces, node, .. } => {
                LogEvent::Assign { index, group: *group, replaces: *replaces, node: *node }
            }
            Observed::Edit { gives, deletes } => {
                LogEvent::Edit { index, edit: Edit { gives: gives.clone(), deletes: deletes.clone() } }
            }
            Observed::Membership { id, voters } => {
                let id = LogId { term: id.term, leader: NodeId(id.node), index: LogIndex(id.index) };
                LogEvent::Membership(Membership { id, configs: voters.clone() })
            }
        };
        self.net.tell(self.node, self.run, News::Log(event));
    }

    fn truncated(&self, after: Option<u64>) {
        let event = LogEvent::Truncated { after: LogIndex(after.unwrap_or(0)) };
        self.net.tell(self.node, self.run, News::Log(event));
    }
}
