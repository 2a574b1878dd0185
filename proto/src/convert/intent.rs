//! Settings, groups, nodes.

use lockstep_model::intent::{ClusterSettings, GroupSpec, NodeSpec};

use super::address::{address_to_bytes, addresses_from_bytes};
use super::enums::{enumeration, number};
use super::{ConvertError, Problem, required};
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
