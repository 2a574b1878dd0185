//! What a replica does with a peer's request: checked at the door, then given to Raft.

use bytes::Bytes;
use lockstep_model::command::Command;
use lockstep_model::ids::NodeId;
use lockstep_proto::convert::{ConvertError, required};
use lockstep_proto::raft::v1 as pb;
use openraft::AsyncRuntime;

use crate::codec::{self, messages};
use crate::error::Refused;
use crate::layout::ClusterId;
use crate::metrics::Role;
use crate::replica::{LocalError, Replica};
use crate::snapshot::SnapshotBytes;
use crate::types::Snapshot;

impl From<ConvertError> for Refused {
    fn from(e: ConvertError) -> Self {
        Refused::Malformed(e.to_string())
    }
}

impl<RT: AsyncRuntime> Replica<RT> {
    /// Whether the request is of this cluster and meant for this node.
    pub(crate) fn admit(&self, header: Option<&pb::Header>) -> Result<(), Refused> {
        let header = header.ok_or_else(|| Refused::Malformed("header: missing".into()))?;
        let (sender, target) = (NodeId(header.sender), NodeId(header.target));
        if header.cluster_id != self.identity.cluster_id.0 {
            let theirs = ClusterId::from_slice(&header.cluster_id)
                .map_or_else(|| format!("of {} bytes", header.cluster_id.len()), |id| id.to_string());
            return Err(Refused::ForeignCluster {
                sender,
                theirs,
                ours: self.identity.cluster_id.to_string(),
            });
        }
        if target != self.identity.node {
            return Err(Refused::WrongTarget { sender, target, ours: self.identity.node });
        }
        Ok(())
    }

    /// As [`Self::admit`], and the sender has not been taken out. Only of use on the leader, whose log has the newest
    /// membership; Raft's own messages are let in from everybody, because a follower may be behind.
    pub(crate) fn admit_member(&self, header: Option<&pb::Header>) -> Result<NodeId, Refused> {
        self.admit(header)?;
        let sender = NodeId(header.map_or(0, |h| h.sender));
        let leads = self.metrics().role == Role::Leader;
        if leads && !self.members().contains(&sender) {
            return Err(Refused::NotAMember { sender });
        }
        Ok(sender)
    }

    /// `Raft.AppendEntries`.
    pub async fn on_append_entries(
        &self,
        request: pb::AppendEntriesRequest,
    ) -> Result<pb::AppendEntriesResponse, Refused> {
        self.admit(request.header.as_ref())?;
        let answer = self.raft.append_entries(messages::append_request_from(request)?).await;
        Ok(messages::append_response(&answer.map_err(stopped)?))
    }

    /// `Raft.Vote`.
    pub async fn on_vote(&self, request: pb::VoteRequest) -> Result<pb::VoteResponse, Refused> {
        self.admit(request.header.as_ref())?;
        let answer = self.raft.vote(messages::vote_request_from(request)?).await;
        Ok(messages::vote_response(&answer.map_err(stopped)?))
    }

    /// `Raft.PreVote`.
    pub async fn on_pre_vote(&self, request: pb::VoteRequest) -> Result<pb::VoteResponse, Refused> {
        self.admit(request.header.as_ref())?;
        let answer = self.raft.pre_vote(messages::vote_request_from(request)?).await;
        Ok(messages::vote_response(&answer.map_err(stopped)?))
    }

    /// `Raft.TransferLeader`.
    pub async fn on_transfer_leader(
        &self,
        request: pb::TransferLeaderRequest,
    ) -> Result<pb::TransferLeaderResponse, Refused> {
        self.admit(request.header.as_ref())?;
        let answer = self.raft.handle_transfer_leader(messages::transfer_request_from(request)?).await;
        Ok(messages::transfer_response(&answer.map_err(stopped)?))
    }

    /// Whether a snapshot may be received: before its data is.
    pub fn admit_snapshot(&self, header: &pb::SnapshotHeader) -> Result<(), Refused> {
        self.admit(header.header.as_ref())
    }

    /// `Raft.InstallSnapshot`, when all data is there.
    pub async fn on_install_snapshot(
        &self,
        header: pb::SnapshotHeader,
        data: Bytes,
    ) -> Result<pb::InstallSnapshotResponse, Refused> {
        self.admit(header.header.as_ref())?;
        if data.len() as u64 != header.length || crc32c::crc32c(&data) != header.crc32c {
            return Err(Refused::Malformed("the snapshot's data is not what its header says".into()));
        }
        let vote = codec::required_vote("vote", header.vote)?;
        let meta = codec::snapshot_meta_from(header.meta)?;
        // Before Raft relies on it: what it cannot install stops it.
        let image = crate::snapshot::Image::decode(data.clone()).map_err(Refused::Malformed)?;
        if image.meta != meta {
            return Err(Refused::Malformed("the snapshot's content is not what its header says".into()));
        }
        let snapshot = Snapshot { meta, snapshot: SnapshotBytes(data) };
        let answer = self.raft.install_full_snapshot(vote, snapshot).await.map_err(stopped)?;
        Ok(pb::InstallSnapshotResponse { vote: Some(codec::vote(&answer.vote)) })
    }

    /// `Cluster.Write`.
    pub async fn on_write(&self, request: pb::WriteRequest) -> Result<pb::WriteResponse, Forwarded> {
        use pb::write_response::Result as Outcome;
        self.admit_member(request.header.as_ref())?;
        let command: Command = required("command", request.command).map_err(Refused::from)?;
        let result = match self.write(command).await {
            Ok((index, applied)) => {
                Outcome::Written(pb::Written { log_index: index.get(), applied: Some((&applied).into()) })
            }
            Err(LocalError::NotLeader { leader }) => Outcome::NotLeader(not_leader(leader)),
            Err(e) => return Err(Forwarded::Failed(e)),
        };
        Ok(pb::WriteResponse { result: Some(result) })
    }

    /// `Cluster.ReadIndex`.
    pub async fn on_read_index(
        &self,
        request: pb::ReadIndexRequest,
    ) -> Result<pb::ReadIndexResponse, Forwarded> {
        use pb::read_index_response::Result as Outcome;
        self.admit_member(request.header.as_ref())?;
        let result = match self.read_index().await {
            Ok(index) => Outcome::ReadPoint(pb::ReadPoint { log_index: index.get() }),
            Err(LocalError::NotLeader { leader }) => Outcome::NotLeader(not_leader(leader)),
            Err(e) => return Err(Forwarded::Failed(e)),
        };
        Ok(pb::ReadIndexResponse { result: Some(result) })
    }

    /// `Cluster.MoveLeader`.
    pub async fn on_move_leader(
        &self,
        request: pb::MoveLeaderRequest,
    ) -> Result<pb::MoveLeaderResponse, Forwarded> {
        use pb::move_leader_response::{Result as Outcome, Started};
        self.admit(request.header.as_ref())?;
        let result = match self.move_leader(NodeId(request.to)).await {
            Ok(()) => Outcome::Started(Started {}),
            Err(LocalError::NotLeader { leader }) => Outcome::NotLeader(not_leader(leader)),
            Err(e) => return Err(Forwarded::Failed(e)),
        };
        Ok(pb::MoveLeaderResponse { result: Some(result) })
    }
}

/// Why a forwarded request has no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Forwarded {
    /// It was not admitted.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// It failed here.
    #[error(transparent)]
    Failed(LocalError),
}

fn stopped(e: impl std::fmt::Display) -> Refused {
    Refused::Stopped(e.to_string())
}

pub(crate) fn not_leader(leader: Option<NodeId>) -> pb::NotLeader {
    pb::NotLeader { leader: leader.map_or(0, NodeId::get) }
}
