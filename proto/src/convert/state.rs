//! The replicated state. Objects travel with their id, as pairs.

use std::collections::BTreeMap;
use std::net::IpAddr;

use lockstep_model::ids::{
    EndpointId, Epoch, GroupId, InstallationId, LogIndex, NodeId, Revision, ServiceId,
};
use lockstep_model::intent::{NodeSpec, ServiceSpec};
use lockstep_model::limits::PORT_BLOCKS;
use lockstep_model::state::{Assignment, Group, Released, Service, SnatRule, State};

use super::address::{address_from_bytes, address_to_bytes};
use super::{ConvertError, Problem, each, installation, required};
use crate::types::v1 as pb;

impl From<&State> for pb::State {
    fn from(model: &State) -> Self {
        pb::State {
            revision: model.revision.get(),
            settings: Some((&model.settings).into()),
            nodes: model.nodes.iter().map(|(id, node)| (*id, node).into()).collect(),
            groups: model.groups.iter().map(|(id, group)| (*id, group).into()).collect(),
            services: model.services.iter().map(|(id, service)| (*id, service).into()).collect(),
            released: model.released.iter().map(|(address, released)| (*address, released).into()).collect(),
            snat_rules: model.snat_rules.iter().map(|(id, rule)| (*id, rule).into()).collect(),
            port_blocks: model
                .port_blocks
                .iter()
                .map(|(address, blocks)| (*address, *blocks).into())
                .collect(),
            last_node: model.last_node.get(),
            draining: model.draining.iter().map(|node| node.get()).collect(),
            installations: model.installations.iter().map(|(node, id)| (*node, *id).into()).collect(),
        }
    }
}

impl TryFrom<pb::State> for State {
    type Error = ConvertError;

    fn try_from(wire: pb::State) -> Result<Self, ConvertError> {
        Ok(State {
            revision: Revision(wire.revision),
            settings: required("settings", wire.settings)?,
            nodes: unique("nodes", each("nodes", wire.nodes)?)?,
            groups: unique("groups", each("groups", wire.groups)?)?,
            services: unique("services", each("services", wire.services)?)?,
            released: unique("released", each("released", wire.released)?)?,
            snat_rules: unique("snat_rules", each("snat_rules", wire.snat_rules)?)?,
            port_blocks: unique("port_blocks", each("port_blocks", wire.port_blocks)?)?,
            last_node: NodeId(wire.last_node),
            draining: wire.draining.into_iter().map(NodeId).collect(),
            installations: unique("installations", each("installations", wire.installations)?)?,
        })
    }
}

fn unique<K, V>(field: &'static str, pairs: Vec<(K, V)>) -> Result<BTreeMap<K, V>, ConvertError>
where
    K: Ord + Copy + std::fmt::Display,
{
    let mut map = BTreeMap::new();
    for (key, value) in pairs {
        if map.insert(key, value).is_some() {
            return Err(ConvertError::new(field, Problem::Duplicate(key.to_string())));
        }
    }
    Ok(map)
}

impl From<(NodeId, &NodeSpec)> for pb::Node {
    fn from((id, spec): (NodeId, &NodeSpec)) -> Self {
        pb::Node { id: id.get(), spec: Some(spec.into()) }
    }
}

impl TryFrom<pb::Node> for (NodeId, NodeSpec) {
    type Error = ConvertError;

    fn try_from(wire: pb::Node) -> Result<Self, ConvertError> {
        Ok((NodeId(wire.id), required("spec", wire.spec)?))
    }
}

impl From<(GroupId, &Group)> for pb::Group {
    fn from((id, group): (GroupId, &Group)) -> Self {
        pb::Group {
            id: id.get(),
            spec: Some((&group.spec).into()),
            assignment: group.assignment.as_ref().map(Into::into),
            replicas: group.replicas.iter().map(|(node, since)| (*node, *since).into()).collect(),
            revision: group.revision.get(),
        }
    }
}

impl From<(NodeId, LogIndex)> for pb::Replica {
    fn from((node, since): (NodeId, LogIndex)) -> Self {
        pb::Replica { node: node.get(), since: since.get() }
    }
}

impl From<pb::Replica> for (NodeId, LogIndex) {
    fn from(wire: pb::Replica) -> Self {
        (NodeId(wire.node), LogIndex(wire.since))
    }
}

impl TryFrom<pb::Group> for (GroupId, Group) {
    type Error = ConvertError;

    fn try_from(wire: pb::Group) -> Result<Self, ConvertError> {
        let group = Group {
            spec: required("spec", wire.spec)?,
            assignment: wire.assignment.map(Into::into),
            replicas: unique("replicas", wire.replicas.into_iter().map(Into::into).collect())?,
            revision: Revision(wire.revision),
        };
        Ok((GroupId(wire.id), group))
    }
}

impl From<&Assignment> for pb::Assignment {
    fn from(model: &Assignment) -> Self {
        pb::Assignment { epoch: model.epoch.get(), node: model.node.get() }
    }
}

impl From<pb::Assignment> for Assignment {
    fn from(wire: pb::Assignment) -> Self {
        Assignment { epoch: Epoch(wire.epoch), node: NodeId(wire.node) }
    }
}

impl From<(ServiceId, &Service)> for pb::Service {
    fn from((id, service): (ServiceId, &Service)) -> Self {
        pb::Service {
            id: id.get(),
            spec: Some((&service.spec).into()),
            endpoint_ids: service.endpoint_ids.iter().map(|e| e.get()).collect(),
            group: service.group.get(),
            revision: service.revision.get(),
            verdicts: service.verdicts.iter().map(|(id, verdict)| (*id, verdict).into()).collect(),
        }
    }
}

impl TryFrom<pb::Service> for (ServiceId, Service) {
    type Error = ConvertError;

    fn try_from(wire: pb::Service) -> Result<Self, ConvertError> {
        let spec: ServiceSpec = required("spec", wire.spec)?;
        if wire.endpoint_ids.len() != spec.endpoints.len() {
            let problem = Problem::Length { got: wire.endpoint_ids.len(), expected: spec.endpoints.len() };
            return Err(ConvertError::new("endpoint_ids", problem));
        }
        let service = Service {
            spec,
            endpoint_ids: wire.endpoint_ids.into_iter().map(EndpointId).collect(),
            group: GroupId(wire.group),
            revision: Revision(wire.revision),
            verdicts: unique("verdicts", each("verdicts", wire.verdicts)?)?,
        };
        Ok((ServiceId(wire.id), service))
    }
}

impl From<(IpAddr, &Released)> for pb::Released {
    fn from((address, released): (IpAddr, &Released)) -> Self {
        pb::Released {
            address: address_to_bytes(address),
            by: released.by.get(),
            index: released.index.get(),
        }
    }
}

impl TryFrom<pb::Released> for (IpAddr, Released) {
    type Error = ConvertError;

    fn try_from(wire: pb::Released) -> Result<Self, ConvertError> {
        let released = Released { by: GroupId(wire.by), index: LogIndex(wire.index) };
        Ok((address_from_bytes("address", &wire.address)?, released))
    }
}

impl From<(ServiceId, &SnatRule)> for pb::SnatRule {
    fn from((id, rule): (ServiceId, &SnatRule)) -> Self {
        pb::SnatRule {
            id: id.get(),
            spec: Some((&rule.spec).into()),
            group: rule.group.get(),
            revision: rule.revision.get(),
        }
    }
}

impl TryFrom<pb::SnatRule> for (ServiceId, SnatRule) {
    type Error = ConvertError;

    fn try_from(wire: pb::SnatRule) -> Result<Self, ConvertError> {
        let rule = SnatRule {
            spec: required("spec", wire.spec)?,
            group: GroupId(wire.group),
            revision: Revision(wire.revision),
        };
        Ok((ServiceId(wire.id), rule))
    }
}

impl From<(IpAddr, u64)> for pb::PortBlocks {
    fn from((address, blocks): (IpAddr, u64)) -> Self {
        pb::PortBlocks { address: address_to_bytes(address), blocks }
    }
}

impl TryFrom<pb::PortBlocks> for (IpAddr, u64) {
    type Error = ConvertError;

    fn try_from(wire: pb::PortBlocks) -> Result<Self, ConvertError> {
        if wire.blocks & PORT_BLOCKS != wire.blocks || wire.blocks == 0 {
            let problem = Problem::OutOfRange { value: wire.blocks, allowed: "a bitmap of blocks 1-63" };
            return Err(ConvertError::new("blocks", problem));
        }
        Ok((address_from_bytes("address", &wire.address)?, wire.blocks))
    }
}

impl From<(NodeId, InstallationId)> for pb::Installation {
    fn from((node, id): (NodeId, InstallationId)) -> Self {
        pb::Installation { node: node.get(), id: id.0.to_vec() }
    }
}

impl TryFrom<pb::Installation> for (NodeId, InstallationId) {
    type Error = ConvertError;

    fn try_from(wire: pb::Installation) -> Result<Self, ConvertError> {
        Ok((NodeId(wire.node), installation("id", &wire.id)?))
    }
}
