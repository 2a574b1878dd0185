//! Settings, groups, services, endpoints, nodes.

use std::num::NonZeroU16;

use lockstep_model::intent::{ClusterSettings, EndpointSpec, GroupSpec, NodeSpec, ServiceSpec};
use lockstep_model::limits::MAX_WEIGHT;

use super::address::{address_to_bytes, addresses_from_bytes};
use super::enums::{enumeration, number};
use super::{ConvertError, Problem, each, required};
use crate::types::v1 as pb;

impl From<&ClusterSettings> for pb::ClusterSettings {
    fn from(model: &ClusterSettings) -> Self {
        pb::ClusterSettings {
            lease: number::<_, pb::LeaseProfile>(model.lease),
            on_quorum_loss: number::<_, pb::OnQuorumLoss>(model.on_quorum_loss),
        }
    }
}

impl TryFrom<pb::ClusterSettings> for ClusterSettings {
    type Error = ConvertError;

    fn try_from(wire: pb::ClusterSettings) -> Result<Self, ConvertError> {
        Ok(ClusterSettings {
            lease: enumeration::<pb::LeaseProfile, _>("lease", wire.lease)?,
            on_quorum_loss: enumeration::<pb::OnQuorumLoss, _>("on_quorum_loss", wire.on_quorum_loss)?,
        })
    }
}

impl From<&GroupSpec> for pb::GroupSpec {
    fn from(model: &GroupSpec) -> Self {
        pb::GroupSpec {
            name: model.name.clone(),
            addresses: model.addresses.iter().copied().map(address_to_bytes).collect(),
            interfaces: model.interfaces.clone(),
            nodes: model.nodes.clone(),
            standbys: model.standbys.into(),
            failback: model.failback,
        }
    }
}

impl TryFrom<pb::GroupSpec> for GroupSpec {
    type Error = ConvertError;

    fn try_from(wire: pb::GroupSpec) -> Result<Self, ConvertError> {
        let standbys = u8::try_from(wire.standbys).map_err(|_| {
            let problem = Problem::OutOfRange { value: wire.standbys.into(), allowed: "0-255" };
            ConvertError::new("standbys", problem)
        })?;
        Ok(GroupSpec {
            addresses: addresses_from_bytes("addresses", &wire.addresses)?,
            name: wire.name,
            interfaces: wire.interfaces,
            nodes: wire.nodes,
            standbys,
            failback: wire.failback,
        })
    }
}

impl From<&EndpointSpec> for pb::EndpointSpec {
    fn from(model: &EndpointSpec) -> Self {
        pb::EndpointSpec {
            address: Some(model.address.into()),
            weight: model.weight.into(),
            state: number::<_, pb::EndpointState>(model.state),
        }
    }
}

impl TryFrom<pb::EndpointSpec> for EndpointSpec {
    type Error = ConvertError;

    fn try_from(wire: pb::EndpointSpec) -> Result<Self, ConvertError> {
        let weight = u16::try_from(wire.weight).ok().filter(|w| *w <= MAX_WEIGHT).ok_or_else(|| {
            let problem = Problem::OutOfRange { value: wire.weight.into(), allowed: "0-1000" };
            ConvertError::new("weight", problem)
        })?;
        Ok(EndpointSpec {
            address: required("address", wire.address)?,
            weight,
            state: enumeration::<pb::EndpointState, _>("state", wire.state)?,
        })
    }
}

impl From<&ServiceSpec> for pb::ServiceSpec {
    fn from(model: &ServiceSpec) -> Self {
        pb::ServiceSpec {
            name: model.name.clone(),
            group: model.group.clone(),
            vip: model.vip.iter().copied().map(address_to_bytes).collect(),
            port: model.port.get().into(),
            protocol: model.protocol.iter().map(|p| number::<_, pb::Protocol>(*p)).collect(),
            algorithm: number::<_, pb::Algorithm>(model.algorithm),
            sync: number::<_, pb::SyncPolicy>(model.sync),
            endpoints: model.endpoints.iter().map(Into::into).collect(),
        }
    }
}

impl TryFrom<pb::ServiceSpec> for ServiceSpec {
    type Error = ConvertError;

    fn try_from(wire: pb::ServiceSpec) -> Result<Self, ConvertError> {
        let port = u16::try_from(wire.port).ok().and_then(NonZeroU16::new).ok_or_else(|| {
            ConvertError::new("port", Problem::OutOfRange { value: wire.port.into(), allowed: "1-65535" })
        })?;
        let protocol = |(i, p): (usize, &i32)| enumeration::<pb::Protocol, _>(&format!("protocol[{i}]"), *p);
        Ok(ServiceSpec {
            name: wire.name,
            group: wire.group,
            vip: addresses_from_bytes("vip", &wire.vip)?,
            port,
            protocol: wire.protocol.iter().enumerate().map(protocol).collect::<Result<_, _>>()?,
            algorithm: enumeration::<pb::Algorithm, _>("algorithm", wire.algorithm)?,
            sync: enumeration::<pb::SyncPolicy, _>("sync", wire.sync)?,
            endpoints: each("endpoints", wire.endpoints)?,
        })
    }
}

impl From<&NodeSpec> for pb::NodeSpec {
    fn from(model: &NodeSpec) -> Self {
        pb::NodeSpec {
            name: model.name.clone(),
            role: number::<_, pb::NodeRole>(model.role),
            cluster_address: Some(model.cluster_address.into()),
            lease_address: Some(model.lease_address.into()),
        }
    }
}

impl TryFrom<pb::NodeSpec> for NodeSpec {
    type Error = ConvertError;

    fn try_from(wire: pb::NodeSpec) -> Result<Self, ConvertError> {
        Ok(NodeSpec {
            name: wire.name,
            role: enumeration::<pb::NodeRole, _>("role", wire.role)?,
            cluster_address: required("cluster_address", wire.cluster_address)?,
            lease_address: required("lease_address", wire.lease_address)?,
        })
    }
}
