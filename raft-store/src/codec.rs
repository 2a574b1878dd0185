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
