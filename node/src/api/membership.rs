//! Joining and leaving, as operators ask for it.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use lockstep_model::ids::NodeId;
use lockstep_model::intent::NodeRole;
use lockstep_model::limits::{CLOCK_DRIFT_PERCENT, MAX_LEASE};
use lockstep_proto::admin::v1 as pb;
use tonic::Status;

use super::admin::Admin;
use super::refuse;
use crate::member;
use crate::parts::Member;

/// The lease thread starts within milliseconds of the node's admission.
const MEMBER_TIMEOUT: Duration = Duration::from_secs(10);
const LOOK: Duration = Duration::from_millis(5);

impl Admin {
    /// Makes this node a member: first without a vote, then, once it could use one, with it.
    pub(super) async fn join(
        &self,
        request: pb::ClusterJoinRequest,
    ) -> Result<pb::ClusterJoinResponse, Status> {
        let parts = &self.parts;
        if request.learner && parts.config.node.role == NodeRole::Witness {
            let text = "--learner: a witness only votes: as a learner it would do nothing";
            return Err(Status::invalid_argument(text));
        }
        let via = request.via.into_iter().map(SocketAddr::try_from).collect::<Result<Vec<_>, _>>()?;
        let via = if via.is_empty() { parts.config.cluster.peers.clone() } else { via };
        if via.is_empty() {
            let text = "cluster.peers is empty: name a member by its cluster.listen, \
                        e.g. `lockstep cluster join 10.9.0.1:7400`";
            return Err(Status::invalid_argument(text));
        }
        let identity = parts.raft.join_cluster(via, parts.spec()).await.map_err(|e| refuse::raft(&e))?;
        let voters = if request.learner {
            self.voters_beside(identity.node).await?
        } else {
            promising(self.started().await?).await;
            parts.raft.enlist().await.map_err(|e| refuse::raft(&e))?
        };
        Ok(pb::ClusterJoinResponse {
            cluster_id: identity.cluster_id.to_vec(),
            node_id: identity.node.get(),
            voter: voters.contains(&identity.node),
            voters: voters.len() as u32,
            advice: advice(&voters),
        })
    }

    /// The voters of the membership that has `learner` without a vote: this node has it in its log, but Raft tells what that
    /// says a little later.
    async fn voters_beside(&self, learner: NodeId) -> Result<BTreeSet<NodeId>, Status> {
        let told = || {
            let metrics = self.parts.raft.metrics();
            let knows = metrics.learners.contains(&learner) || metrics.voters.contains(&learner);
            knows.then_some(metrics.voters)
        };
        wait_for(told, "Raft does not say who votes: see the daemon's log").await
    }

    async fn started(&self) -> Result<&Member, Status> {
        wait_for(|| self.parts.member.get(), "the lease thread does not start: see the daemon's log").await
    }

    /// Takes a node out: this one, after it has given its groups away, or one that is gone or owns nothing.
    pub(super) async fn leave(&self, node: String) -> Result<pb::ClusterLeaveResponse, Status> {
        let parts = &self.parts;
        let identity = parts.raft.identity();
        let me = identity.ok_or_else(|| refuse::raft(&lockstep_raft_store::RaftError::NotInitialised))?.node;
        let (id, name) = if node.is_empty() || node == parts.config.node.name {
            (me, parts.config.node.name.clone())
        } else {
            let state = self.state(false).await?;
            (state.node(&node).ok_or_else(|| refuse::absent("node", &node))?.0, node)
        };
        let voters = if id == me { self.leave_ourselves(id).await? } else { self.remove(id).await? };
        let advice = advice(&voters);
        Ok(pb::ClusterLeaveResponse { node: name, node_id: id.get(), voters: voters.len() as u32, advice })
    }

    async fn remove(&self, id: NodeId) -> Result<BTreeSet<NodeId>, Status> {
        self.parts.raft.remove(id).await.map_err(|e| refuse::raft(&e))
    }

    async fn leave_ourselves(&self, me: NodeId) -> Result<BTreeSet<NodeId>, Status> {
        let parts = &self.parts;
        let voters = parts.raft.metrics().voters;
        if voters.contains(&me) && voters.len() == 1 {
            return Err(Status::failed_precondition(
                "this node is the last voter: without it there is no cluster (to end the cluster, stop the daemon)",
            ));
        }
        if !member::hand_over(parts).await {
            let state = parts.raft.stale();
            let mine = state.groups.values().filter(|g| g.assignment.is_some_and(|a| a.node == me));
            let groups: Vec<_> = mine.map(|group| group.spec.name.as_str()).collect();
            let groups = groups.join(", ");
            member::stay(parts);
            return Err(Status::failed_precondition(format!(
                "no other node took over group {groups}, so this node stays (`lockstep group status` says why each could not)"
            )));
        }
        member::leave_leadership(parts).await;
        let removed = self.remove(me).await;
        match &removed {
            Ok(_) => parts.raft.dismiss(),
            Err(_) => member::stay(parts),
        }
        removed
    }
}

/// Looks until there is something, for as long as becoming a member may take.
async fn wait_for<T>(look: impl Fn() -> Option<T>, problem: &str) -> Result<T, Status> {
    let deadline = Instant::now() + MEMBER_TIMEOUT;
    loop {
        if let Some(found) = look() {
            return Ok(found);
        }
        if Instant::now() >= deadline {
            return Err(Status::unavailable(problem));
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Waits until this node's voter may promise: before that, its vote would be needed and not to be had.
async fn promising(member: &Member) {
    let after = MAX_LEASE + MAX_LEASE * CLOCK_DRIFT_PERCENT / 100;
    tokio::time::sleep_until((member.since + after).into()).await;
}

/// What the number of voters means for whoever relies on them.
fn advice(voters: &BTreeSet<NodeId>) -> String {
    match voters.len() {
        0 | 1 => "one voter: the cluster stands still when it dies".to_owned(),
        2 => "two voters survive neither's death: let a third node join, a witness will do".to_owned(),
        n if n % 2 == 0 => {
            format!("{n} voters survive as many deaths as {}: one more, or one less, is better", n - 1)
        }
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_operator_is_told_what_two_voters_are_worth() {
        let of = |n: u64| advice(&(1..=n).map(NodeId).collect());
        assert!(of(2).contains("survive neither's death"), "{}", of(2));
        assert!(of(4).contains("as many deaths as 3"), "{}", of(4));
        assert_eq!((of(3), of(5)), (String::new(), String::new()));
    }
}
