//! Between Raft's types and their protobuf messages.

pub(crate) mod messages;

use std::collections::{BTreeMap, BTreeSet};

use lockstep_model::command::Command;
use lockstep_proto::convert::{ConvertError, Problem, required};
use lockstep_proto::raft::v1 as pb;

use crate::types::{
    Entry, LeaderId, LogId, Membership, Payload, Peer, Proposal, SnapshotMeta, StoredMembership, Vote,
};

fn missing(field: &str) -> ConvertError {
    ConvertError::new(field, Problem::Missing)
}

fn leader_id(id: &LeaderId) -> pb::LeaderId {
    pb::LeaderId { term: id.term, node_id: id.node_id }
}

fn leader_id_from(id: Option<pb::LeaderId>) -> Result<LeaderId, ConvertError> {
    let id = id.ok_or_else(|| missing("leader_id"))?;
    Ok(LeaderId { term: id.term, node_id: id.node_id })
}

pub(crate) fn vote(vote: &Vote) -> pb::VoteState {
    pb::VoteState { leader_id: Some(leader_id(&vote.leader_id)), committed: vote.committed }
}

pub(crate) fn vote_from(vote: pb::VoteState) -> Result<Vote, ConvertError> {
    Ok(Vote { leader_id: leader_id_from(vote.leader_id)?, committed: vote.committed })
}

pub(crate) fn required_vote(field: &str, value: Option<pb::VoteState>) -> Result<Vote, ConvertError> {
    vote_from(value.ok_or_else(|| missing(field))?).map_err(|e| e.within(field))
}

pub(crate) fn log_id(id: &LogId) -> pb::LogId {
    pb::LogId { leader_id: Some(leader_id(&id.leader_id)), index: id.index }
}

pub(crate) fn log_id_from(id: pb::LogId) -> Result<LogId, ConvertError> {
    Ok(LogId { leader_id: leader_id_from(id.leader_id)?, index: id.index })
}

pub(crate) fn optional_log_id(field: &str, id: Option<pb::LogId>) -> Result<Option<LogId>, ConvertError> {
    id.map(log_id_from).transpose().map_err(|e| e.within(field))
}

pub(crate) fn required_log_id(field: &str, id: Option<pb::LogId>) -> Result<LogId, ConvertError> {
    optional_log_id(field, id)?.ok_or_else(|| missing(field))
}

pub(crate) fn membership(m: &Membership) -> pb::Membership {
    let configs =
        m.get_joint_config().iter().map(|c| pb::NodeSet { ids: c.iter().copied().collect() }).collect();
    let nodes = m
        .nodes()
        .map(|(id, peer)| pb::Member { id: *id, cluster_address: Some(peer.address.into()) })
        .collect();
    pb::Membership { configs, nodes }
}

pub(crate) fn membership_from(m: pb::Membership) -> Result<Membership, ConvertError> {
    let mut nodes = BTreeMap::new();
    for member in m.nodes {
        let address = required("cluster_address", member.cluster_address)?;
        nodes.insert(member.id, Peer { address });
    }
    let configs: Vec<BTreeSet<u64>> = m.configs.into_iter().map(|c| c.ids.into_iter().collect()).collect();
    if configs.is_empty() && nodes.is_empty() {
        return Ok(Membership::default());
    }
    Membership::new(configs, nodes).map_err(|e| ConvertError::new(e.to_string(), Problem::Missing))
}

fn stored_membership(m: &StoredMembership) -> pb::StoredMembership {
    pb::StoredMembership {
        log_id: m.log_id().as_ref().map(log_id),
        membership: Some(membership(m.membership())),
    }
}

fn stored_membership_from(m: pb::StoredMembership) -> Result<StoredMembership, ConvertError> {
    let log_id = optional_log_id("log_id", m.log_id)?;
    Ok(StoredMembership::new(log_id, membership_from(m.membership.unwrap_or_default())?))
}

pub(crate) fn entry(entry: &Entry) -> pb::Entry {
    let payload = match &entry.payload {
        Payload::Blank => pb::entry::Payload::Blank(pb::Blank {}),
        Payload::Normal(proposal) => pb::entry::Payload::Command((&*proposal.0).into()),
        Payload::Membership(m) => pb::entry::Payload::Membership(membership(m)),
    };
    pb::Entry { log_id: Some(log_id(&entry.log_id)), payload: Some(payload) }
}

pub(crate) fn entry_from(entry: pb::Entry) -> Result<Entry, ConvertError> {
    let payload = match entry.payload.ok_or_else(|| missing("payload"))? {
        pb::entry::Payload::Blank(_) => Payload::Blank,
        pb::entry::Payload::Command(c) => Payload::Normal(Proposal::from(Command::try_from(c)?)),
        pb::entry::Payload::Membership(m) => Payload::Membership(membership_from(m)?),
    };
    Ok(Entry { log_id: required_log_id("log_id", entry.log_id)?, payload })
}

pub(crate) fn snapshot_meta(meta: &SnapshotMeta) -> pb::SnapshotMeta {
    pb::SnapshotMeta {
        last_log_id: meta.last_log_id.as_ref().map(log_id),
        last_membership: Some(stored_membership(&meta.last_membership)),
    }
}

pub(crate) fn snapshot_meta_from(meta: Option<pb::SnapshotMeta>) -> Result<SnapshotMeta, ConvertError> {
    let meta = meta.ok_or_else(|| missing("meta"))?;
    Ok(SnapshotMeta {
        last_log_id: optional_log_id("last_log_id", meta.last_log_id)?,
        last_membership: stored_membership_from(meta.last_membership.unwrap_or_default())?,
    })
}

#[cfg(test)]
mod tests {
    use lockstep_model::ids::{Epoch, GroupId, NodeId};
    use proptest::prelude::*;

    use super::*;

    fn log_ids() -> impl Strategy<Value = LogId> {
        let any = (any::<u64>(), any::<u64>(), any::<u64>());
        any.prop_map(|(term, node_id, index)| LogId { leader_id: LeaderId { term, node_id }, index })
    }

    fn memberships() -> impl Strategy<Value = Membership> {
        let nodes = prop::collection::btree_map(1..9_u64, any::<std::net::SocketAddr>(), 1..6);
        (nodes, any::<bool>()).prop_map(|(nodes, joint)| {
            // IPv6 scope and flow label are no part of an address that a node listens on.
            let nodes: BTreeMap<u64, Peer> =
                nodes.into_iter().map(|(id, a)| (id, Peer { address: (a.ip(), a.port()).into() })).collect();
            let voters: BTreeSet<u64> = nodes.keys().copied().collect();
            let configs = if joint { vec![voters.clone(), voters] } else { vec![voters] };
            Membership::new(configs, nodes).expect("every voter has an address")
        })
    }

    fn entries() -> impl Strategy<Value = Entry> {
        let assign = (any::<u64>(), any::<u64>(), any::<u64>()).prop_map(|(group, replaces, node)| {
            Command::Assign { group: GroupId(group), replaces: Epoch(replaces), node: NodeId(node) }
        });
        let payload = prop_oneof![
            Just(Payload::Blank),
            assign.prop_map(|c| Payload::Normal(Proposal::from(c))),
            memberships().prop_map(Payload::Membership),
        ];
        (log_ids(), payload).prop_map(|(log_id, payload)| Entry { log_id, payload })
    }

    proptest! {
        #[test]
        fn entries_are_read_as_they_were_written(written in entries()) {
            prop_assert_eq!(entry_from(entry(&written)), Ok(written));
        }

        #[test]
        fn votes_are_read_as_they_were_written(id in log_ids(), committed: bool) {
            let written = Vote { leader_id: id.leader_id, committed };
            prop_assert_eq!(vote_from(vote(&written)), Ok(written));
        }

        #[test]
        fn snapshot_metas_are_read_as_they_were_written(id in prop::option::of(log_ids()), m in memberships()) {
            let written = SnapshotMeta { last_log_id: id, last_membership: StoredMembership::new(id, m) };
            prop_assert_eq!(snapshot_meta_from(Some(snapshot_meta(&written))), Ok(written));
        }
    }

    #[test]
    fn what_is_missing_is_named() {
        let incomplete = pb::Entry { log_id: None, payload: Some(pb::entry::Payload::Blank(pb::Blank {})) };
        let error = entry_from(incomplete).expect_err("no log id");
        assert_eq!(error.to_string(), "log_id: missing");
    }
}
