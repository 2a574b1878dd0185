//! Commands of the Raft log.

use std::collections::BTreeSet;

use lockstep_model::command::{Change, Command};
use lockstep_model::ids::{Epoch, GroupId, NodeId, Revision};

use super::address::{address_from_bytes, address_to_bytes};
use super::{ConvertError, Problem, each, installation, required};
use crate::types::v1 as pb;
use crate::types::v1::change::Change as WireChange;
use crate::types::v1::command::Command as WireCommand;

impl From<&Command> for pb::Command {
    fn from(model: &Command) -> Self {
        let command = match model {
            Command::Change { expected, changes } => WireCommand::Change(pb::ChangeIntent {
                expected_revision: expected.map(Revision::get),
                changes: changes.iter().map(Into::into).collect(),
            }),
            Command::RegisterNode { id, spec } => {
                WireCommand::RegisterNode(pb::RegisterNode { id: id.get(), spec: Some(spec.into()) })
            }
            Command::Assign { group, replaces, node } => WireCommand::Assign(pb::Assign {
                group: group.get(),
                replaces: replaces.get(),
                node: node.get(),
            }),
            Command::SetReplicas { group, epoch, replaces, nodes } => {
                let numbers = |nodes: &BTreeSet<NodeId>| nodes.iter().map(|node| node.get()).collect();
                WireCommand::SetReplicas(pb::SetReplicas {
                    group: group.get(),
                    epoch: epoch.get(),
                    replaces: numbers(replaces),
                    nodes: numbers(nodes),
                })
            }
            Command::AllocatePortBlocks { address, count } => {
                let (address, count) = (address_to_bytes(*address), (*count).into());
                WireCommand::AllocatePortBlocks(pb::AllocatePortBlocks { address, count })
            }
            Command::ReleasePortBlocks { address, blocks } => {
                let (address, blocks) = (address_to_bytes(*address), *blocks);
                WireCommand::ReleasePortBlocks(pb::ReleasePortBlocks { address, blocks })
            }
            Command::Judge { at_unix_ms, judgements } => WireCommand::Judge(pb::Judge {
                at_unix_ms: *at_unix_ms,
                judgements: judgements.iter().map(Into::into).collect(),
            }),
            Command::AdmitNode { installation, spec } => WireCommand::AdmitNode(pb::AdmitNode {
                installation: installation.0.to_vec(),
                spec: Some(spec.into()),
            }),
            Command::DrainNode { id, draining } => {
                WireCommand::DrainNode(pb::DrainNode { id: id.get(), draining: *draining })
            }
            Command::RemoveNode { id } => WireCommand::RemoveNode(pb::RemoveNode { id: id.get() }),
        };
        pb::Command { command: Some(command) }
    }
}

impl TryFrom<pb::Command> for Command {
    type Error = ConvertError;

    fn try_from(wire: pb::Command) -> Result<Self, ConvertError> {
        match wire.command {
            None => Err(ConvertError::new("command", Problem::Missing)),
            Some(WireCommand::Change(change)) => Ok(Command::Change {
                expected: change.expected_revision.map(Revision),
                changes: each("change.changes", change.changes)?,
            }),
            Some(WireCommand::RegisterNode(node)) => Ok(Command::RegisterNode {
                id: NodeId(node.id),
                spec: required("register_node.spec", node.spec)?,
            }),
            Some(WireCommand::Assign(assign)) => Ok(Command::Assign {
                group: GroupId(assign.group),
                replaces: Epoch(assign.replaces),
                node: NodeId(assign.node),
            }),
            Some(WireCommand::SetReplicas(set)) => {
                let nodes = |numbers: Vec<u64>| numbers.into_iter().map(NodeId).collect();
                Ok(Command::SetReplicas {
                    group: GroupId(set.group),
                    epoch: Epoch(set.epoch),
                    replaces: nodes(set.replaces),
                    nodes: nodes(set.nodes),
                })
            }
            Some(WireCommand::AllocatePortBlocks(allocate)) => Ok(Command::AllocatePortBlocks {
                address: address_from_bytes("allocate_port_blocks.address", &allocate.address)?,
                count: u8::try_from(allocate.count).map_err(|_| {
                    let problem = Problem::OutOfRange { value: allocate.count.into(), allowed: "1-63" };
                    ConvertError::new("allocate_port_blocks.count", problem)
                })?,
            }),
            Some(WireCommand::ReleasePortBlocks(release)) => Ok(Command::ReleasePortBlocks {
                address: address_from_bytes("release_port_blocks.address", &release.address)?,
                blocks: release.blocks,
            }),
            Some(WireCommand::Judge(judge)) => Ok(Command::Judge {
                at_unix_ms: judge.at_unix_ms,
                judgements: each("judge.judgements", judge.judgements)?,
            }),
            Some(WireCommand::AdmitNode(admit)) => Ok(Command::AdmitNode {
                installation: installation("admit_node.installation", &admit.installation)?,
                spec: required("admit_node.spec", admit.spec)?,
            }),
            Some(WireCommand::DrainNode(drain)) => {
                Ok(Command::DrainNode { id: NodeId(drain.id), draining: drain.draining })
            }
            Some(WireCommand::RemoveNode(remove)) => Ok(Command::RemoveNode { id: NodeId(remove.id) }),
        }
    }
}

impl From<&Change> for pb::Change {
    fn from(model: &Change) -> Self {
        let change = match model {
            Change::UpsertGroup(spec) => WireChange::UpsertGroup(spec.into()),
            Change::DeleteGroup(name) => WireChange::DeleteGroup(name.clone()),
            Change::UpsertService(spec) => WireChange::UpsertService(spec.into()),
            Change::DeleteService(name) => WireChange::DeleteService(name.clone()),
            Change::UpsertSnatRule(spec) => WireChange::UpsertSnatRule(spec.into()),
            Change::DeleteSnatRule(name) => WireChange::DeleteSnatRule(name.clone()),
            Change::SetCluster(settings) => WireChange::SetCluster(settings.into()),
        };
        pb::Change { change: Some(change) }
    }
}

impl TryFrom<pb::Change> for Change {
    type Error = ConvertError;

    fn try_from(wire: pb::Change) -> Result<Self, ConvertError> {
        match wire.change {
            None => Err(ConvertError::new("change", Problem::Missing)),
            Some(WireChange::UpsertGroup(spec)) => Ok(Change::UpsertGroup(inside("upsert_group", spec)?)),
            Some(WireChange::DeleteGroup(name)) => Ok(Change::DeleteGroup(name)),
            Some(WireChange::UpsertService(spec)) => {
                Ok(Change::UpsertService(inside("upsert_service", spec)?))
            }
            Some(WireChange::DeleteService(name)) => Ok(Change::DeleteService(name)),
            Some(WireChange::UpsertSnatRule(spec)) => {
                Ok(Change::UpsertSnatRule(inside("upsert_snat_rule", spec)?))
            }
            Some(WireChange::DeleteSnatRule(name)) => Ok(Change::DeleteSnatRule(name)),
            Some(WireChange::SetCluster(settings)) => {
                Ok(Change::SetCluster(inside("set_cluster", settings)?))
            }
        }
    }
}

fn inside<M, W>(field: &'static str, wire: W) -> Result<M, ConvertError>
where
    M: TryFrom<W, Error = ConvertError>,
{
    M::try_from(wire).map_err(|e| e.within(field))
}
