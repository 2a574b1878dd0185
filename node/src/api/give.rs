//! `group move`: an operator gives a group to another node.
//!
//! The change is an assignment like the leader's own, so that the owner hands over as for any other: flows are flushed
//! while it still forwards. Only a node that the leader could choose gets it, and that holds the flows.

use std::collections::BTreeSet;
use std::time::Duration;

use lockstep_model::command::Command;
use lockstep_model::ids::{GroupId, NodeId};
use lockstep_model::state::{Applied, Assignment, Refusal, State};
use lockstep_ownership::leader::{Ineligible, Standing};
use lockstep_ownership::status::Flows;
use lockstep_proto::admin::v1 as pb;
use tonic::Status;

use super::admin::Admin;
use super::{refuse, status};
use crate::lease::Snapshot;

/// How long a node that held none of a group's flows has to get them.
const COPY_TIMEOUT: Duration = Duration::from_secs(30);
const COPY_LOOK: Duration = Duration::from_millis(10);

impl Admin {
    pub(super) async fn give(&self, request: pb::MoveGroupRequest) -> Result<pb::MoveGroupResponse, Status> {
        let state = self.state(false).await?;
        let (id, group) =
            state.group(&request.group).ok_or_else(|| refuse::absent("group", &request.group))?;
        let to = state.node(&request.node).ok_or_else(|| refuse::absent("node", &request.node))?.0;
        if let Some(Assignment { epoch, .. }) = group.assignment.filter(|owner| owner.node == to) {
            return Ok(pb::MoveGroupResponse { epoch: epoch.get(), moved: false });
        }
        let lease = self.parts.lease().ok_or_else(|| Status::unavailable("no cluster yet"))?;
        self.copy_to(&request, &state, id, to).await?;
        check(&lease.snapshot(), &state, id, to, status::votes(&self.parts))?;
        let replaces = group.assignment.map(|owner| owner.epoch).unwrap_or_default();
        let command = Command::Assign { group: id, replaces, node: to };
        self.change(command).await?;
        tracing::info!(group = request.group, node = request.node, "group moved, as an operator asked");
        // The write may have gone through another node: what it made is read back.
        let state = self.state(false).await?;
        let owner = state.groups.get(&id).and_then(|group| group.assignment);
        let owner = owner.filter(|owner| owner.node == to && owner.epoch > replaces);
        let owner = owner.ok_or_else(|| {
            Status::aborted(format!("group/{}: it was given away again at once", request.group))
        })?;
        Ok(pb::MoveGroupResponse { epoch: owner.epoch.get(), moved: true })
    }
}

impl Admin {
    /// Has a command applied that is to change something.
    async fn change(&self, command: Command) -> Result<(), Status> {
        match self.parts.raft.write(command).await.map_err(|e| refuse::raft(&e))? {
            Applied::Changed { .. } => Ok(()),
            Applied::Unchanged { lines, .. } => Err(Status::aborted(lines.join("; "))),
            Applied::Refused(refusal) => Err(refuse::refused(&refusal)),
        }
    }

    /// Waits until a node that could serve a group holds its flows, which makes it one of the standbys if it is none. The leader
    /// takes another out again.
    async fn copy_to(
        &self,
        request: &pb::MoveGroupRequest,
        state: &State,
        group: GroupId,
        to: NodeId,
    ) -> Result<(), Status> {
        let (Some(lease), Some(known)) = (self.parts.lease(), state.groups.get(&group)) else {
            return Ok(());
        };
        let standing = || {
            let snapshot = lease.snapshot();
            let standings = snapshot.standings.get(&group)?;
            standings.iter().find(|(node, _)| *node == to).map(|(_, standing)| *standing)
        };
        let (Some(owner), Some(Ok(_))) = (known.assignment, standing()) else { return Ok(()) };
        if !known.replicas.contains_key(&to) {
            let replaces: BTreeSet<NodeId> = known.replicas.keys().copied().collect();
            let mut nodes = replaces.clone();
            nodes.insert(to);
            let command = Command::SetReplicas { group, epoch: owner.epoch, replaces, nodes };
            self.change(command).await?;
            tracing::info!(
                group = request.group,
                node = request.node,
                "its flows are copied there, as an operator asked"
            );
        }
        let copied = async {
            while !matches!(standing(), Some(Ok((_, Flows::CaughtUp)))) {
                tokio::time::sleep(COPY_LOOK).await;
            }
        };
        tokio::time::timeout(COPY_TIMEOUT, copied).await.map_err(|_| {
            Status::aborted(format!(
                "group/{}: its flows are still being copied to {}: try again",
                request.group, request.node
            ))
        })
    }
}

/// Whether `to` can serve the group, and holds its flows, as this node knows from the reports of all.
fn check(lease: &Snapshot, state: &State, group: GroupId, to: NodeId, votes: bool) -> Result<(), Status> {
    let standings = lease.standings.get(&group).map(Vec::as_slice).unwrap_or_default();
    let of = |node: NodeId| standings.iter().find(|(n, _)| *n == node).map(|(_, standing)| *standing);
    let holds_flows = |standing: Option<Result<(Standing, Flows), Ineligible>>| {
        matches!(standing, Some(Ok((_, Flows::CaughtUp))))
    };
    if holds_flows(of(to)) {
        return Ok(());
    }
    let why = match of(to) {
        Some(Ok(_)) => "it does not hold all flows now".to_owned(),
        Some(Err(ineligible)) => status::why_not(ineligible, votes),
        None => status::why_not(Ineligible::Unknown, votes),
    };
    let name = |node: NodeId| state.nodes.get(&node).map_or_else(|| node.to_string(), |n| n.name.clone());
    let able: Vec<String> =
        standings.iter().filter(|(_, s)| holds_flows(Some(*s))).map(|(node, _)| name(*node)).collect();
    let allowed = if able.is_empty() { "no node now".to_owned() } else { able.join(", ") };
    Err(refuse::refused(&Refusal::Invalid {
        path: "node".to_owned(),
        value: format!("{} ({why})", name(to)),
        allowed: format!("{allowed}: fit, and holding all flows"),
    }))
}

#[cfg(test)]
mod tests {
    use lockstep_ownership::status::Unfit;

    use super::*;

    const GROUP: GroupId = GroupId(7);

    fn snapshot(standing: Result<(Standing, Flows), Ineligible>) -> Snapshot {
        let standings =
            [(GROUP, vec![(NodeId(1), Ok((Standing::Fit, Flows::CaughtUp))), (NodeId(2), standing)])];
        Snapshot { standings: standings.into(), ..Snapshot::default() }
    }

    #[test]
    fn only_a_node_that_is_fit_and_holds_the_flows_is_given_a_group() {
        let state = State::default();
        let to = |standing| check(&snapshot(standing), &state, GROUP, NodeId(2), true);
        assert!(to(Ok((Standing::Fit, Flows::CaughtUp))).is_ok());
        assert!(to(Ok((Standing::HeldDown, Flows::CaughtUp))).is_ok(), "the operator knows better");
        for (standing, why) in [
            (Ok((Standing::Fit, Flows::Never)), "it does not hold all flows now"),
            (Err(Ineligible::Unfit(Unfit::CarrierLost)), "unfit: carrier_lost"),
            (Err(Ineligible::Silent), "silent"),
        ] {
            let refusal = to(standing).unwrap_err();
            assert_eq!(refusal.code(), tonic::Code::InvalidArgument);
            assert!(refusal.message().contains(why), "{}", refusal.message());
            assert!(refusal.message().contains("allowed 1: fit"), "{}", refusal.message());
        }
        assert!(check(&Snapshot::default(), &state, GROUP, NodeId(2), true).is_err(), "nobody has reported");
    }
}
