//! Status as the inspect API shows it.

use lockstep_model::ids::{GroupId, NodeId};
use lockstep_model::intent::NodeRole;
use lockstep_model::state::{Group, State};
use lockstep_ownership::leader::{Ineligible, Standing};
use lockstep_ownership::owner::Until;
use lockstep_ownership::status::Flows;
use lockstep_proto::convert::address::address_to_bytes;
use lockstep_proto::inspect::v1 as pb;
use lockstep_raft_store::Role;

use super::replication;
use crate::fitness;
use crate::parts::Parts;

/// Raft, as this node sees it.
pub(super) fn raft(parts: &Parts) -> pb::RaftStateResponse {
    let metrics = parts.raft.metrics();
    let state = match metrics.role {
        Role::Down => "down",
        Role::Learner => "learner",
        Role::Follower => "follower",
        Role::Candidate => "candidate",
        Role::Leader => "leader",
    };
    pb::RaftStateResponse {
        node_id: parts.raft.identity().map_or(0, |identity| identity.node.get()),
        state: state.to_owned(),
        term: metrics.term,
        leader_id: metrics.leader.map_or(0, NodeId::get),
        last_log_index: metrics.last_log,
        committed_index: metrics.committed,
        applied_index: metrics.applied,
        snapshot_index: metrics.snapshot,
        purged_index: metrics.purged,
        voters: metrics.voters.iter().map(|id| id.get()).collect(),
        learners: metrics.learners.iter().map(|id| id.get()).collect(),
        membership_index: metrics.membership.map_or(0, |id| id.index),
        replication: metrics
            .matched
            .iter()
            .map(|(node, at)| pb::Replication { node: node.get(), matched_index: at.map_or(0, |i| i.get()) })
            .collect(),
    }
}

/// The node itself. Reads the kernel: blocking.
pub(super) fn node(parts: &Parts) -> pb::NodeStatusResponse {
    let state = parts.raft.stale();
    let mut answer = pb::NodeStatusResponse {
        id: parts.raft.identity().map_or(0, |identity| identity.node.get()),
        name: parts.config.node.name.clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        uptime_ns: parts.started.elapsed().as_nanos() as u64,
        applied_index: parts.raft.metrics().applied,
        revision: state.revision.get(),
        draining: parts.gives_away(&state),
        not_ready: parts.not_ready().unwrap_or_default(),
        ..Default::default()
    };
    answer.set_role(parts.config.node.role.into());
    let Some(dataplane) = &parts.dataplane else { return answer };
    let (programmed, down) = (dataplane.programmed(), dataplane.down());
    answer.programmed_revision = programmed.revision.get();
    answer.max_flows = dataplane.config.max_flows.into();
    match dataplane.flows.count() {
        Ok(count) => answer.flows = count,
        Err(error) => tracing::error!(%error, "the flow table cannot be read"),
    }
    answer.interfaces = dataplane
        .config
        .interfaces
        .iter()
        .map(|interface| {
            let report = dataplane.hook(&interface.name);
            pb::InterfaceStatus {
                name: interface.name.clone(),
                hook: report.map(|report| report.hook.name().to_owned()).unwrap_or_default(),
                why: report.map(|report| report.why.clone()).unwrap_or_default(),
                carrier: !down.contains(&interface.name),
                attached: !programmed.detached.contains(&interface.name),
            }
        })
        .collect();
    let inputs = fitness::Inputs {
        me: parts.raft.identity().map_or(NodeId(0), |identity| identity.node),
        state: &state,
        programmed: &programmed,
        down: &down,
        cut_off: &parts.health.cut_off(),
        draining: parts.gives_away(&state),
        disk_full: parts.raft.disk_full().is_some(),
        kept: parts.member.get().and_then(|member| member.kept),
    };
    answer.groups = state
        .groups
        .iter()
        .map(|(id, group)| {
            let fitness = fitness::fitness(&inputs, *id);
            let detail = programmed.unfit.get(id).cloned();
            pb::GroupFitness {
                group: id.get(),
                name: group.spec.name.clone(),
                fit: fitness.is_ok(),
                reason: fitness
                    .err()
                    .map(|unfit| detail.unwrap_or_else(|| unfit.name().to_owned()))
                    .unwrap_or_default(),
            }
        })
        .collect();
    answer
}

/// Replication streams, both directions.
pub(super) fn sync(parts: &Parts) -> pb::SyncStatusResponse {
    let Some(sync) = parts.sync() else { return pb::SyncStatusResponse::default() };
    let state = parts.raft.stale();
    let name = |id: NodeId| state.nodes.get(&id).map(|spec| spec.name.clone()).unwrap_or_default();
    let sent = sync.lag().into_iter().map(|lag| pb::SyncStream {
        peer: lag.stream.peer.get(),
        peer_name: name(lag.stream.peer),
        shard: lag.stream.shard.into(),
        direction: pb::SyncDirection::Send.into(),
        connected: lag.connected,
        dirty: lag.unacknowledged as u64,
        walks: lag.walks as u64,
        caught_up: lag.connected && lag.walks == 0,
        lag_ns: lag.oldest.as_nanos() as u64,
        ..Default::default()
    });
    let received = sync.inbound().into_iter().map(|inbound| pb::SyncStream {
        peer: inbound.stream.peer.get(),
        peer_name: name(inbound.stream.peer),
        shard: inbound.stream.shard.into(),
        direction: pb::SyncDirection::Receive.into(),
        connected: inbound.connected,
        position: inbound.received,
        acknowledged: inbound.handled,
        nacks: inbound.refused as u64,
        walks: inbound.walks as u64,
        lag_ns: inbound.age.as_nanos() as u64,
        ..Default::default()
    });
    let mut answer = pb::SyncStatusResponse { streams: sent.chain(received).collect(), ..Default::default() };
    replication::add(parts, sync, &mut answer);
    answer
}

/// A group: owner, lease, promises, standbys.
pub(super) fn group(parts: &Parts, state: &State, id: GroupId, group: &Group) -> pb::GroupStatus {
    let name = |id: NodeId| state.nodes.get(&id).map_or_else(|| id.to_string(), |spec| spec.name.clone());
    let mut answer = pb::GroupStatus {
        id: id.get(),
        name: group.spec.name.clone(),
        quorum: parts.raft.metrics().voters.len() as u32 / 2 + 1,
        ..Default::default()
    };
    answer.ports = ports(parts, state, id);
    let assignment = group.assignment;
    if let Some(assignment) = assignment {
        answer.owner = assignment.node.get();
        answer.owner_name = name(assignment.node);
        answer.epoch = assignment.epoch.get();
    }
    let Some(lease) = parts.lease() else { return answer };
    let lease = lease.snapshot();
    let claim = lease.claims.iter().find(|claim| claim.tenure.group == id);
    answer.lease_held = lease.held.iter().any(|tenure| tenure.group == id);
    if let (true, Some(claim)) = (answer.lease_held, claim) {
        answer.lease_unbounded = matches!(claim.until, Some(Until::Unbounded));
        answer.lease_left_ns = match claim.until {
            Some(Until::At(until)) => Some(crate::lease::time_left(until).as_nanos() as u64),
            _ => None,
        };
    }
    if let Some(claim) = claim {
        answer.promises = parts
            .raft
            .metrics()
            .voters
            .iter()
            .map(|voter| {
                let left =
                    claim.promises.get(voter).map(|end| crate::lease::time_left(*end).as_nanos() as u64);
                let granted = left.is_some_and(|left| left > 0);
                let reason = if granted { String::new() } else { "no promise now".to_owned() };
                pb::PromiseHeld { voter: voter.get(), granted, left_ns: left, reason }
            })
            .collect();
    }
    answer.standbys = lease
        .standings
        .get(&id)
        .into_iter()
        .flatten()
        .filter(|(node, _)| assignment.is_none_or(|a| a.node != *node) && carries(state, *node))
        .map(|(node, standing)| {
            let chosen = group.replicas.contains_key(node);
            standby(parts, *node, name(*node), standing, chosen, answer.lease_held)
        })
        .collect();
    answer
}

/// Ports in use of the group's addresses, as of the sweeper's last pass.
fn ports(parts: &Parts, state: &State, id: GroupId) -> Vec<pb::PortUsage> {
    let Some(dataplane) = &parts.dataplane else { return Vec::new() };
    let addresses = state.group_addresses(id);
    let usage = dataplane.flows.port_usage();
    let of_group = usage.iter().filter(|usage| addresses.contains(&usage.address));
    of_group
        .map(|usage| pb::PortUsage {
            address: address_to_bytes(usage.address),
            used: usage.ports_used,
            total: usage.ports_total,
        })
        .collect()
}

fn carries(state: &State, node: NodeId) -> bool {
    state.nodes.get(&node).is_some_and(|spec| spec.role == NodeRole::Dataplane)
}

fn standby(
    parts: &Parts,
    node: NodeId,
    node_name: String,
    standing: &Result<(Standing, Flows), Ineligible>,
    chosen: bool,
    we_own: bool,
) -> pb::StandbyStatus {
    let streams: Vec<_> = match parts.sync() {
        Some(sync) if chosen && we_own => {
            sync.lag().into_iter().filter(|lag| lag.stream.peer == node).collect()
        }
        _ => Vec::new(),
    };
    let (eligible, reason, caught_up) = match standing {
        Ok((_, flows)) => {
            let reason = match flows {
                Flows::CaughtUp => "fit, and holds the flows".to_owned(),
                Flows::Silent(age) => {
                    format!("fit, but heard from the owner only {} ms ago", age.as_millis())
                }
                Flows::Behind(age) => format!("fit, but held all flows only {} ms ago", age.as_millis()),
                Flows::Kept => "fit, and its kernel kept flows, but not surely all".to_owned(),
                Flows::Never if !chosen => "fit, but none of its standbys".to_owned(),
                Flows::Never => "fit, but has no flows".to_owned(),
            };
            (true, reason, *flows == Flows::CaughtUp)
        }
        Err(ineligible) => (false, why_not(*ineligible, votes(parts)), false),
    };
    let known = !streams.is_empty();
    pb::StandbyStatus {
        node: node.get(),
        node_name,
        eligible,
        reason,
        chosen,
        caught_up,
        unacknowledged: known.then(|| streams.iter().map(|lag| lag.unacknowledged as u64).sum()),
        lag_ns: known.then(|| streams.iter().map(|lag| lag.oldest.as_nanos() as u64).max().unwrap_or(0)),
    }
}

/// Whether this node has a vote: others are not told how nodes stand.
pub(super) fn votes(parts: &Parts) -> bool {
    parts.raft.identity().is_some_and(|me| parts.raft.metrics().voters.contains(&me.node))
}

pub(super) fn why_not(ineligible: Ineligible, votes: bool) -> String {
    match ineligible {
        Ineligible::Silent if !votes => {
            "not known here: nodes without a vote are not told, ask one that votes".to_owned()
        }
        Ineligible::NotCandidate => "not named by the group".to_owned(),
        Ineligible::Silent => "silent: no fresh report, or a quorum does not hear it".to_owned(),
        Ineligible::Draining => "draining".to_owned(),
        Ineligible::Unknown => "does not know the group (yet)".to_owned(),
        Ineligible::Behind => "has not applied the group's newest assignment yet".to_owned(),
        Ineligible::Unfit(unfit) => format!("unfit: {}", unfit.name()),
        Ineligible::HeldDown => "failed lately: held down".to_owned(),
    }
}

/// The takeovers by this node.
pub(super) fn failovers(parts: &Parts) -> pb::FailoversResponse {
    let Some(lease) = parts.lease() else { return pb::FailoversResponse::default() };
    let at = |instant: Option<lockstep_ownership::time::Instant>| instant.map(crate::lease::to_monotonic);
    let me = parts.raft.identity().map_or(0, |identity| identity.node.get());
    let failovers = lease
        .failovers()
        .iter()
        .map(|record| pb::Failover {
            group: record.tenure.group.get(),
            group_name: parts.group_name(record.tenure.group),
            epoch_before: record.replaces.get(),
            epoch_after: record.tenure.epoch.get(),
            owner_after: me,
            last_renewal_ns: at(record.last_renewal),
            suspected_ns: at(record.suspected),
            committed_ns: at(Some(record.committed)),
            promised_ns: at(record.promised),
            map_written_ns: at(record.map_written),
            announced_ns: at(record.announced),
            ..Default::default()
        })
        .collect();
    pb::FailoversResponse { failovers }
}
