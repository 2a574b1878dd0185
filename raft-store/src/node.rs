//! What the daemon uses: a node that may or may not belong to a cluster yet, on a runtime of its own.
//!
//! ```text
//!             init() here, or Adopt from the node where it was called
//!   Unformed ──────────────────────────────────────────────────────────► Member (for good)
//! ```

mod bootstrap;
mod error;
mod forward;
mod join;
mod members;
mod refound;
mod revive;

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use lockstep_model::command::Command;
use lockstep_model::ids::{LogIndex, NodeId};
use lockstep_model::intent::NodeSpec;
use lockstep_model::state::{Applied, Refusal, State};
use lockstep_proto::raft::v1::cluster_server::ClusterServer;
use lockstep_proto::raft::v1::raft_server::RaftServer;
use openraft::TokioRuntime;
use tokio::runtime::{Handle, Runtime};
use tokio::sync::watch;

use crate::backup::Backup;
use crate::config::MAX_MESSAGE;
use crate::error::StoreError;
use crate::fs::SharedFs;
use crate::grpc::Connector;
use crate::grpc::client::Pool;
use crate::grpc::server::{RaftService, Refusals};
use crate::guard::MembershipGuard;
use crate::layout::succession::Successor;
use crate::layout::{ClusterId, DataDir, Identity};
use crate::metrics::Metrics;
use crate::observer::LogObserver;
use crate::replica::{Replica, ReplicaOptions};
use crate::state_machine::Published;
use crate::wal::WalStats;
pub use error::RaftError;
pub(crate) use members::Led;
pub use revive::DiskFull;

/// Threads of Raft's runtime: one may wait for a lock or decode a large message while the other sends
/// heartbeats.
const WORKERS: usize = 2;

/// Between two attempts to register a node.
const REGISTER_AGAIN: Duration = Duration::from_millis(200);

/// What a node must be told.
#[derive(Debug, Clone)]
pub struct RaftConfig {
    /// The cluster's configured name.
    pub cluster_name: String,
    /// Where the others reach this node's cluster listener.
    pub address: SocketAddr,
    /// The others' cluster listeners, for [`RaftNode::init`].
    pub peers: Vec<SocketAddr>,
    /// The data directory. Its parent must exist.
    pub data_dir: PathBuf,
    /// How the store runs.
    pub options: ReplicaOptions,
}

/// Why a node has to start over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Departure {
    /// The cluster goes on without it.
    Left,
    /// It is the first of a new cluster.
    Refounded,
}

/// A cluster that was formed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Formed {
    /// Its number.
    pub cluster_id: ClusterId,
    /// Its voters.
    pub nodes: BTreeMap<NodeId, SocketAddr>,
}

/// Shared by the façade and the gRPC services.
pub(crate) struct Inner {
    config: RaftConfig,
    dir: DataDir,
    pool: Pool,
    observer: Arc<dyn LogObserver>,
    member: watch::Sender<Option<Arc<Replica<TokioRuntime>>>>,
    published: watch::Sender<Published>,
    metrics: watch::Sender<Metrics>,
    pub(crate) refusals: Refusals,
    /// One change of membership at a time: `init`, `Adopt`, `Join`, `Enlist` and `Remove` exclude each other.
    forming: tokio::sync::Mutex<()>,
    /// Whoever knows the leases, once there are any.
    guard: OnceLock<Arc<dyn MembershipGuard>>,
    /// This node is no more what it was when it started.
    departed: watch::Sender<Option<Departure>>,
    /// The node was shut down.
    ended: watch::Sender<bool>,
    /// The store has stopped for want of space, and waits for it.
    full: watch::Sender<Option<DiskFull>>,
    store_counts: StoreCounts,
}

/// What happened to the store since the node started (I14).
#[derive(Debug, Default)]
struct StoreCounts {
    filled: AtomicU64,
    resumed: AtomicU64,
}

impl Inner {
    pub(crate) fn member(&self) -> Option<Arc<Replica<TokioRuntime>>> {
        self.member.borrow().clone()
    }

    /// Opens the store as `identity` and starts Raft.
    async fn join(self: &Arc<Self>, identity: Identity) -> Result<Arc<Replica<TokioRuntime>>, StoreError> {
        let (pool, observer, published) = (self.pool.clone(), self.observer.clone(), self.published.clone());
        let replica =
            Replica::open(self.config.options, identity, &self.dir, pool, observer, published).await?;
        let replica = Arc::new(replica);
        self.member.send_replace(Some(replica.clone()));
        tokio::spawn(self.clone().attend(replica.clone()));
        Ok(replica)
    }
}

/// Raft for one node. Clones share it; when the last is dropped, Raft's threads end.
#[derive(Clone)]
pub struct RaftNode {
    inner: Arc<Inner>,
    runtime: Arc<OwnRuntime>,
}

/// Ends without waiting, because it may be dropped inside another runtime.
struct OwnRuntime {
    runtime: Mutex<Option<Runtime>>,
    handle: Handle,
}

impl Drop for OwnRuntime {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.lock().unwrap_or_else(PoisonError::into_inner).take() {
            runtime.shutdown_background();
        }
    }
}

impl RaftNode {
    /// Opens the data directory and, if the node belongs to a cluster, starts Raft.
    pub async fn start(
        config: RaftConfig,
        fs: SharedFs,
        connector: Arc<dyn Connector>,
        observer: Arc<dyn LogObserver>,
    ) -> Result<RaftNode, RaftError> {
        let dir = DataDir::open(fs, &config.data_dir)?;
        if dir.succeed()? {
            tracing::warn!(path = %config.data_dir.display(), "the data directory has become another, as was asked");
        }
        let identity = dir.identity()?;
        if let Some(identity) = &identity
            && identity.cluster_name != config.cluster_name
        {
            let (path, theirs) = (config.data_dir.clone(), identity.cluster_name.clone());
            return Err(RaftError::ForeignDataDir { path, theirs, ours: config.cluster_name });
        }
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(WORKERS)
            .thread_name("raft")
            .enable_all()
            .build()
            .map_err(RaftError::Runtime)?;
        let handle = runtime.handle().clone();
        let runtime = Arc::new(OwnRuntime { runtime: Mutex::new(Some(runtime)), handle });
        let inner = Arc::new(Inner {
            config,
            dir,
            pool: Pool::new(connector),
            observer,
            member: watch::Sender::new(None),
            published: watch::Sender::default(),
            metrics: watch::Sender::default(),
            refusals: Refusals::default(),
            forming: tokio::sync::Mutex::new(()),
            guard: OnceLock::new(),
            departed: watch::Sender::new(None),
            ended: watch::Sender::new(false),
            full: watch::Sender::new(None),
            store_counts: StoreCounts::default(),
        });
        let node = RaftNode { inner, runtime };
        if let Some(identity) = identity {
            node.run(|inner| async move { inner.join(identity).await.map_err(RaftError::from) }).await?;
        }
        Ok(node)
    }

    /// `lockstep.raft.v1.Raft`, for the cluster listener.
    pub fn raft_server(&self) -> RaftServer<RaftService> {
        RaftServer::new(self.service())
            .max_decoding_message_size(MAX_MESSAGE)
            .max_encoding_message_size(MAX_MESSAGE)
    }

    /// `lockstep.raft.v1.Cluster`, for the cluster listener.
    pub fn cluster_server(&self) -> ClusterServer<RaftService> {
        let server = ClusterServer::new(self.service());
        server.max_decoding_message_size(MAX_MESSAGE).max_encoding_message_size(MAX_MESSAGE)
    }

    fn service(&self) -> RaftService {
        RaftService { node: self.inner.clone() }
    }

    /// Raft's own runtime: serve the cluster listener on it, so that nothing else can starve heartbeats.
    pub fn runtime(&self) -> &Handle {
        &self.runtime.handle
    }

    /// Forms a cluster of this node and the configured peers, all of them voters. Refused if one of them is
    /// not reachable, has data, or is configured for a cluster of another name.
    pub async fn init(&self) -> Result<Formed, RaftError> {
        self.run(|inner| async move { inner.init().await }).await
    }

    /// From now on `guard` is asked before this node, as leader, changes the membership. Until then it changes none.
    pub fn set_guard(&self, guard: Arc<dyn MembershipGuard>) {
        assert!(self.inner.guard.set(guard).is_ok(), "there is one guard");
    }

    /// Makes this node a member, without a vote, of the cluster that the nodes at `via` belong to; answers when it
    /// holds the log. May be repeated.
    pub async fn join_cluster(&self, via: Vec<SocketAddr>, spec: NodeSpec) -> Result<Identity, RaftError> {
        self.run(|inner| async move { inner.join_cluster(via, spec).await }).await
    }

    /// Gives this member a vote; answers with those who vote then. May be repeated.
    pub async fn enlist(&self) -> Result<BTreeSet<NodeId>, RaftError> {
        self.run(|inner| async move { inner.enlist().await }).await
    }

    /// Takes a member out; answers with those who vote then. May be repeated.
    pub async fn remove(&self, node: NodeId) -> Result<BTreeSet<NodeId>, RaftError> {
        self.run(move |inner| async move { inner.remove(node).await }).await
    }

    /// Whether this node is a member without a vote.
    pub fn is_learner(&self) -> bool {
        self.inner.is_learner()
    }

    /// Says that the cluster has taken this node out, as the leader would.
    pub fn dismiss(&self) {
        self.inner.on_dismiss();
    }

    /// Waits until this node is no more what it was when it started: the process has to start over.
    pub async fn departed(&self) -> Departure {
        let mut departed = self.inner.departed.subscribe();
        let departed = departed.wait_for(Option::is_some).await.expect("this object holds the sender");
        departed.expect("just waited for")
    }

    /// The state with everything acknowledged in it, to be kept elsewhere.
    pub async fn backup(&self) -> Result<Backup, RaftError> {
        self.run(|inner| async move { inner.backup().await }).await
    }

    /// Makes this node, which has no data, the first of a new cluster with a backup's intent. It becomes that when the
    /// process starts over.
    pub async fn restore(&self, backup: Backup) -> Result<Identity, RaftError> {
        self.run(|inner| async move { inner.restore(backup).await }).await
    }

    /// Makes this node the first of a new cluster, with all that it knows of one whose majority is lost for good. It
    /// becomes that when the process starts over.
    pub async fn recover(&self) -> Result<Identity, RaftError> {
        self.run(|inner| async move { inner.recover().await }).await
    }

    /// Proposes a command, here or through the leader; answers when it is committed and applied.
    pub async fn write(&self, command: Command) -> Result<Applied, RaftError> {
        self.run(|inner| async move { inner.write(command).await }).await
    }

    /// The state, with every write in it that was acknowledged before the call (I2).
    pub async fn read(&self) -> Result<Arc<State>, RaftError> {
        self.run(|inner| async move { inner.read().await }).await
    }

    /// The state as this node knows it.
    pub fn stale(&self) -> Arc<State> {
        self.inner.published.borrow().state.clone()
    }

    /// Every state that is applied here, with the index it was applied at; some may be skipped.
    pub fn watch(&self) -> watch::Receiver<Published> {
        self.inner.published.subscribe()
    }

    /// Who leads, as far as this node knows.
    pub fn leader(&self) -> Option<NodeId> {
        self.inner.metrics.borrow().leader
    }

    /// Whether this node leads, as far as it knows.
    pub fn is_leader(&self) -> bool {
        self.inner.metrics.borrow().role == crate::metrics::Role::Leader
    }

    /// Begins to move leadership to `to`; answers when the leader has been told.
    pub async fn transfer_leader(&self, to: NodeId) -> Result<(), RaftError> {
        self.run(move |inner| async move { inner.transfer_leader(to).await }).await
    }

    /// See [`Replica::campaign`].
    pub async fn campaign(&self, against: NodeId) -> Result<bool, RaftError> {
        self.run(move |inner| async move {
            let member = inner.member().ok_or(RaftError::NotInitialised)?;
            Ok(member.campaign(against).await?)
        })
        .await
    }

    /// Makes a snapshot now, which bounds the log.
    pub async fn snapshot(&self) -> Result<(), RaftError> {
        self.run(|inner| async move {
            let member = inner.member().ok_or(RaftError::NotInitialised)?;
            Ok(member.snapshot().await?)
        })
        .await
    }

    /// How Raft is doing.
    pub fn metrics(&self) -> Metrics {
        self.inner.metrics.borrow().clone()
    }

    /// Every change of [`RaftNode::metrics`].
    pub fn watch_metrics(&self) -> watch::Receiver<Metrics> {
        self.inner.metrics.subscribe()
    }

    /// Peers' requests that were refused, by reason.
    pub fn refusals(&self) -> BTreeMap<&'static str, u64> {
        self.inner.refusals.read()
    }

    /// Whether the store has stopped for want of space. It goes on by itself.
    pub fn disk_full(&self) -> Option<DiskFull> {
        self.inner.full.borrow().clone()
    }

    /// How often the store has stopped for want of space, and gone on.
    pub fn store_counts(&self) -> BTreeMap<&'static str, u64> {
        let counts = &self.inner.store_counts;
        [("disk_full", &counts.filled), ("resumed", &counts.resumed)]
            .map(|(name, counter)| (name, counter.load(Ordering::Relaxed)))
            .into()
    }

    /// Counters of the log, once the node belongs to a cluster.
    pub fn wal_stats(&self) -> Option<Arc<WalStats>> {
        self.inner.member().map(|m| m.wal_stats())
    }

    /// Who this node is; `None`: it belongs to no cluster yet.
    pub fn identity(&self) -> Option<Identity> {
        self.inner.member().map(|m| m.identity().clone())
    }

    /// Waits until the node belongs to a cluster.
    pub async fn joined(&self) -> Identity {
        let mut member = self.inner.member.subscribe();
        let member = member.wait_for(Option::is_some).await.expect("this object holds the sender");
        member.as_ref().map(|m| m.identity().clone()).expect("just waited for")
    }

    /// Where the log ended that this run found; 0: there was none.
    pub fn found(&self) -> LogIndex {
        self.inner.member().map_or(LogIndex(0), |member| member.found())
    }

    /// Registers this node, or its changed addresses. Tries until it has an answer; returns at once if the cluster
    /// knows it so already.
    pub async fn register(&self, spec: NodeSpec) -> Result<(), Refusal> {
        let id = self.joined().await.node;
        loop {
            let known = self.read().await.is_ok_and(|state| state.nodes.get(&id) == Some(&spec));
            if known {
                return Ok(());
            }
            match self.write(Command::RegisterNode { id, spec: spec.clone() }).await {
                Ok(Applied::Refused(refusal)) => return Err(refusal),
                Ok(_) => return Ok(()),
                Err(error) => tracing::info!(%error, "not registered yet"),
            }
            tokio::time::sleep(REGISTER_AGAIN).await;
        }
    }

    /// Stops Raft, and makes the data directory that of a node without a cluster at the next start.
    pub async fn forget(&self) -> Result<(), RaftError> {
        self.shutdown().await;
        Ok(self.inner.dir.set_successor(&Successor::Empty)?)
    }

    /// Stops Raft. What is durable stays; other clones of this object get errors.
    pub async fn shutdown(&self) {
        let stopped = self.run(|inner| async move {
            let _forming = inner.forming.lock().await;
            inner.ended.send_replace(true);
            if let Some(member) = inner.member() {
                member.shutdown().await;
            }
            Ok(())
        });
        // The only error is that the runtime is gone, and Raft with it.
        drop(stopped.await);
    }

    /// Runs `work` on Raft's own runtime.
    async fn run<T, W>(&self, work: impl FnOnce(Arc<Inner>) -> W) -> Result<T, RaftError>
    where
        T: Send + 'static,
        W: Future<Output = Result<T, RaftError>> + Send + 'static,
    {
        let task = self.runtime.handle.spawn(work(self.inner.clone()));
        task.await.unwrap_or_else(|e| Err(RaftError::Stopped(e.to_string())))
    }
}
