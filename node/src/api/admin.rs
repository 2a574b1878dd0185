//! `lockstep.admin.v1`: intent and membership.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures::Stream;
use lockstep_model::command::{Change, Command};
use lockstep_model::ids::{LogIndex, NodeId, Revision};
use lockstep_model::manifest;
use lockstep_model::state::{self, Applied, State};
use lockstep_proto::admin::v1 as pb;
use tonic::{Request, Response, Status, Streaming};

use super::refuse;
use crate::parts::Parts;

pub(super) type Streamed<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// How long `cluster init` waits for the nodes to register themselves.
const REGISTRATION_TIMEOUT: Duration = Duration::from_secs(3);

/// The service.
pub(crate) struct Admin {
    pub(super) parts: Arc<Parts>,
}

impl Admin {
    pub(crate) fn new(parts: Arc<Parts>) -> Self {
        Self { parts }
    }

    /// The state for a read: the newest the cluster has acknowledged (I2), or what is known here.
    pub(super) async fn state(&self, stale: bool) -> Result<Arc<State>, Status> {
        if stale {
            return Ok(self.parts.raft.stale());
        }
        self.parts.raft.read().await.map_err(|e| refuse::raft(&e))
    }

    /// Waits until all of `nodes` have registered themselves, so that intent may name them; not for ever, since
    /// the cluster exists either way.
    async fn registered(&self, nodes: impl Iterator<Item = &NodeId> + Clone) -> Arc<State> {
        let mut states = self.parts.raft.watch();
        let all = states.wait_for(|now| nodes.clone().all(|id| now.state.nodes.contains_key(id)));
        match tokio::time::timeout(REGISTRATION_TIMEOUT, all).await {
            Ok(Ok(now)) => now.state.clone(),
            _ => {
                tracing::warn!("not every node of the new cluster has registered itself yet");
                self.parts.raft.stale()
            }
        }
    }

    async fn write(
        &self,
        expected: Option<u64>,
        changes: Vec<Change>,
    ) -> Result<(u64, Vec<String>, bool), Status> {
        let command = Command::Change { expected: expected.map(Revision), changes };
        outcome(self.parts.raft.write(command).await.map_err(|e| refuse::raft(&e))?)
    }
}

fn outcome(applied: Applied) -> Result<(u64, Vec<String>, bool), Status> {
    match applied {
        Applied::Changed { revision, lines } => Ok((revision.get(), lines, true)),
        Applied::Unchanged { revision, lines } => Ok((revision.get(), lines, false)),
        Applied::Refused(refusal) => Err(refuse::refused(&refusal)),
    }
}

#[tonic::async_trait]
impl pb::admin_server::Admin for Admin {
    async fn apply(&self, request: Request<pb::ApplyRequest>) -> Result<Response<pb::ApplyResponse>, Status> {
        let request = request.into_inner();
        let documents = manifest::parse(&request.manifest).map_err(|e| refuse::manifest(&e))?;
        let mut changes = manifest::changes(documents);
        let mut expected = request.expected_revision;
        if request.prune {
            let state = self.state(false).await?;
            let deletions = manifest::prune(&state, &changes);
            // What was read decides what is deleted: nobody may change it in between.
            expected = expected.or(Some(state.revision.get()));
            changes.extend(deletions);
        }
        let (revision, lines, changed) = if request.dry_run {
            let mut state = State::clone(&*self.state(false).await?);
            let index = LogIndex(state.revision.get() + 1);
            let command = Command::Change { expected: expected.map(Revision), changes };
            let before = state.revision.get();
            let (_, lines, changed) = outcome(state::apply(&mut state, index, &command))?;
            (before, lines, changed)
        } else {
            self.write(expected, changes).await?
        };
        Ok(Response::new(pb::ApplyResponse { revision, lines, changed }))
    }

    async fn delete(
        &self,
        request: Request<pb::DeleteRequest>,
    ) -> Result<Response<pb::DeleteResponse>, Status> {
        let request = request.into_inner();
        let change = match request.kind.as_str() {
            "group" => Change::DeleteGroup(request.name),
            "service" => Change::DeleteService(request.name),
            "snatrule" => Change::DeleteSnatRule(request.name),
            other => {
                return Err(refuse::refused(&lockstep_model::state::Refusal::Invalid {
                    path: "kind".to_owned(),
                    value: format!("{other:?}"),
                    allowed: "group, service, snatrule".to_owned(),
                }));
            }
        };
        let (revision, lines, _) = self.write(request.expected_revision, vec![change]).await?;
        Ok(Response::new(pb::DeleteResponse { revision, lines }))
    }

    async fn get_group(
        &self,
        request: Request<pb::GetGroupRequest>,
    ) -> Result<Response<pb::GetGroupResponse>, Status> {
        self.read_group(request.into_inner()).await.map(Response::new)
    }

    type ListGroupsStream = Streamed<pb::ListGroupsResponse>;
    async fn list_groups(
        &self,
        request: Request<pb::ListGroupsRequest>,
    ) -> Result<Response<Self::ListGroupsStream>, Status> {
        self.read_groups(request.into_inner().stale).await.map(Response::new)
    }

    async fn get_service(
        &self,
        request: Request<pb::GetServiceRequest>,
    ) -> Result<Response<pb::GetServiceResponse>, Status> {
        self.read_service(request.into_inner()).await.map(Response::new)
    }

    type ListServicesStream = Streamed<pb::ListServicesResponse>;
    async fn list_services(
        &self,
        request: Request<pb::ListServicesRequest>,
    ) -> Result<Response<Self::ListServicesStream>, Status> {
        self.read_services(request.into_inner().stale).await.map(Response::new)
    }

    async fn get_snat_rule(
        &self,
        request: Request<pb::GetSnatRuleRequest>,
    ) -> Result<Response<pb::GetSnatRuleResponse>, Status> {
        self.read_snat_rule(request.into_inner()).await.map(Response::new)
    }

    type ListSnatRulesStream = Streamed<pb::ListSnatRulesResponse>;
    async fn list_snat_rules(
        &self,
        request: Request<pb::ListSnatRulesRequest>,
    ) -> Result<Response<Self::ListSnatRulesStream>, Status> {
        self.read_snat_rules(request.into_inner().stale).await.map(Response::new)
    }

    async fn get_node(
        &self,
        request: Request<pb::GetNodeRequest>,
    ) -> Result<Response<pb::GetNodeResponse>, Status> {
        self.read_node(request.into_inner()).await.map(Response::new)
    }

    type ListNodesStream = Streamed<pb::ListNodesResponse>;
    async fn list_nodes(
        &self,
        request: Request<pb::ListNodesRequest>,
    ) -> Result<Response<Self::ListNodesStream>, Status> {
        self.read_nodes(request.into_inner().stale).await.map(Response::new)
    }

    async fn get_cluster(
        &self,
        request: Request<pb::GetClusterRequest>,
    ) -> Result<Response<pb::GetClusterResponse>, Status> {
        self.read_cluster(request.into_inner().stale).await.map(Response::new)
    }

    async fn cluster_init(
        &self,
        _request: Request<pb::ClusterInitRequest>,
    ) -> Result<Response<pb::ClusterInitResponse>, Status> {
        let made = self.parts.raft.init().await.map_err(|e| refuse::raft(&e))?;
        let state = self.registered(made.nodes.keys()).await;
        let nodes = made
            .nodes
            .keys()
            .map(|id| lockstep_proto::types::v1::Node {
                id: id.get(),
                spec: state.nodes.get(id).map(Into::into),
            })
            .collect();
        Ok(Response::new(pb::ClusterInitResponse { cluster_id: made.cluster_id.to_vec(), nodes }))
    }

    async fn cluster_status(
        &self,
        _request: Request<pb::ClusterStatusRequest>,
    ) -> Result<Response<pb::ClusterStatusResponse>, Status> {
        Ok(Response::new(self.status()))
    }

    async fn transfer_leader(
        &self,
        request: Request<pb::TransferLeaderRequest>,
    ) -> Result<Response<pb::TransferLeaderResponse>, Status> {
        let name = request.into_inner().node;
        let state = self.state(true).await?;
        let found = state.nodes.iter().find(|(_, spec)| spec.name == name);
        let to = *found.ok_or_else(|| refuse::absent("node", &name))?.0;
        if let Some(lease) = self.parts.lease() {
            lease.operator_moved_leader();
        }
        self.parts.raft.transfer_leader(to).await.map_err(|e| refuse::raft(&e))?;
        Ok(Response::new(pb::TransferLeaderResponse { leader_id: to.get() }))
    }

    async fn move_group(
        &self,
        request: Request<pb::MoveGroupRequest>,
    ) -> Result<Response<pb::MoveGroupResponse>, Status> {
        self.give(request.into_inner()).await.map(Response::new)
    }

    async fn drain_node(
        &self,
        request: Request<pb::DrainNodeRequest>,
    ) -> Result<Response<pb::DrainNodeResponse>, Status> {
        self.drain(request.into_inner()).await.map(Response::new)
    }

    async fn cluster_join(
        &self,
        request: Request<pb::ClusterJoinRequest>,
    ) -> Result<Response<pb::ClusterJoinResponse>, Status> {
        self.join(request.into_inner()).await.map(Response::new)
    }

    async fn cluster_leave(
        &self,
        request: Request<pb::ClusterLeaveRequest>,
    ) -> Result<Response<pb::ClusterLeaveResponse>, Status> {
        self.leave(request.into_inner().node).await.map(Response::new)
    }

    type ClusterBackupStream = Streamed<pb::ClusterBackupResponse>;
    async fn cluster_backup(
        &self,
        _request: Request<pb::ClusterBackupRequest>,
    ) -> Result<Response<Self::ClusterBackupStream>, Status> {
        self.backup().await.map(Response::new)
    }

    async fn cluster_restore(
        &self,
        request: Request<Streaming<pb::ClusterRestoreRequest>>,
    ) -> Result<Response<pb::ClusterRestoreResponse>, Status> {
        self.restore(request.into_inner()).await.map(Response::new)
    }

    async fn cluster_recover(
        &self,
        request: Request<pb::ClusterRecoverRequest>,
    ) -> Result<Response<pb::ClusterRecoverResponse>, Status> {
        self.recover(request.into_inner().force_new_cluster).await.map(Response::new)
    }
}
