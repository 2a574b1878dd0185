//! What can go wrong with a node's part in its cluster.

use std::net::SocketAddr;
use std::path::PathBuf;

use lockstep_model::ids::NodeId;

use super::DiskFull;
use crate::error::StoreError;
use crate::layout::ClusterId;
use crate::replica::LocalError;

/// What went wrong.
#[derive(Debug, thiserror::Error)]
pub enum RaftError {
    /// The data directory cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The data directory is another cluster's.
    #[error("{path}: belongs to cluster {theirs:?}; the configuration says cluster.name = {ours:?}")]
    ForeignDataDir {
        /// The data directory.
        path: PathBuf,
        /// The name in it.
        theirs: String,
        /// The configured name.
        ours: String,
    },
    /// No runtime could be started.
    #[error("cannot start raft's threads: {0}")]
    Runtime(std::io::Error),
    /// The node belongs to no cluster.
    #[error(
        "this node belongs to no cluster yet; run `lockstep cluster init` on one node, or `lockstep cluster join` here"
    )]
    NotInitialised,
    /// `cluster init` a second time.
    #[error("this node already belongs to cluster {name:?} ({cluster_id}); `cluster init` is allowed once")]
    AlreadyInitialised {
        /// The cluster's name.
        name: String,
        /// The cluster.
        cluster_id: ClusterId,
    },
    /// `cluster join` of a member.
    #[error("this node is node {node} of cluster {name:?} ({cluster_id}) already")]
    AlreadyMember {
        /// The cluster's name.
        name: String,
        /// The cluster.
        cluster_id: ClusterId,
        /// This node.
        node: NodeId,
    },
    /// A peer cannot take part in a new cluster.
    #[error("peer {address}: {problem}")]
    Peer {
        /// The peer.
        address: SocketAddr,
        /// Why not, and what is allowed.
        problem: String,
    },
    /// Nobody has the id.
    #[error("node {0} is not a voter of this cluster")]
    NotAVoter(NodeId),
    /// No leader was found in time, or it did not answer. The command had no effect.
    #[error("the cluster has no leader that answers: {0}")]
    NoLeader(String),
    /// The command was sent, and no answer came: it may have taken effect.
    #[error("no answer to a command that was sent; whether it took effect is unknown: {0}")]
    OutcomeUnknown(String),
    /// The membership cannot be changed yet.
    #[error("{0}")]
    Busy(String),
    /// The cluster refused the request before it reached the log.
    #[error("refused: {0}")]
    Refused(String),
    /// This node's disk is full. A write that was under way when that was found may have taken effect.
    #[error(transparent)]
    DiskFull(#[from] DiskFull),
    /// Raft has stopped, after an error of the disk other than that it is full, or to end the process.
    #[error("raft has stopped: {0}")]
    Stopped(String),
}

impl RaftError {
    /// For metric labels and exit codes.
    pub fn kind(&self) -> &'static str {
        match self {
            RaftError::Store(e) => e.kind(),
            RaftError::ForeignDataDir { .. } => "foreign",
            RaftError::Runtime(_) => "runtime",
            RaftError::NotInitialised => "not_initialized",
            RaftError::AlreadyInitialised { .. } | RaftError::AlreadyMember { .. } => "already_initialized",
            RaftError::Peer { .. } | RaftError::Refused(_) => "refused",
            RaftError::NotAVoter(_) => "not_found",
            RaftError::NoLeader(_) => "no_leader",
            RaftError::OutcomeUnknown(_) => "outcome_unknown",
            RaftError::Busy(_) => "busy",
            RaftError::DiskFull(_) => "disk_full",
            RaftError::Stopped(_) => "stopped",
        }
    }
}

impl From<LocalError> for RaftError {
    fn from(e: LocalError) -> Self {
        match e {
            LocalError::NotLeader { .. } | LocalError::NoQuorum(_) => RaftError::NoLeader(e.to_string()),
            LocalError::Busy(_) => RaftError::Busy(e.to_string()),
            LocalError::OutcomeUnknown => RaftError::OutcomeUnknown(e.to_string()),
            LocalError::TooLarge { .. } | LocalError::Membership(_) => RaftError::Refused(e.to_string()),
            LocalError::Stopped(text) => RaftError::Stopped(text),
        }
    }
}
