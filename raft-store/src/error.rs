//! What can be wrong with a data directory, and with talking to the cluster.

use std::io;
use std::path::{Path, PathBuf};

use lockstep_model::ids::NodeId;

use crate::fs::fenced::is_full;

/// The data directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The operating system refused.
    #[error("{path}: cannot {action}: {source}")]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What was tried.
        action: &'static str,
        /// Why not.
        source: io::Error,
    },
    /// A file does not say what was written to it. The node must not guess: restore the directory, or remove
    /// it and let the node join again.
    #[error("{path}: damaged at byte {offset}: {problem}")]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// Where in it.
        offset: u64,
        /// What is wrong.
        problem: String,
    },
    /// What is in the directory does not fit together, for instance because a snapshot that the log relies on
    /// cannot be read.
    #[error("{path}: log and snapshots do not fit together: {problem}")]
    Inconsistent {
        /// The data directory.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// Another daemon uses the directory.
    #[error("{path}: in use by another process; allowed is one daemon per data directory")]
    Locked {
        /// The lock file.
        path: PathBuf,
    },
    /// The log stopped after an earlier error, and acknowledges nothing more.
    #[error("{path}: the log stopped after: {cause}")]
    Stopped {
        /// The log's directory.
        path: PathBuf,
        /// The first error.
        cause: String,
    },
}

impl StoreError {
    pub(crate) fn io(path: &Path, action: &'static str) -> impl FnOnce(io::Error) -> StoreError {
        move |source| StoreError::Io { path: path.to_owned(), action, source }
    }

    pub(crate) fn corrupt(path: &Path, offset: usize, problem: impl Into<String>) -> StoreError {
        StoreError::Corrupt { path: path.to_owned(), offset: offset as u64, problem: problem.into() }
    }

    /// For metric labels.
    pub fn kind(&self) -> &'static str {
        match self {
            StoreError::Io { source, .. } if is_full(source) => "disk_full",
            StoreError::Io { .. } => "io",
            StoreError::Corrupt { .. } => "corrupt",
            StoreError::Inconsistent { .. } => "inconsistent",
            StoreError::Locked { .. } => "locked",
            StoreError::Stopped { .. } => "stopped",
        }
    }
}

impl From<StoreError> for io::Error {
    fn from(e: StoreError) -> Self {
        let kind = match &e {
            StoreError::Io { source, .. } => source.kind(),
            StoreError::Corrupt { .. } | StoreError::Inconsistent { .. } => io::ErrorKind::InvalidData,
            StoreError::Locked { .. } => io::ErrorKind::WouldBlock,
            StoreError::Stopped { .. } => io::ErrorKind::Other,
        };
        io::Error::new(kind, e)
    }
}

/// Why a peer's request was not served.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// It belongs to another cluster.
    #[error("node {sender} belongs to cluster {theirs}, this node to {ours}")]
    ForeignCluster {
        /// Who asked.
        sender: NodeId,
        /// The cluster it named.
        theirs: String,
        /// This node's.
        ours: String,
    },
    /// It meant another node: the address was given to this one.
    #[error("node {sender} asked for node {target}, but this is node {ours}")]
    WrongTarget {
        /// Who asked.
        sender: NodeId,
        /// Who was meant.
        target: NodeId,
        /// This node.
        ours: NodeId,
    },
    /// The node belongs to no cluster yet.
    #[error("this node belongs to no cluster yet; run `lockstep cluster init`")]
    NotInitialised,
    /// The sender has been taken out of the cluster.
    #[error(
        "node {sender} is no member of this cluster (any more): stop it, empty its data directory, start it, and run \
         `lockstep cluster join` on it"
    )]
    NotAMember {
        /// Who asked.
        sender: NodeId,
    },
    /// The message cannot be understood.
    #[error("{0}")]
    Malformed(String),
    /// Raft has stopped, for instance because the disk is full.
    #[error("raft has stopped: {0}")]
    Stopped(String),
}

impl Refused {
    /// For metric labels.
    pub fn kind(&self) -> &'static str {
        match self {
            Refused::ForeignCluster { .. } => "foreign_cluster",
            Refused::WrongTarget { .. } => "wrong_target",
            Refused::NotInitialised => "not_initialised",
            Refused::NotAMember { .. } => "not_a_member",
            Refused::Malformed(_) => "malformed",
            Refused::Stopped(_) => "stopped",
        }
    }
}
