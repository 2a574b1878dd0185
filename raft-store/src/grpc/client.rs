//! The sending side: a connection per peer and purpose, so that bulk never delays a heartbeat.

use std::collections::HashMap;
use std::error::Error;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use lockstep_proto::raft::v1 as pb;
use lockstep_proto::raft::v1::cluster_client::ClusterClient;
use lockstep_proto::raft::v1::raft_client::RaftClient;
use tonic::transport::Channel;
use tonic::{Code, ConnectError, Status};

use super::Connector;
use crate::config::{MAX_MESSAGE, SNAPSHOT_CHUNK};
use crate::transport::{LinkError, Transport};

/// A connection attempt that takes longer has failed: within an election timeout.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(300);

/// A connection over which nothing comes back is tested this often, and given up after as long again: a peer that
/// lost power answers no FIN, and TCP would retry on the dead connection for minutes.
const KEEPALIVE: Duration = Duration::from_millis(500);

/// What a connection is used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Purpose {
    Consensus,
    Snapshot,
    Forward,
}

/// Connections to peers. Clones share them.
#[derive(Clone)]
pub(crate) struct Pool {
    connector: Arc<dyn Connector>,
    /// At most one per peer and purpose.
    channels: Arc<Mutex<HashMap<(SocketAddr, Purpose), Channel>>>,
}

impl Pool {
    pub(crate) fn new(connector: Arc<dyn Connector>) -> Self {
        Pool { connector, channels: Arc::default() }
    }

    fn channel(&self, to: SocketAddr, purpose: Purpose) -> Result<Channel, LinkError> {
        let mut channels = self.channels.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(channel) = channels.get(&(to, purpose)) {
            return Ok(channel.clone());
        }
        let endpoint = self.connector.endpoint(to).map_err(|e| LinkError::Unreachable(describe(&e)))?;
        let channel = endpoint
            .connect_timeout(CONNECT_TIMEOUT)
            .tcp_nodelay(true)
            .http2_keep_alive_interval(KEEPALIVE)
            .keep_alive_timeout(KEEPALIVE)
            .keep_alive_while_idle(true)
            .connect_lazy();
        channels.insert((to, purpose), channel.clone());
        Ok(channel)
    }

    fn raft(&self, to: SocketAddr, purpose: Purpose) -> Result<RaftClient<Channel>, LinkError> {
        let client = RaftClient::new(self.channel(to, purpose)?);
        Ok(client.max_decoding_message_size(MAX_MESSAGE).max_encoding_message_size(MAX_MESSAGE))
    }

    /// For bootstrap and forwarding.
    pub(crate) fn cluster(&self, to: SocketAddr) -> Result<ClusterClient<Channel>, LinkError> {
        let client = ClusterClient::new(self.channel(to, Purpose::Forward)?);
        Ok(client.max_decoding_message_size(MAX_MESSAGE).max_encoding_message_size(MAX_MESSAGE))
    }
}

impl Transport for Pool {
    async fn append_entries(
        &self,
        to: SocketAddr,
        message: pb::AppendEntriesRequest,
    ) -> Result<pb::AppendEntriesResponse, LinkError> {
        answer(self.raft(to, Purpose::Consensus)?.append_entries(message).await)
    }

    async fn vote(&self, to: SocketAddr, message: pb::VoteRequest) -> Result<pb::VoteResponse, LinkError> {
        answer(self.raft(to, Purpose::Consensus)?.vote(message).await)
    }

    async fn pre_vote(
        &self,
        to: SocketAddr,
        message: pb::VoteRequest,
    ) -> Result<pb::VoteResponse, LinkError> {
        answer(self.raft(to, Purpose::Consensus)?.pre_vote(message).await)
    }

    async fn transfer_leader(
        &self,
        to: SocketAddr,
        message: pb::TransferLeaderRequest,
    ) -> Result<pb::TransferLeaderResponse, LinkError> {
        answer(self.raft(to, Purpose::Consensus)?.transfer_leader(message).await)
    }

    async fn install_snapshot(
        &self,
        to: SocketAddr,
        header: pb::SnapshotHeader,
        data: Bytes,
    ) -> Result<pb::InstallSnapshotResponse, LinkError> {
        use pb::install_snapshot_request::Part;
        let first = std::iter::once(Part::Header(header));
        let chunks = (0..data.len()).step_by(SNAPSHOT_CHUNK).map(move |at| {
            let end = data.len().min(at + SNAPSHOT_CHUNK);
            Part::Data(data[at..end].to_vec())
        });
        let messages = first.chain(chunks).map(|part| pb::InstallSnapshotRequest { part: Some(part) });
        let stream = futures::stream::iter(messages);
        answer(self.raft(to, Purpose::Snapshot)?.install_snapshot(stream).await)
    }
}

fn answer<T>(result: Result<tonic::Response<T>, Status>) -> Result<T, LinkError> {
    result.map(tonic::Response::into_inner).map_err(|status| link_error(&status))
}

/// Whether the message was not sent, refused, or lost.
pub(crate) fn link_error(status: &Status) -> LinkError {
    let text = describe(status);
    match status.code() {
        _ if never_sent(status) => LinkError::Unreachable(text),
        Code::FailedPrecondition | Code::PermissionDenied | Code::Unauthenticated | Code::InvalidArgument => {
            LinkError::Refused(status.message().to_owned())
        }
        _ => LinkError::Broken(text),
    }
}

fn never_sent(status: &Status) -> bool {
    let mut cause: Option<&(dyn Error + 'static)> = status.source();
    while let Some(e) = cause {
        if e.is::<ConnectError>() {
            return true;
        }
        cause = e.source();
    }
    false
}

/// An error with all that caused it: tonic's own text stops at "transport error".
pub(crate) fn describe(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(e) = cause {
        let more = e.to_string();
        if !text.contains(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        cause = e.source();
    }
    text
}
