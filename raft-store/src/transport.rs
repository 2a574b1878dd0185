//! How messages reach another node. In production gRPC; in simulation a function call.

use std::future::Future;
use std::net::SocketAddr;

use bytes::Bytes;
use lockstep_proto::raft::v1 as pb;
/// What travels, for whoever implements [`Transport`].
pub use lockstep_proto::raft::v1 as messages;

/// Why a message was not answered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LinkError {
    /// No connection: the message was not sent.
    #[error("not reachable: {0}")]
    Unreachable(String),
    /// The other side refused the message: it is of another cluster, or another node.
    #[error("refused: {0}")]
    Refused(String),
    /// Lost on the way there or back.
    #[error("no answer: {0}")]
    Broken(String),
}

/// Carries messages to the node that listens at an address. Each call may be dropped at any time.
pub trait Transport: Clone + Send + Sync + 'static {
    /// Entries, or a heartbeat.
    fn append_entries(
        &self,
        to: SocketAddr,
        message: pb::AppendEntriesRequest,
    ) -> impl Future<Output = Result<pb::AppendEntriesResponse, LinkError>> + Send;

    /// A request for a vote.
    fn vote(
        &self,
        to: SocketAddr,
        message: pb::VoteRequest,
    ) -> impl Future<Output = Result<pb::VoteResponse, LinkError>> + Send;

    /// Whether a vote would be granted.
    fn pre_vote(
        &self,
        to: SocketAddr,
        message: pb::VoteRequest,
    ) -> impl Future<Output = Result<pb::VoteResponse, LinkError>> + Send;

    /// The leader hands over.
    fn transfer_leader(
        &self,
        to: SocketAddr,
        message: pb::TransferLeaderRequest,
    ) -> impl Future<Output = Result<pb::TransferLeaderResponse, LinkError>> + Send;

    /// A whole snapshot. It must not delay the other messages.
    fn install_snapshot(
        &self,
        to: SocketAddr,
        header: pb::SnapshotHeader,
        data: Bytes,
    ) -> impl Future<Output = Result<pb::InstallSnapshotResponse, LinkError>> + Send;
}
