//! Flow replication as the rest of the daemon uses it: one [`Sync`] per data-plane node.
//!
//! ```text
//! ring buffer ─┐                             ┌─► walker thread: pages of the kernel's table
//! sweeper ─────┼─► driver thread: Origin, ───┼─► writer thread: writes and sweeps of the kernel's table
//! lease thread ┘   Receiver, and streams     └─► auditor thread: readings of the kernel's table for digests
//! ```
//!
//! The driver reads no kernel table, and writes a few flows at a time at most, so that a new flow leaves within microseconds
//! of its event whatever else goes on. The streams, with their listener, run on its thread, and nothing else does: neither a
//! lease nor Raft waits for a flow.

mod auditor;
mod driver;
mod kernel;
pub(crate) mod metrics;
mod peer_status;
mod peers;
mod status;
mod sweeper;
mod table;
#[cfg(test)]
mod tests;
mod walker;
mod writer;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc as blocking};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use arc_swap::ArcSwap;
use lockstep_model::ids::{Epoch, GroupId, LogIndex, NodeId, ServiceId};
use lockstep_sync_core::{GroupSync, InboundStatus, Origin, Receiver, Replicas, Session, StreamLag};
use lockstep_sync_transport::{Connections, Connector, Identity, Refused, Subscriptions, TransportCounters};
use tokio::sync::mpsc;

pub(crate) use kernel::KernelTable;
pub(crate) use peer_status::PeerStatus;
pub(crate) use table::{Ager, Events, Table};

use driver::{Command, Driver, Workers};
use peers::Peers;
use status::Snapshot;
use writer::Owned;

use crate::lease::Lendable;
use crate::serve;

/// Stream messages that wait for the driver; beyond it the streams wait, which is back-pressure to the peer.
const STREAM_EVENTS: usize = 1024;

/// A write that is under way when a lease opens is waited for at most this long (it is one batch).
const ONE_BATCH: Duration = Duration::from_millis(2);

/// The parts that replication is made of.
pub(crate) struct Parts<T, E, A> {
    pub(crate) identity: Identity,
    /// Differs from that of every other start of this node.
    pub(crate) session: [u8; 16],
    /// Where peers subscribe, and what serves them there.
    pub(crate) listener: std::net::TcpListener,
    pub(crate) server: tonic::transport::Server,
    /// How to reach a peer.
    pub(crate) connector: Connector,
    pub(crate) table: T,
    pub(crate) events: E,
    pub(crate) ager: A,
}

/// Handle to flow replication. Cheap to clone; dropping the last one stops it.
#[derive(Clone)]
pub(crate) struct Sync {
    me: NodeId,
    commands: mpsc::UnboundedSender<Command>,
    owned: Owned,
    peers: Arc<Peers>,
    status: Arc<ArcSwap<Snapshot>>,
    transport: Arc<TransportCounters>,
    refused: Refused,
    late_takeovers: Arc<AtomicU64>,
    threads: Lendable,
}

impl Sync {
    /// Starts the threads. The service is for the cluster listener, where peers of an earlier version subscribe.
    pub(crate) fn start<T: Table, E: Events, A: Ager>(
        parts: Parts<T, E, A>,
    ) -> Result<(Self, Subscriptions)> {
        let Parts { identity, session, listener, mut server, connector, table, events, ager } = parts;
        let (commands, command_queue) = mpsc::unbounded_channel();
        let (stream_events, stream_queue) = mpsc::channel(STREAM_EVENTS);
        let (done, done_queue) = mpsc::unbounded_channel();
        let table = Arc::new(table);
        let owned = Owned::default();
        let threads = Lendable::default();
        let line = writer::start(table.clone(), owned.clone(), done.clone(), threads.clone())
            .context("the writer thread")?;
        let audits = auditor::start(table.clone(), done.clone()).context("the auditor thread")?;
        let pages = walker::start(table, done.clone()).context("the walker thread")?;
        sweeper::start(ager, owned.clone(), done).context("the sweeper thread")?;
        let status = Arc::new(ArcSwap::from_pointee(Snapshot::default()));
        let connections = Connections::default();
        let transport = Arc::new(TransportCounters::default());
        let service =
            Subscriptions::new(identity, connections.clone(), stream_events.clone(), transport.clone());
        let refused = service.refused();
        let driver = Driver::new(
            Origin::new(Session(session)),
            Receiver::new(milliseconds_since_boot()),
            events,
            Workers { line, pages, audits },
            status.clone(),
            service.sent(),
        );
        let streams = driver::start(driver, command_queue, stream_queue, done_queue, threads.clone())
            .context("the replication thread")?;

        const END: &str = "the replication listener ended: peers cannot subscribe to this node's flows";
        serve::start_gathered(&streams, listener, server.add_service(service.clone().into_server()), END);
        let peers = Peers::new(streams, identity, connector, connections, stream_events, transport.clone());
        let peers = Arc::new(peers);
        let sync = Self {
            me: identity.node,
            commands,
            owned,
            peers,
            status,
            transport,
            refused,
            late_takeovers: Arc::default(),
            threads,
        };
        Ok((sync, service))
    }

    /// The other data-plane nodes.
    pub(crate) fn set_peers(&self, peers: BTreeSet<NodeId>) {
        self.peers.set(&peers);
        self.command(Command::Peers(peers));
    }

    /// Every group of the agreed state, as of an index of the log, with the epoch of its assignment, and who holds its flows. To
    /// be called before the lease thread hears of it: who takes a group over knows then whom to tell.
    pub(crate) fn set_groups(&self, as_of: LogIndex, groups: BTreeMap<GroupId, Epoch>, replicas: Replicas) {
        let mine = |(group, nodes): (&GroupId, &BTreeMap<_, _>)| Some((*group, *nodes.get(&self.me)?));
        let memberships = replicas.iter().filter_map(mine).collect();
        self.command(Command::Groups { as_of, groups, memberships, replicas });
    }

    /// How long flows of these services live before they are sent to anybody.
    pub(crate) fn set_ages(&self, ages: BTreeMap<ServiceId, Duration>) {
        self.command(Command::Ages(ages));
    }

    /// To be called before the lease of `epoch` opens: stops reading, lets what was read reach the kernel, at
    /// most until `deadline`; what is left then fills gaps only. Whether everything was written in time.
    /// Blocks; for the lease's thread.
    pub(crate) fn before_open(&self, group: GroupId, epoch: Epoch, deadline: Instant) -> bool {
        let _lent = self.threads.lend();
        let (done, waiting) = blocking::sync_channel(1);
        let drain_until = deadline.checked_sub(ONE_BATCH).unwrap_or(deadline);
        self.command(Command::TakeOver { group, epoch, deadline: drain_until, done });
        let drained = waiting.recv_timeout(drain_until.saturating_duration_since(Instant::now()));
        let in_time = drained.unwrap_or(false);
        self.owned.insert(group, epoch);
        if !in_time {
            self.late_takeovers.fetch_add(1, Ordering::Relaxed);
            self.owned.wait_for_batch(ONE_BATCH);
        }
        in_time
    }

    /// To be called when the lease of `epoch` has been closed or has lapsed for good. A later epoch's is not
    /// touched.
    pub(crate) fn closed(&self, group: GroupId, epoch: Epoch) {
        if self.owned.remove(group, epoch) {
            self.command(Command::Closed(group));
        }
    }

    /// Waits until every connected peer has everything or, under a load that never ends, nothing older than
    /// two milliseconds is missing; at most `timeout`. Whether that was reached. Blocks.
    pub(crate) fn flush(&self, timeout: Duration) -> bool {
        let (done, waiting) = blocking::sync_channel(1);
        self.command(Command::Flush { deadline: Instant::now() + timeout, done });
        // The driver answers by the deadline; a little more for its own turn.
        waiting.recv_timeout(timeout + Duration::from_millis(100)).unwrap_or(false)
    }

    /// How much of a group's flows this node holds.
    pub(crate) fn group_sync(&self, group: GroupId) -> GroupSync {
        self.status.load().group(group)
    }

    /// How far every peer is behind this node.
    pub(crate) fn lag(&self) -> Vec<StreamLag> {
        self.status.load().lag()
    }

    /// How far every peer is behind this node, all shards together.
    pub(crate) fn peers(&self) -> BTreeMap<NodeId, PeerStatus> {
        self.status.load().peers()
    }

    /// Why a peer is not served, if it was refused.
    pub(crate) fn refusal(&self, peer: NodeId) -> Option<String> {
        self.refused.reason(peer)
    }

    /// Flows that are too young to be sent.
    pub(crate) fn young(&self) -> u64 {
        self.status.load().young()
    }

    /// Where every stream from a peer is.
    pub(crate) fn inbound(&self) -> Vec<InboundStatus> {
        self.status.load().inbound()
    }

    /// Everything counted, also what is at zero.
    pub(crate) fn counters(&self) -> Vec<(String, u64)> {
        let late = ("takeovers_before_drained".to_owned(), self.late_takeovers.load(Ordering::Relaxed));
        let transport =
            self.transport.named().into_iter().map(|(name, value)| (format!("stream_{name}"), value));
        self.status.load().counters().into_iter().chain(transport).chain([late]).collect()
    }

    fn command(&self, command: Command) {
        // The driver ends only when the last handle is gone, or by a panic, which the daemon does not survive.
        let _stopping = self.commands.send(command);
    }
}

/// Marks of walks must be later than those of earlier starts, which are in the table still; a walk takes longer
/// than a millisecond.
fn milliseconds_since_boot() -> u32 {
    (lockstep_loader::KernelInstant::now().0 / 1_000_000) as u32
}
