//! The receiving side: `lockstep.raft.v1` on the cluster listener.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::{Bytes, BytesMut};
use lockstep_model::ids::NodeId;
use lockstep_proto::raft::v1 as pb;
use lockstep_proto::raft::v1::cluster_server::Cluster;
use lockstep_proto::raft::v1::raft_server::Raft;
use openraft::TokioRuntime;
use tonic::{Request, Response, Status, Streaming};

use crate::config::{MAX_SNAPSHOT, SNAPSHOT_CHUNK};
use crate::dispatch::{Forwarded, not_leader};
use crate::error::Refused;
use crate::node::{Inner, Led, RaftError};
use crate::replica::{LocalError, Replica};

/// Requests refused, by reason (I14).
#[derive(Debug, Default)]
pub(crate) struct Refusals {
    foreign_cluster: AtomicU64,
    wrong_target: AtomicU64,
    not_initialised: AtomicU64,
    not_a_member: AtomicU64,
    malformed: AtomicU64,
    stopped: AtomicU64,
}

impl Refusals {
    fn count(&self, refused: &Refused) {
        let counter = match refused {
            Refused::ForeignCluster { .. } => &self.foreign_cluster,
            Refused::WrongTarget { .. } => &self.wrong_target,
            Refused::NotInitialised => &self.not_initialised,
            Refused::NotAMember { .. } => &self.not_a_member,
            Refused::Malformed(_) => &self.malformed,
            Refused::Stopped(_) => &self.stopped,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn read(&self) -> BTreeMap<&'static str, u64> {
        [
            ("foreign_cluster", &self.foreign_cluster),
            ("wrong_target", &self.wrong_target),
            ("not_initialised", &self.not_initialised),
            ("not_a_member", &self.not_a_member),
            ("malformed", &self.malformed),
            ("stopped", &self.stopped),
        ]
        .map(|(name, counter)| (name, counter.load(Ordering::Relaxed)))
        .into()
    }
}

/// Serves `Raft` and `Cluster` for one node.
#[derive(Clone)]
pub struct RaftService {
    pub(crate) node: Arc<Inner>,
}

impl RaftService {
    fn member(&self) -> Result<Arc<Replica<TokioRuntime>>, Status> {
        self.node.member().ok_or_else(|| self.refuse(&Refused::NotInitialised))
    }

    fn refuse(&self, refused: &Refused) -> Status {
        self.node.refusals.count(refused);
        tracing::warn!(reason = refused.kind(), %refused, "refused a peer's request");
        match refused {
            Refused::Malformed(text) => Status::invalid_argument(text.clone()),
            Refused::Stopped(_) => Status::unavailable(refused.to_string()),
            _ => Status::failed_precondition(refused.to_string()),
        }
    }

    fn answer<T>(&self, result: Result<T, Refused>) -> Result<Response<T>, Status> {
        result.map(Response::new).map_err(|e| self.refuse(&e))
    }

    /// A change of membership. What was refused, or had no effect, is told apart from what may have had one.
    fn changed<T>(&self, result: Result<T, RaftError>) -> Result<Response<T>, Status> {
        result.map(Response::new).map_err(|e| match e {
            RaftError::NoLeader(_)
            | RaftError::Busy(_)
            | RaftError::OutcomeUnknown(_)
            | RaftError::Stopped(_) => Status::unavailable(e.to_string()),
            // A refusal's text stands for itself.
            RaftError::Refused(why) => Status::failed_precondition(why),
            _ => Status::failed_precondition(e.to_string()),
        })
    }

    fn forwarded<T>(&self, result: Result<T, Forwarded>) -> Result<Response<T>, Status> {
        result.map(Response::new).map_err(|e| match e {
            Forwarded::Refused(refused) => self.refuse(&refused),
            Forwarded::Failed(e @ LocalError::TooLarge { .. }) => Status::invalid_argument(e.to_string()),
            Forwarded::Failed(e @ LocalError::OutcomeUnknown) => Status::unknown(e.to_string()),
            Forwarded::Failed(e) => Status::unavailable(e.to_string()),
        })
    }
}

#[tonic::async_trait]
impl Raft for RaftService {
    async fn append_entries(
        &self,
        request: Request<pb::AppendEntriesRequest>,
    ) -> Result<Response<pb::AppendEntriesResponse>, Status> {
        self.answer(self.member()?.on_append_entries(request.into_inner()).await)
    }

    async fn vote(&self, request: Request<pb::VoteRequest>) -> Result<Response<pb::VoteResponse>, Status> {
        self.answer(self.member()?.on_vote(request.into_inner()).await)
    }

    async fn pre_vote(
        &self,
        request: Request<pb::VoteRequest>,
    ) -> Result<Response<pb::VoteResponse>, Status> {
        self.answer(self.member()?.on_pre_vote(request.into_inner()).await)
    }

    async fn transfer_leader(
        &self,
        request: Request<pb::TransferLeaderRequest>,
    ) -> Result<Response<pb::TransferLeaderResponse>, Status> {
        self.answer(self.member()?.on_transfer_leader(request.into_inner()).await)
    }

    async fn install_snapshot(
        &self,
        request: Request<Streaming<pb::InstallSnapshotRequest>>,
    ) -> Result<Response<pb::InstallSnapshotResponse>, Status> {
        let member = self.member()?;
        let received = receive_snapshot(&member, request.into_inner()).await;
        let (header, data) = match received {
            Ok(received) => received,
            Err(Incomplete::Refused(refused)) => return Err(self.refuse(&refused)),
            Err(Incomplete::Broken(status)) => return Err(status),
        };
        self.answer(member.on_install_snapshot(header, data).await)
    }
}

enum Incomplete {
    Refused(Refused),
    Broken(Status),
}

/// Collects a snapshot's chunks, never more than its header said.
async fn receive_snapshot(
    member: &Replica<TokioRuntime>,
    mut stream: Streaming<pb::InstallSnapshotRequest>,
) -> Result<(pb::SnapshotHeader, Bytes), Incomplete> {
    use pb::install_snapshot_request::Part;
    let malformed = |text: &str| Incomplete::Refused(Refused::Malformed(text.to_owned()));
    let first = stream.message().await.map_err(Incomplete::Broken)?.and_then(|m| m.part);
    let Some(Part::Header(header)) = first else {
        return Err(malformed("a snapshot begins with its header"));
    };
    member.admit_snapshot(&header).map_err(Incomplete::Refused)?;
    if header.length > MAX_SNAPSHOT as u64 {
        return Err(malformed(&format!("a snapshot of {} bytes; allowed: {MAX_SNAPSHOT}", header.length)));
    }
    let mut data = BytesMut::new();
    while let Some(message) = stream.message().await.map_err(Incomplete::Broken)? {
        let Some(Part::Data(chunk)) = message.part else {
            return Err(malformed("a snapshot has one header"));
        };
        if chunk.len() > SNAPSHOT_CHUNK {
            return Err(malformed(&format!("a chunk of {} bytes; allowed: {SNAPSHOT_CHUNK}", chunk.len())));
        }
        if (data.len() + chunk.len()) as u64 > header.length {
            return Err(malformed("a snapshot longer than its header says"));
        }
        data.extend_from_slice(&chunk);
    }
    Ok((header, data.freeze()))
}

#[tonic::async_trait]
impl Cluster for RaftService {
    async fn probe(&self, _: Request<pb::ProbeRequest>) -> Result<Response<pb::ProbeResponse>, Status> {
        Ok(Response::new(self.node.describe()))
    }

    async fn adopt(&self, request: Request<pb::AdoptRequest>) -> Result<Response<pb::AdoptResponse>, Status> {
        let adopted = self.node.adopt(request.into_inner()).await;
        adopted.map_err(|e| Status::failed_precondition(e.to_string()))?;
        Ok(Response::new(pb::AdoptResponse {}))
    }

    async fn write(&self, request: Request<pb::WriteRequest>) -> Result<Response<pb::WriteResponse>, Status> {
        let member = self.member()?;
        if member.was_full() {
            return Err(Status::resource_exhausted(self.node.disk().to_string()));
        }
        self.forwarded(member.on_write(request.into_inner()).await)
    }

    async fn read_index(
        &self,
        request: Request<pb::ReadIndexRequest>,
    ) -> Result<Response<pb::ReadIndexResponse>, Status> {
        self.forwarded(self.member()?.on_read_index(request.into_inner()).await)
    }

    async fn move_leader(
        &self,
        request: Request<pb::MoveLeaderRequest>,
    ) -> Result<Response<pb::MoveLeaderResponse>, Status> {
        self.forwarded(self.member()?.on_move_leader(request.into_inner()).await)
    }

    async fn join(&self, request: Request<pb::JoinRequest>) -> Result<Response<pb::JoinResponse>, Status> {
        self.changed(self.node.on_join(request.into_inner()).await)
    }

    async fn enlist(
        &self,
        request: Request<pb::EnlistRequest>,
    ) -> Result<Response<pb::EnlistResponse>, Status> {
        use pb::enlist_response::Result as Outcome;
        let header = request.into_inner().header;
        let sender = self.member()?.admit_member(header.as_ref()).map_err(|e| self.refuse(&e))?;
        let result = match self.changed(self.node.on_enlist(sender).await)?.into_inner() {
            Led::Done(voters) => Outcome::Voters(names(&voters)),
            Led::Elsewhere(leader) => Outcome::NotLeader(not_leader(leader)),
        };
        Ok(Response::new(pb::EnlistResponse { result: Some(result) }))
    }

    async fn remove(
        &self,
        request: Request<pb::RemoveRequest>,
    ) -> Result<Response<pb::RemoveResponse>, Status> {
        use pb::remove_response::Result as Outcome;
        let request = request.into_inner();
        self.member()?.admit_member(request.header.as_ref()).map_err(|e| self.refuse(&e))?;
        let result = match self.changed(self.node.on_remove(NodeId(request.node)).await)?.into_inner() {
            Led::Done(voters) => Outcome::Voters(names(&voters)),
            Led::Elsewhere(leader) => Outcome::NotLeader(not_leader(leader)),
        };
        Ok(Response::new(pb::RemoveResponse { result: Some(result) }))
    }

    async fn dismiss(
        &self,
        request: Request<pb::DismissRequest>,
    ) -> Result<Response<pb::DismissResponse>, Status> {
        self.member()?.admit(request.into_inner().header.as_ref()).map_err(|e| self.refuse(&e))?;
        self.node.on_dismiss();
        Ok(Response::new(pb::DismissResponse {}))
    }
}

fn names(voters: &BTreeSet<NodeId>) -> pb::Voters {
    pb::Voters { ids: voters.iter().map(|id| id.get()).collect() }
}
