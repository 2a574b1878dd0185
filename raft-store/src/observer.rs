//! Who wants to know what is in the log the moment it is there, committed or not.
//!
//! The lease voter refuses an epoch below the highest in its log, and an owner's quorum is the newest
//! membership in its log (DESIGN section 7): both before anything is committed.

use std::collections::BTreeSet;
use std::net::IpAddr;

use lockstep_model::command::{Change, Command};
use lockstep_model::ids::{Epoch, GroupId, NodeId};

use crate::types::{Entry, LogId, Payload, StoredMembership};

/// Part of the log that matters before it is committed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Observed {
    /// A group is to be owned by a node. It changes nothing if `replaces` is not the group's epoch when it is
    /// applied.
    Assignment {
        /// The group.
        group: GroupId,
        /// The epoch this replaces; 0 for the first, and for one that was read from a snapshot.
        replaces: Epoch,
        /// The index of the entry.
        epoch: Epoch,
        /// The owner.
        node: NodeId,
    },
    /// Addresses are to belong to groups, or groups are to go. What changes only when it is applied is not known yet.
    Edit {
        /// Addresses that objects of the change name, and the name of the group that has the object.
        gives: BTreeSet<(IpAddr, String)>,
        /// Names of groups that are deleted.
        deletes: BTreeSet<String>,
    },
    /// The voters from here on.
    Membership {
        /// Which entry says so.
        id: MembershipId,
        /// One set, or two while joint: a quorum needs a majority of each.
        voters: Vec<BTreeSet<NodeId>>,
    },
}

/// The log id of a membership: who wrote it and where. Ordered as Raft orders logs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct MembershipId {
    /// The term it was written in.
    pub term: u64,
    /// The leader that wrote it.
    pub node: u64,
    /// Its index.
    pub index: u64,
}

impl From<LogId> for MembershipId {
    fn from(id: LogId) -> Self {
        MembershipId { term: id.leader_id.term, node: id.leader_id.node_id, index: id.index }
    }
}

/// Told of every change of the log, in order, before the change is acknowledged to anyone. Called while the log is
/// locked: it must not block, nor call back.
pub trait LogObserver: Send + Sync + 'static {
    /// The entry at `index` is in the log. At a start, everything that the snapshot and the log hold is
    /// told again.
    fn appended(&self, index: u64, observed: &Observed);

    /// Entries above `after` are void; `None`: all.
    fn truncated(&self, after: Option<u64>);
}

/// For those who do not want to know.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoObserver;

impl LogObserver for NoObserver {
    fn appended(&self, _index: u64, _observed: &Observed) {}

    fn truncated(&self, _after: Option<u64>) {}
}

/// What of an entry matters before it is committed.
pub(crate) fn observed(entry: &Entry) -> Option<Observed> {
    match &entry.payload {
        Payload::Blank => None,
        Payload::Normal(proposal) => match &*proposal.0 {
            Command::Assign { group, replaces, node } => Some(Observed::Assignment {
                group: *group,
                replaces: *replaces,
                epoch: Epoch(entry.log_id.index),
                node: *node,
            }),
            Command::Change { changes, .. } => edit(changes),
            Command::RegisterNode { .. }
            | Command::SetReplicas { .. }
            | Command::AllocatePortBlocks { .. }
            | Command::ReleasePortBlocks { .. }
            | Command::Judge { .. }
            | Command::AdmitNode { .. }
            | Command::DrainNode { .. }
            | Command::RemoveNode { .. } => None,
        },
        Payload::Membership(m) => {
            Some(Observed::Membership { id: entry.log_id.into(), voters: voters(m.get_joint_config()) })
        }
    }
}

/// `None` if a change is about no group and no address.
fn edit(changes: &[Change]) -> Option<Observed> {
    let (mut gives, mut deletes) = (BTreeSet::new(), BTreeSet::new());
    for change in changes {
        let (group, addresses) = match change {
            Change::UpsertGroup(spec) => (&spec.name, spec.addresses.as_slice()),
            Change::UpsertService(spec) => (&spec.group, spec.vip.as_slice()),
            Change::UpsertSnatRule(spec) => (&spec.group, spec.action.addresses()),
            Change::DeleteGroup(name) => {
                deletes.insert(name.clone());
                continue;
            }
            Change::DeleteService(_) | Change::DeleteSnatRule(_) | Change::SetCluster(_) => continue,
        };
        gives.extend(addresses.iter().map(|address| (*address, group.clone())));
    }
    (!gives.is_empty() || !deletes.is_empty()).then_some(Observed::Edit { gives, deletes })
}

/// A stored membership, if there is one.
pub(crate) fn observed_membership(m: &StoredMembership) -> Option<Observed> {
    let id = (*m.log_id())?;
    Some(Observed::Membership { id: id.into(), voters: voters(m.get_joint_config()) })
}

fn voters(configs: &[BTreeSet<u64>]) -> Vec<BTreeSet<NodeId>> {
    configs.iter().map(|c| c.iter().copied().map(NodeId).collect()).collect()
}

#[cfg(test)]
mod tests {
    use lockstep_model::intent::GroupSpec;

    use super::*;

    #[test]
    fn a_change_names_the_groups_that_get_addresses_and_those_that_go() {
        let address: IpAddr = "192.0.2.1".parse().expect("an address");
        let spec = GroupSpec {
            name: "web".into(),
            addresses: vec![address],
            interfaces: Vec::new(),
            nodes: Vec::new(),
            standbys: 1,
            failback: false,
        };
        let (gives, deletes) = ([(address, "web".to_owned())].into(), ["old".to_owned()].into());
        assert_eq!(
            edit(&[Change::UpsertGroup(spec), Change::DeleteGroup("old".into())]),
            Some(Observed::Edit { gives, deletes })
        );
        assert_eq!(edit(&[Change::DeleteService("web".into())]), None, "takes from a group, gives to none");
    }
}
