//! One member of a formed cluster: Raft over the store and a transport.

mod membership;

use std::collections::{BTreeMap, BTreeSet};
use std::marker::PhantomData;
use std::net::SocketAddr;
use std::sync::Arc;

use lockstep_model::command::Command;
use lockstep_model::ids::{LogIndex, NodeId};
use lockstep_model::state::Applied;
use lockstep_proto::types::v1 as types_pb;
use openraft::async_runtime::watch::WatchReceiver;
use openraft::errors::{
    ClientWriteError, ForwardToLeader, LinearizableReadError, RaftError as OpenRaftError,
};
use openraft::raft::TransferLeaderRequest;
use openraft::{AsyncRuntime, Raft, ReadPolicy};
use prost::Message;
use tokio::sync::watch;

use crate::commit::CommitMode;
use crate::config::{Compaction, MAX_COMMAND, raft_config};
use crate::error::StoreError;
use crate::fs::SharedFs;
use crate::fs::fenced::Fenced;
use crate::layout::{DataDir, Identity};
use crate::log_store::{LogStore, Told};
use crate::metrics::Metrics;
use crate::network::Network;
use crate::observer::LogObserver;
use crate::state_machine::{Published, StateMachine};
use crate::transport::Transport;
use crate::types::{Peer, Proposal, Types};
use crate::wal::{SEGMENT_BYTES, WalStats};

/// How a replica runs.
#[derive(Debug, Clone, Copy)]
pub struct ReplicaOptions {
    /// Who does the disk's work.
    pub mode: CommitMode,
    /// When a segment of the log is followed by another.
    pub segment_bytes: u64,
    /// When snapshots are made.
    pub compaction: Compaction,
}

impl Default for ReplicaOptions {
    fn default() -> Self {
        ReplicaOptions {
            mode: CommitMode::Thread,
            segment_bytes: SEGMENT_BYTES,
            compaction: Compaction::default(),
        }
    }
}

/// Why this node itself could not do what only the leader can.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LocalError {
    /// It does not lead. Nothing happened.
    #[error("this node does not lead")]
    NotLeader {
        /// Who does, if known.
        leader: Option<NodeId>,
    },
    /// It lost leadership in between: the command may or may not take effect.
    #[error("leadership changed while the command was under way; whether it takes effect is unknown")]
    OutcomeUnknown,
    /// It leads, but no majority answers. Nothing happened.
    #[error("no majority of the voters answers: {0}")]
    NoQuorum(String),
    /// The command is larger than the log accepts.
    #[error("a command of {bytes} bytes; allowed: {MAX_COMMAND}")]
    TooLarge {
        /// Its size.
        bytes: usize,
    },
    /// Another change of membership is under way, or the leader is new. Nothing happened.
    #[error("the membership cannot be changed yet: {0}")]
    Busy(String),
    /// Raft refused a change of membership. Nothing happened.
    #[error("the membership cannot be changed so: {0}")]
    Membership(String),
    /// Raft has stopped, for instance because the disk is full.
    #[error("raft has stopped: {0}")]
    Stopped(String),
}

/// A member of a cluster.
pub struct Replica<RT: AsyncRuntime> {
    pub(crate) raft: Raft<Types<RT>, StateMachine<RT>>,
    pub(crate) identity: Identity,
    log: LogStore<RT>,
    found: LogIndex,
    stats: Arc<WalStats>,
    fs: Fenced,
}

impl<RT: AsyncRuntime> Replica<RT> {
    /// Opens the store and starts Raft. `observer` has been told all that is in the store before Raft says
    /// anything to anyone. Every applied state is sent to `published`.
    pub async fn open<T: Transport>(
        options: ReplicaOptions,
        identity: Identity,
        dir: &DataDir,
        transport: T,
        observer: Arc<dyn LogObserver>,
        published: watch::Sender<Published>,
    ) -> Result<Self, StoreError> {
        Self::open_after(&Told::default(), options, identity, dir, transport, observer, published).await
    }

    /// Opens the store and starts Raft, as [`Self::open`], after [`Self::close`] has ended a run in this process:
    /// `observer` and `published` are those of that run, and are not told again what they have been `told`.
    pub async fn open_after<T: Transport>(
        told: &Told,
        options: ReplicaOptions,
        identity: Identity,
        dir: &DataDir,
        transport: T,
        observer: Arc<dyn LogObserver>,
        published: watch::Sender<Published>,
    ) -> Result<Self, StoreError> {
        let mut told = told.clone();
        told.settle(published.borrow().applied);
        let fs = Fenced::new(dir.fs());
        let (shared, mode): (SharedFs, _) = (Arc::new(fs.clone()), options.mode);
        let snapshots = dir.snapshots();
        let machine =
            StateMachine::<RT>::open(shared.clone(), &snapshots, mode, observer.clone(), published.clone())?;
        let segment_bytes = options.segment_bytes;
        let log = LogStore::<RT>::open(shared, &dir.log(), segment_bytes, mode, observer, &told)?;
        let found = log.last().max(published.borrow().applied).unwrap_or_default();
        let config = raft_config(&identity.cluster_name, options.compaction).validate();
        let config = Arc::new(config.expect("the timings are constants that fit each other"));
        let network = Network { identity: identity.clone(), transport, runtime: PhantomData::<fn() -> RT> };
        let raft = Raft::new(identity.node.get(), config, network, log.clone(), machine).await;
        let raft = raft
            .map_err(|e| StoreError::Inconsistent { path: dir.root().to_owned(), problem: e.to_string() })?;
        Ok(Replica { raft, identity, stats: log.stats(), log, found, fs })
    }

    /// Ends this run: Raft stops, and nothing of it touches the data directory any more. What the next run must not
    /// tell the observer again.
    pub async fn close(&self) -> Told {
        self.shutdown().await;
        self.fs.close();
        self.log.told()
    }

    /// Whether the disk has refused something for want of space. Raft stops then.
    pub fn was_full(&self) -> bool {
        self.fs.was_full()
    }

    /// Who this is.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Where the log ended that this run found; 0: there was none. [`Metrics::last_log`] says so only once Raft's task has run.
    pub const fn found(&self) -> LogIndex {
        self.found
    }

    /// Counters of the log.
    pub fn wal_stats(&self) -> Arc<WalStats> {
        self.stats.clone()
    }

    /// Whether Raft has never done anything here.
    pub fn is_pristine(&self) -> bool {
        self.log.is_pristine()
    }

    /// Makes these nodes the cluster's voters. Only on one node, only once.
    pub async fn initialise(&self, members: &BTreeMap<NodeId, SocketAddr>) -> Result<(), LocalError> {
        let members: BTreeMap<u64, Peer> =
            members.iter().map(|(id, address)| (id.get(), Peer { address: *address })).collect();
        self.raft.initialize(members).await.map_err(|e| LocalError::Stopped(e.to_string()))
    }

    /// Proposes `command`; answers when it is applied here.
    pub async fn write(&self, command: Command) -> Result<(LogIndex, Applied), LocalError> {
        let bytes = types_pb::Command::from(&command).encoded_len();
        if bytes > MAX_COMMAND {
            return Err(LocalError::TooLarge { bytes });
        }
        match self.raft.client_write(Proposal::from(command)).await {
            Ok(written) => {
                let applied = written.data.0.expect("a command has an answer; only other entries have none");
                Ok((LogIndex(written.log_id.index), applied))
            }
            Err(OpenRaftError::APIError(ClientWriteError::ForwardToLeader(to))) => Err(not_leader(&to)),
            Err(OpenRaftError::APIError(ClientWriteError::LogEntryDiscarded(_))) => {
                Err(LocalError::OutcomeUnknown)
            }
            Err(e) => Err(LocalError::Stopped(e.to_string())),
        }
    }

    /// Up to where a node must have applied the log before it may answer a linearizable read that began now.
    pub async fn read_index(&self) -> Result<LogIndex, LocalError> {
        match self.raft.get_read_linearizer(ReadPolicy::ReadIndex).await {
            Ok(linearizer) => Ok(LogIndex(linearizer.read_log_id().index())),
            Err(OpenRaftError::APIError(LinearizableReadError::ForwardToLeader(to))) => Err(not_leader(&to)),
            Err(OpenRaftError::APIError(LinearizableReadError::QuorumNotEnough(e))) => {
                Err(LocalError::NoQuorum(e.to_string()))
            }
            Err(e) => Err(LocalError::Stopped(e.to_string())),
        }
    }

    /// Begins to hand leadership to `to`. Refused if that has no vote: until another leads, this leader takes no
    /// proposals and sends no heartbeats, and a sole voter would wait for that forever.
    pub async fn move_leader(&self, to: NodeId) -> Result<(), LocalError> {
        let metrics = self.metrics();
        if !self.raft.is_leader() {
            return Err(LocalError::NotLeader { leader: metrics.leader });
        }
        if !metrics.voters.contains(&to) {
            let voters: Vec<u64> = metrics.voters.iter().map(|id| id.get()).collect();
            return Err(LocalError::Membership(format!(
                "leadership to node {to}; allowed: a voter, of {voters:?}"
            )));
        }
        if to == self.identity.node {
            return Ok(());
        }
        self.raft.trigger().transfer_leader(to.get()).await.map_err(|e| LocalError::Stopped(e.to_string()))
    }

    /// Asks for votes at once, in the name of a leader that is lost, as if it had handed over to this node: Raft's own
    /// timeouts need not pass, nor the time for which voters are true to the leader they heard last. That time keeps
    /// leaders steady, and nothing relies on it: reads ask a quorum. To be called only by who knows that a quorum has
    /// lost the leader. Whether votes were asked for: not, if another leads meanwhile.
    pub async fn campaign(&self, against: NodeId) -> Result<bool, LocalError> {
        let (vote, leader) = {
            let metrics = self.raft.metrics();
            let now = metrics.borrow_watched();
            (now.vote, now.current_leader)
        };
        if leader != Some(against.get()) || against == self.identity.node {
            return Ok(false);
        }
        let request = TransferLeaderRequest::new(vote, self.identity.node.get(), None);
        match self.raft.handle_transfer_leader(request).await {
            Ok(outcome) => Ok(outcome.is_ok()),
            Err(e) => Err(LocalError::Stopped(e.to_string())),
        }
    }

    /// Makes a snapshot now.
    pub async fn snapshot(&self) -> Result<(), LocalError> {
        self.raft.trigger().snapshot().await.map_err(|e| LocalError::Stopped(e.to_string()))
    }

    /// How Raft is doing.
    pub fn metrics(&self) -> Metrics {
        Metrics::of::<RT>(&self.raft.metrics().borrow_watched())
    }

    /// Voters of the newest membership, all halves of a joint one together.
    pub fn voters(&self) -> BTreeSet<NodeId> {
        self.metrics().voters
    }

    /// Stops Raft. What is durable stays.
    pub async fn shutdown(&self) {
        if let Err(e) = self.raft.shutdown().await {
            tracing::error!(error = %e, "raft did not stop in order");
        }
    }
}

fn not_leader<RT: AsyncRuntime>(to: &ForwardToLeader<Types<RT>>) -> LocalError {
    LocalError::NotLeader { leader: to.leader_id.map(NodeId) }
}
