//! Health as the inspect API shows it.

use std::time::Instant;

use lockstep_model::ids::ServiceId;
use lockstep_model::state::State;
use lockstep_proto::inspect::v1 as pb;
use tonic::Status;

use super::refuse;
use crate::parts::Parts;

/// Endpoints of a message.
const PAGE: usize = 1024;

/// What this node finds, and on the leader what all report, of one service's endpoints or of all that are probed.
pub(super) fn endpoints(
    parts: &Parts,
    service: &str,
) -> Result<Vec<Result<pb::EndpointHealthResponse, Status>>, Status> {
    let state = parts.raft.stale();
    let wanted = match service {
        "" => None,
        name => Some(state.service(name).ok_or_else(|| refuse::absent("service", name))?.0),
    };
    let all = views(parts, &state, wanted);
    let page = |page: &[pb::EndpointView]| Ok(pb::EndpointHealthResponse { endpoints: page.to_vec() });
    Ok(all.chunks(PAGE).map(page).collect())
}

fn views(parts: &Parts, state: &State, wanted: Option<ServiceId>) -> Vec<pb::EndpointView> {
    let (now, views) = (Instant::now(), parts.health.views());
    let services = state.services.iter().filter(|(id, _)| wanted.is_none_or(|wanted| wanted == **id));
    let endpoints = services.flat_map(|(_, service)| service.probed().map(|(id, _)| id));
    let shown = |id| {
        let view = views.get(&id).copied();
        let reports = parts.health.opinions(id).into_iter();
        let report = |(node, said): (lockstep_model::ids::NodeId, _)| pb::NodeOpinion {
            node: node.get(),
            opinion: opinion(said).into(),
        };
        pb::EndpointView {
            endpoint: id.get(),
            here: view.map_or(pb::HealthOpinion::Unspecified, |view| opinion(view.opinion)).into(),
            probed_ns_ago: view.and_then(|view| Some(now.duration_since(view.last?).as_nanos() as u64)),
            failure: view.and_then(|view| view.failure.as_ref().map(Into::into)),
            reports: reports.map(report).collect(),
        }
    };
    endpoints.map(shown).collect()
}

fn opinion(opinion: Option<bool>) -> pb::HealthOpinion {
    match opinion {
        Some(true) => pb::HealthOpinion::Up,
        Some(false) => pb::HealthOpinion::Down,
        None => pb::HealthOpinion::Undecided,
    }
}
