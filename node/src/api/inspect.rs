//! `lockstep.inspect.v1`: what this node sees.

use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;

use futures::Stream;
use lockstep_loader::{FlowTable, WalkedFlow};
use lockstep_model::state::State;
use lockstep_proto::inspect::v1 as pb;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use super::{health, refuse, status};
use crate::counters;
use crate::parts::Parts;

/// Entries of a page of the flow table; a page is one message.
const PAGE: usize = 2048;
/// Pages read ahead of a slow reader.
const PAGES_AHEAD: usize = 4;

/// The service.
pub(crate) struct Inspect {
    parts: Arc<Parts>,
}

impl Inspect {
    pub(crate) fn new(parts: Arc<Parts>) -> Self {
        Self { parts }
    }
}

type HealthStream = Pin<Box<dyn Stream<Item = Result<pb::EndpointHealthResponse, Status>> + Send>>;
type FlowStream = Pin<Box<dyn Stream<Item = Result<pb::ListFlowsResponse, Status>> + Send>>;

#[tonic::async_trait]
impl pb::inspect_server::Inspect for Inspect {
    type ListFlowsStream = FlowStream;
    async fn list_flows(
        &self,
        request: Request<pb::ListFlowsRequest>,
    ) -> Result<Response<FlowStream>, Status> {
        let request = request.into_inner();
        let dataplane = self
            .parts
            .dataplane
            .as_ref()
            .ok_or_else(|| Status::failed_precondition("this node is a witness: it holds no flows"))?;
        let state = self.parts.raft.stale();
        let filter = Filter::new(request.filter.unwrap_or_default(), &state)?;
        let table = dataplane.flows.clone();
        let (send, receive) = tokio::sync::mpsc::channel(PAGES_AHEAD);
        tokio::task::spawn_blocking(move || {
            let limit = if request.limit == 0 { u64::MAX } else { request.limit };
            if let Err(status) = list(&table, &state, &filter, limit, &send) {
                // The reader may have gone; there is nobody else to tell.
                let _gone = send.blocking_send(Err(status));
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(receive))))
    }

    async fn counters(
        &self,
        _: Request<pb::CountersRequest>,
    ) -> Result<Response<pb::CountersResponse>, Status> {
        let counters = counters::read(&self.parts)
            .into_iter()
            .map(|c| pb::Counter {
                family: c.family.to_owned(),
                name: c.name,
                value: c.value,
                help: counters::help(c.family).to_owned(),
            })
            .collect();
        Ok(Response::new(pb::CountersResponse { counters }))
    }

    async fn group_status(
        &self,
        request: Request<pb::GroupStatusRequest>,
    ) -> Result<Response<pb::GroupStatusResponse>, Status> {
        let name = request.into_inner().name;
        let state = self.parts.raft.stale();
        if !name.is_empty() && state.group(&name).is_none() {
            return Err(refuse::absent("group", &name));
        }
        let wanted = state.groups.iter().filter(|(_, g)| name.is_empty() || g.spec.name == name);
        let groups = wanted.map(|(id, group)| status::group(&self.parts, &state, *id, group)).collect();
        Ok(Response::new(pb::GroupStatusResponse { groups }))
    }

    async fn raft_state(
        &self,
        _: Request<pb::RaftStateRequest>,
    ) -> Result<Response<pb::RaftStateResponse>, Status> {
        Ok(Response::new(status::raft(&self.parts)))
    }

    async fn node_status(
        &self,
        _: Request<pb::NodeStatusRequest>,
    ) -> Result<Response<pb::NodeStatusResponse>, Status> {
        let parts = self.parts.clone();
        let status = tokio::task::spawn_blocking(move || status::node(&parts));
        Ok(Response::new(status.await.map_err(|e| Status::internal(e.to_string()))?))
    }

    async fn sync_status(
        &self,
        _: Request<pb::SyncStatusRequest>,
    ) -> Result<Response<pb::SyncStatusResponse>, Status> {
        Ok(Response::new(status::sync(&self.parts)))
    }

    async fn failovers(
        &self,
        _: Request<pb::FailoversRequest>,
    ) -> Result<Response<pb::FailoversResponse>, Status> {
        Ok(Response::new(status::failovers(&self.parts)))
    }

    type EndpointHealthStream = HealthStream;
    async fn endpoint_health(
        &self,
        request: Request<pb::EndpointHealthRequest>,
    ) -> Result<Response<HealthStream>, Status> {
        let pages = health::endpoints(&self.parts, &request.into_inner().service)?;
        Ok(Response::new(Box::pin(futures::stream::iter(pages))))
    }
}

/// A [`pb::FlowFilter`] with names resolved and addresses parsed.
struct Filter {
    group: Option<lockstep_model::ids::GroupId>,
    service: Option<lockstep_model::ids::ServiceId>,
    client: (Option<IpAddr>, Option<u16>),
    endpoint: (Option<IpAddr>, Option<u16>),
    protocol: Option<lockstep_model::protocol::Protocol>,
}

impl Filter {
    fn new(filter: pb::FlowFilter, state: &State) -> Result<Self, Status> {
        use lockstep_proto::types::v1::Protocol as Wire;
        let protocol = match filter.protocol() {
            Wire::Unspecified => None,
            named => Some(named.try_into()?),
        };
        let group = match filter.group {
            Some(name) => Some(state.group(&name).ok_or_else(|| refuse::absent("group", &name))?.0),
            None => None,
        };
        let service = match filter.service {
            Some(name) => {
                // Flows name the rule that made them as others name their service.
                let service = state.service(&name).map(|(id, _)| id);
                let maker = service.or_else(|| state.snat_rule(&name).map(|(id, _)| id));
                Some(maker.ok_or_else(|| refuse::absent("service", &name))?)
            }
            None => None,
        };
        Ok(Self {
            group,
            service,
            client: (
                address("filter.client", filter.client)?,
                port("filter.client_port", filter.client_port)?,
            ),
            endpoint: (
                address("filter.endpoint", filter.endpoint)?,
                port("filter.endpoint_port", filter.endpoint_port)?,
            ),
            protocol,
        })
    }

    fn matches(&self, flow: &WalkedFlow) -> bool {
        let record = &flow.record;
        let end = |wanted: (Option<IpAddr>, Option<u16>), is: SocketAddr| {
            wanted.0.is_none_or(|ip| ip == is.ip()) && wanted.1.is_none_or(|port| port == is.port())
        };
        self.group.is_none_or(|group| group == record.group)
            && self.service.is_none_or(|service| service == record.service)
            && self.protocol.is_none_or(|protocol| protocol == record.key.protocol)
            && end(self.client, record.key.client)
            && end(self.endpoint, record.endpoint_address)
    }
}

fn address(field: &str, bytes: Option<Vec<u8>>) -> Result<Option<IpAddr>, Status> {
    let Some(bytes) = bytes else { return Ok(None) };
    if let Ok(v4) = <[u8; 4]>::try_from(bytes.as_slice()) {
        return Ok(Some(IpAddr::from(v4)));
    }
    let v6 = <[u8; 16]>::try_from(bytes.as_slice());
    v6.map(|v6| Some(IpAddr::from(v6)))
        .map_err(|_| Status::invalid_argument(format!("{field}: {} bytes: allowed 4 or 16", bytes.len())))
}

fn port(field: &str, port: Option<u32>) -> Result<Option<u16>, Status> {
    let Some(port) = port else { return Ok(None) };
    u16::try_from(port)
        .map(Some)
        .map_err(|_| Status::invalid_argument(format!("{field}: {port}: allowed 0-65535")))
}

type Pages = tokio::sync::mpsc::Sender<Result<pb::ListFlowsResponse, Status>>;

fn list(table: &FlowTable, state: &State, filter: &Filter, limit: u64, send: &Pages) -> Result<(), Status> {
    let mut left = limit;
    let mut cursor = None;
    loop {
        let page = table
            .walk(cursor, PAGE)
            .map_err(|e| Status::unavailable(format!("the kernel's flow table cannot be read: {e}")))?;
        let wanted = page.flows.iter().filter(|flow| filter.matches(flow)).take(left as usize);
        let flows: Vec<_> = wanted.map(|flow| shown(flow, state)).collect();
        left -= flows.len() as u64;
        if !flows.is_empty() && send.blocking_send(Ok(pb::ListFlowsResponse { flows })).is_err() {
            return Ok(()); // the reader has gone
        }
        cursor = match page.next {
            Some(next) if left > 0 => Some(next),
            _ => return Ok(()),
        };
    }
}

fn shown(flow: &WalkedFlow, state: &State) -> pb::Flow {
    let record = &flow.record;
    let service = state.services.get(&record.service).map(|s| &s.spec.name);
    let maker = service.or_else(|| state.snat_rules.get(&record.service).map(|r| &r.spec.name));
    pb::Flow {
        record: Some(record.into()),
        epoch: flow.epoch.get(),
        group: state.groups.get(&record.group).map(|g| g.spec.name.clone()).unwrap_or_default(),
        service: maker.cloned().unwrap_or_default(),
        idle_ns: None,
    }
}
