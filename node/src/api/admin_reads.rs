//! The reading half of the admin service.

use lockstep_model::manifest;
use lockstep_proto::admin::v1 as pb;
use tonic::Status;

use super::admin::{Admin, Streamed};
use super::refuse;

fn stream<T: Send + 'static>(items: Vec<T>) -> Streamed<T> {
    Box::pin(futures::stream::iter(items.into_iter().map(Ok)))
}

impl Admin {
    pub(super) async fn read_group(
        &self,
        request: pb::GetGroupRequest,
    ) -> Result<pb::GetGroupResponse, Status> {
        let all = self.groups(request.stale).await?;
        let name = request.name;
        let found =
            all.into_iter().find(|(n, _)| *n == name).ok_or_else(|| refuse::absent("group", &name))?.1;
        Ok(pb::GetGroupResponse {
            group: found.group,
            revision: found.revision,
            manifest: found.manifest,
            port_blocks: found.port_blocks,
        })
    }

    pub(super) async fn read_groups(&self, stale: bool) -> Result<Streamed<pb::ListGroupsResponse>, Status> {
        Ok(stream(self.groups(stale).await?.into_iter().map(|(_, group)| group).collect()))
    }

    async fn groups(&self, stale: bool) -> Result<Vec<(String, pb::ListGroupsResponse)>, Status> {
        let state = self.state(stale).await?;
        let revision = state.revision.get();
        let sources = state.snat_sources();
        let one = |(id, group): (&lockstep_model::ids::GroupId, &lockstep_model::state::Group)| {
            let manifest = manifest::export_group(&group.spec).to_string();
            let own = state.group_addresses(*id);
            let port_blocks = own.intersection(&sources).map(|a| (*a, state.blocks(*a)).into()).collect();
            let group_message = Some((*id, group).into());
            let answer = pb::ListGroupsResponse { group: group_message, revision, manifest, port_blocks };
            (group.spec.name.clone(), answer)
        };
        Ok(state.groups.iter().map(one).collect())
    }

    pub(super) async fn read_service(
        &self,
        request: pb::GetServiceRequest,
    ) -> Result<pb::GetServiceResponse, Status> {
        let all = self.services(request.stale).await?;
        let name = request.name;
        let found =
            all.into_iter().find(|(n, _)| *n == name).ok_or_else(|| refuse::absent("service", &name))?.1;
        Ok(pb::GetServiceResponse {
            service: found.service,
            revision: found.revision,
            manifest: found.manifest,
        })
    }

    pub(super) async fn read_services(
        &self,
        stale: bool,
    ) -> Result<Streamed<pb::ListServicesResponse>, Status> {
        Ok(stream(self.services(stale).await?.into_iter().map(|(_, service)| service).collect()))
    }

    async fn services(&self, stale: bool) -> Result<Vec<(String, pb::ListServicesResponse)>, Status> {
        let state = self.state(stale).await?;
        let revision = state.revision.get();
        let one = |(id, service): (&lockstep_model::ids::ServiceId, &lockstep_model::state::Service)| {
            let manifest = manifest::export_service(&service.spec).to_string();
            let answer =
                pb::ListServicesResponse { service: Some((*id, service).into()), revision, manifest };
            (service.spec.name.clone(), answer)
        };
        Ok(state.services.iter().map(one).collect())
    }

    pub(super) async fn read_snat_rule(
        &self,
        request: pb::GetSnatRuleRequest,
    ) -> Result<pb::GetSnatRuleResponse, Status> {
        let all = self.snat_rules(request.stale).await?;
        let name = request.name;
        let found =
            all.into_iter().find(|(n, _)| *n == name).ok_or_else(|| refuse::absent("snatrule", &name))?.1;
        Ok(pb::GetSnatRuleResponse {
            snat_rule: found.snat_rule,
            revision: found.revision,
            manifest: found.manifest,
        })
    }

    pub(super) async fn read_snat_rules(
        &self,
        stale: bool,
    ) -> Result<Streamed<pb::ListSnatRulesResponse>, Status> {
        Ok(stream(self.snat_rules(stale).await?.into_iter().map(|(_, rule)| rule).collect()))
    }

    async fn snat_rules(&self, stale: bool) -> Result<Vec<(String, pb::ListSnatRulesResponse)>, Status> {
        let state = self.state(stale).await?;
        let revision = state.revision.get();
        let one = |(id, rule): (&lockstep_model::ids::ServiceId, &lockstep_model::state::SnatRule)| {
            let manifest = manifest::export_snat_rule(&rule.spec).to_string();
            let snat_rule = Some((*id, rule).into());
            (rule.spec.name.clone(), pb::ListSnatRulesResponse { snat_rule, revision, manifest })
        };
        Ok(state.snat_rules.iter().map(one).collect())
    }

    pub(super) async fn read_node(&self, request: pb::GetNodeRequest) -> Result<pb::GetNodeResponse, Status> {
        let all = self.nodes(request.stale).await?;
        let name = request.name;
        let found = all.into_iter().find(|(n, _)| *n == name).ok_or_else(|| refuse::absent("node", &name))?.1;
        Ok(pb::GetNodeResponse { node: found.node, revision: found.revision })
    }

    pub(super) async fn read_nodes(&self, stale: bool) -> Result<Streamed<pb::ListNodesResponse>, Status> {
        Ok(stream(self.nodes(stale).await?.into_iter().map(|(_, node)| node).collect()))
    }

    async fn nodes(&self, stale: bool) -> Result<Vec<(String, pb::ListNodesResponse)>, Status> {
        let state = self.state(stale).await?;
        let revision = state.revision.get();
        let one = |(id, spec): (&lockstep_model::ids::NodeId, &lockstep_model::intent::NodeSpec)| {
            (spec.name.clone(), pb::ListNodesResponse { node: Some((*id, spec).into()), revision })
        };
        Ok(state.nodes.iter().map(one).collect())
    }

    pub(super) async fn read_cluster(&self, stale: bool) -> Result<pb::GetClusterResponse, Status> {
        let state = self.state(stale).await?;
        Ok(pb::GetClusterResponse {
            settings: Some((&state.settings).into()),
            revision: state.revision.get(),
            manifest: manifest::export_cluster(&state.settings).to_string(),
        })
    }

    pub(super) fn status(&self) -> pb::ClusterStatusResponse {
        let raft = &self.parts.raft;
        let state = raft.stale();
        let metrics = raft.metrics();
        let Some(identity) = raft.identity() else {
            let cluster_name = self.parts.config.cluster.name.clone();
            return pb::ClusterStatusResponse { cluster_name, ..Default::default() };
        };
        let members = metrics
            .voters
            .union(&metrics.learners)
            .map(|id| {
                let spec = state.nodes.get(id);
                let mut member = pb::Member {
                    id: id.get(),
                    name: spec.map(|s| s.name.clone()).unwrap_or_default(),
                    cluster_address: spec.map(|s| s.cluster_address.into()),
                    voter: metrics.voters.contains(id),
                    leader: metrics.leader == Some(*id),
                    matched_index: metrics.matched.get(id).copied().flatten().map(|i| i.get()),
                    ..Default::default()
                };
                if let Some(spec) = spec {
                    member.set_role(spec.role.into());
                }
                member
            })
            .collect();
        pb::ClusterStatusResponse {
            cluster_id: identity.cluster_id.to_vec(),
            cluster_name: identity.cluster_name,
            node_id: identity.node.get(),
            leader_id: metrics.leader.map_or(0, |id| id.get()),
            term: metrics.term,
            last_log_index: metrics.last_log,
            applied_index: metrics.applied,
            revision: state.revision.get(),
            members,
        }
    }
}
