//! Flows, as the inspection API shows them. Between nodes they travel packed: see `lockstep-sync-transport`.

use std::net::SocketAddr;
use std::time::Duration;

use lockstep_model::flow::{FlowKey, FlowKind, FlowRecord, FlowVersion};
use lockstep_model::ids::{EndpointId, GroupId, ServiceId};

use super::enums::{enumeration, enumeration_or, number};
use super::{ConvertError, required};
use crate::types::v1 as pb;

impl From<&FlowKey> for pb::FlowKey {
    fn from(model: &FlowKey) -> Self {
        pb::FlowKey {
            client: Some(model.client.into()),
            service: Some(model.service.into()),
            protocol: number::<_, pb::Protocol>(model.protocol),
        }
    }
}

impl TryFrom<pb::FlowKey> for FlowKey {
    type Error = ConvertError;

    fn try_from(wire: pb::FlowKey) -> Result<Self, ConvertError> {
        Ok(FlowKey {
            client: required("client", wire.client)?,
            service: required("service", wire.service)?,
            protocol: enumeration::<pb::Protocol, _>("protocol", wire.protocol)?,
        })
    }
}

impl From<&FlowVersion> for pb::FlowVersion {
    fn from(model: &FlowVersion) -> Self {
        pb::FlowVersion { birth: model.birth, n: model.n }
    }
}

impl TryFrom<pb::FlowVersion> for FlowVersion {
    type Error = ConvertError;

    fn try_from(wire: pb::FlowVersion) -> Result<Self, ConvertError> {
        Ok(FlowVersion { birth: wire.birth, n: wire.n })
    }
}

impl From<&FlowRecord> for pb::FlowRecord {
    fn from(model: &FlowRecord) -> Self {
        pb::FlowRecord {
            key: Some((&model.key).into()),
            group: model.group.get(),
            service: model.service.get(),
            endpoint: model.endpoint.get(),
            endpoint_address: Some(model.endpoint_address.into()),
            source: model.source.map(Into::into),
            kind: number::<_, pb::FlowKind>(model.kind),
            version: Some((&model.version).into()),
            state: number::<_, pb::FlowState>(model.state),
            state_bits: model.state_bits,
            // Saturates after 584 years.
            remaining_ns: u64::try_from(model.remaining.as_nanos()).unwrap_or(u64::MAX),
        }
    }
}

impl TryFrom<pb::FlowRecord> for FlowRecord {
    type Error = ConvertError;

    fn try_from(wire: pb::FlowRecord) -> Result<Self, ConvertError> {
        Ok(FlowRecord {
            key: required("key", wire.key)?,
            group: GroupId(wire.group),
            service: ServiceId(wire.service),
            endpoint: EndpointId(wire.endpoint),
            endpoint_address: required("endpoint_address", wire.endpoint_address)?,
            source: wire
                .source
                .map(|s| SocketAddr::try_from(s).map_err(|e| e.within("source")))
                .transpose()?,
            kind: enumeration_or::<pb::FlowKind, _>("kind", wire.kind, FlowKind::default())?,
            version: required("version", wire.version)?,
            state: enumeration::<pb::FlowState, _>("state", wire.state)?,
            state_bits: wire.state_bits,
            remaining: Duration::from_nanos(wire.remaining_ns),
        })
    }
}
