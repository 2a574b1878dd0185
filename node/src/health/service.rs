//! `lockstep.health.v1` on the cluster listener: reports of the other nodes.

use std::sync::Arc;
use std::time::Duration;

use lockstep_model::ids::{EndpointId, NodeId};
use lockstep_model::limits::MAX_PROBED_ENDPOINTS;
use lockstep_proto::convert::ConvertError;
use lockstep_proto::health::v1 as pb;
use lockstep_proto::health::v1::health_server::{Health, HealthServer};
use tonic::{Request, Response, Status};

use super::judge::Reported;
use crate::parts::Parts;

/// Of a view, with a good deal of room.
const MAX_VIEW_BYTES: usize = 64;

/// The service.
pub(crate) struct Service {
    parts: Arc<Parts>,
}

impl Service {
    /// For the cluster listener.
    pub(crate) fn server(parts: Arc<Parts>) -> HealthServer<Service> {
        HealthServer::new(Service { parts }).max_decoding_message_size(MAX_PROBED_ENDPOINTS * MAX_VIEW_BYTES)
    }

    fn refuse(&self, reason: impl Into<String>) -> Status {
        self.parts.health.counts.refused_reports.add(1);
        Status::failed_precondition(reason)
    }
}

#[tonic::async_trait]
impl Health for Service {
    async fn report(
        &self,
        request: Request<pb::ReportRequest>,
    ) -> Result<Response<pb::ReportResponse>, Status> {
        let request = request.into_inner();
        let identity = self.parts.raft.identity();
        let identity = identity.ok_or_else(|| self.refuse("this node belongs to no cluster yet"))?;
        if request.cluster_id != identity.cluster_id.to_vec() {
            return Err(self.refuse("this node belongs to another cluster"));
        }
        if request.target != identity.node.get() {
            return Err(self.refuse(format!("this is node {}, not {}", identity.node, request.target)));
        }
        let sender = NodeId(request.sender);
        if !self.parts.raft.stale().nodes.contains_key(&sender) {
            return Err(self.refuse(format!("node {sender} is not registered")));
        }
        let views: Result<Vec<Reported>, ConvertError> = request.views.into_iter().map(view).collect();
        let views = views.inspect_err(|_| self.parts.health.counts.refused_reports.add(1))?;
        if !self.parts.health.accept(sender, views) {
            return Err(self.refuse("this node does not lead"));
        }
        Ok(Response::new(pb::ReportResponse {}))
    }
}

fn view(wire: pb::View) -> Result<Reported, ConvertError> {
    let opinion = match wire.opinion() {
        pb::Opinion::Up => Some(true),
        pb::Opinion::Down => Some(false),
        // What a later version may say is no vote.
        pb::Opinion::Undecided | pb::Opinion::Unspecified => None,
    };
    let failure =
        wire.failure.map(TryInto::try_into).transpose().map_err(|e: ConvertError| e.within("failure"))?;
    let age = Duration::from_millis(wire.age_ms);
    Ok(Reported { endpoint: EndpointId(wire.endpoint), age, opinion, failure })
}
