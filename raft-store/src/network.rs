//! Raft's network: messages to protobuf, a transport's errors to Raft's, and time limits.

use std::future::Future;
use std::marker::PhantomData;
use std::net::SocketAddr;

use futures::future::{Either, select};
use lockstep_proto::convert::ConvertError;
use lockstep_proto::raft::v1 as pb;
use openraft::errors::{NetworkError, RPCError, ReplicationClosed, StreamingError, Timeout, Unreachable};
use openraft::network::{Backoff, RPCOption, RPCTypes, RaftNetworkFactory, RaftNetworkV2};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, TransferLeaderRequest,
    TransferLeaderResponse, VoteRequest, VoteResponse,
};
use openraft::type_config::TypeConfigExt;
use openraft::{AsyncRuntime, OptionalSend};

use crate::codec::{self, messages};
use crate::config::UNREACHABLE_RETRY;
use crate::layout::Identity;
use crate::snapshot::SnapshotBytes;
use crate::transport::{LinkError, Transport};
use crate::types::{Peer, Snapshot, Types, Vote};

/// Makes the way to each peer.
pub(crate) struct Network<RT, T> {
    pub(crate) identity: Identity,
    pub(crate) transport: T,
    pub(crate) runtime: PhantomData<fn() -> RT>,
}

impl<RT: AsyncRuntime, T: Transport> RaftNetworkFactory<Types<RT>> for Network<RT, T> {
    type Network = Link<RT, T>;

    async fn new_client(&mut self, target: u64, node: &Peer) -> Link<RT, T> {
        let header = pb::Header {
            cluster_id: self.identity.cluster_id.to_vec(),
            sender: self.identity.node.get(),
            target,
        };
        Link { header, address: node.address, transport: self.transport.clone(), runtime: PhantomData }
    }
}

/// The way to one peer.
pub(crate) struct Link<RT, T> {
    header: pb::Header,
    address: SocketAddr,
    transport: T,
    runtime: PhantomData<fn() -> RT>,
}

impl<RT: AsyncRuntime, T: Transport> Link<RT, T> {
    fn header(&self) -> Option<pb::Header> {
        Some(self.header.clone())
    }

    async fn within<R: Send>(
        &self,
        action: RPCTypes,
        option: &RPCOption,
        answer: impl Future<Output = Result<R, LinkError>> + Send,
    ) -> Result<R, RPCError<Types<RT>>> {
        let timeout = option.hard_ttl();
        match Types::<RT>::timeout(timeout, answer).await {
            Ok(Ok(answer)) => Ok(answer),
            // Both make Raft back off: neither heals at once.
            Ok(Err(e @ (LinkError::Unreachable(_) | LinkError::Refused(_)))) => {
                Err(RPCError::Unreachable(Unreachable::from_string(e)))
            }
            Ok(Err(e @ LinkError::Broken(_))) => Err(RPCError::Network(NetworkError::from_string(e))),
            Err(_) => {
                let (id, target) = (self.header.sender, self.header.target);
                Err(RPCError::Timeout(Timeout { action, id, target, timeout }))
            }
        }
    }
}

fn malformed<RT: AsyncRuntime>(e: ConvertError) -> RPCError<Types<RT>> {
    RPCError::Network(NetworkError::from_string(format!("an answer that cannot be understood: {e}")))
}

impl<RT: AsyncRuntime, T: Transport> RaftNetworkV2<Types<RT>> for Link<RT, T> {
    type SnapshotData = SnapshotBytes;

    async fn append_entries(
        &mut self,
        rpc: AppendEntriesRequest<Types<RT>>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<Types<RT>>, RPCError<Types<RT>>> {
        let message = pb::AppendEntriesRequest {
            header: self.header(),
            vote: Some(codec::vote(&rpc.vote)),
            prev_log_id: rpc.prev_log_id.as_ref().map(codec::log_id),
            entries: rpc.entries.iter().map(codec::entry).collect(),
            leader_commit: rpc.leader_commit.as_ref().map(codec::log_id),
        };
        let answer = self.transport.append_entries(self.address, message);
        let answer = self.within(RPCTypes::AppendEntries, &option, answer).await?;
        messages::append_response_from(answer).map_err(malformed)
    }

    async fn vote(
        &mut self,
        rpc: VoteRequest<Types<RT>>,
        option: RPCOption,
    ) -> Result<VoteResponse<Types<RT>>, RPCError<Types<RT>>> {
        let answer = self.transport.vote(self.address, messages::vote_request(self.header(), &rpc));
        let answer = self.within(RPCTypes::Vote, &option, answer).await?;
        messages::vote_response_from(answer).map_err(malformed)
    }

    async fn pre_vote(
        &mut self,
        rpc: VoteRequest<Types<RT>>,
        option: RPCOption,
    ) -> Result<VoteResponse<Types<RT>>, RPCError<Types<RT>>> {
        let answer = self.transport.pre_vote(self.address, messages::vote_request(self.header(), &rpc));
        let answer = self.within(RPCTypes::Vote, &option, answer).await?;
        messages::vote_response_from(answer).map_err(malformed)
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: Snapshot,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        option: RPCOption,
    ) -> Result<SnapshotResponse<Types<RT>>, StreamingError<Types<RT>>> {
        let data = snapshot.snapshot.0;
        let header = pb::SnapshotHeader {
            header: self.header(),
            vote: Some(codec::vote(&vote)),
            meta: Some(codec::snapshot_meta(&snapshot.meta)),
            length: data.len() as u64,
            crc32c: crc32c::crc32c(&data),
        };
        let answer = self.transport.install_snapshot(self.address, header, data);
        let answer = self.within(RPCTypes::InstallSnapshot, &option, answer);
        let (answer, cancel) = (std::pin::pin!(answer), std::pin::pin!(cancel));
        match select(answer, cancel).await {
            Either::Left((answer, _)) => {
                let vote = codec::required_vote("vote", answer?.vote).map_err(malformed)?;
                Ok(SnapshotResponse::new(vote))
            }
            Either::Right((closed, _)) => Err(StreamingError::Closed(closed)),
        }
    }

    fn backoff(&self) -> Option<Backoff> {
        Some(Backoff::new(std::iter::repeat(UNREACHABLE_RETRY)))
    }

    async fn transfer_leader(
        &mut self,
        rpc: TransferLeaderRequest<Types<RT>>,
        option: RPCOption,
    ) -> Result<TransferLeaderResponse<Types<RT>>, RPCError<Types<RT>>> {
        let message = pb::TransferLeaderRequest {
            header: self.header(),
            from_leader: Some(codec::vote(rpc.from_leader())),
            to_node_id: *rpc.to_node_id(),
            last_log_id: rpc.last_log_id().map(codec::log_id),
        };
        let answer = self.transport.transfer_leader(self.address, message);
        let answer = self.within(RPCTypes::TransferLeader, &option, answer).await?;
        messages::transfer_response_from(answer).map_err(malformed)
    }
}
