//! A node's own part in its joining and leaving.

use std::collections::{BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use lockstep_model::ids::{LogIndex, NodeId};
use lockstep_model::intent::NodeSpec;
use lockstep_proto::raft::v1 as pb;
use openraft::TokioRuntime;
use tokio::time::{Instant, timeout, timeout_at};

use super::forward::{Attempt, LATE, harmless, header, no_leader};
use super::members::{Led, not_a_member};
use super::{Departure, Inner, RaftError};
use crate::grpc::client::link_error;
use crate::layout::{ClusterId, Identity};
use crate::metrics::Role;
use crate::replica::Replica;
use crate::transport::LinkError;

/// A member that does not answer within this is not asked again: a lease may have to be bounded meanwhile.
const JOIN_TIMEOUT: Duration = Duration::from_secs(10);

/// The log, or a snapshot, has to arrive within this.
const LOG_TIMEOUT: Duration = Duration::from_secs(30);

/// A change of membership: two entries, and what the guard waits for.
const CHANGE_TIMEOUT: Duration = Duration::from_secs(20);

/// Members asked in turn, at most: configured ones, and the leaders that they name.
const MAX_ASKED: usize = 16;

impl Inner {
    /// Joins a cluster that exists, and waits until this node holds its log.
    pub(super) async fn join_cluster(
        self: Arc<Self>,
        via: Vec<SocketAddr>,
        spec: NodeSpec,
    ) -> Result<Identity, RaftError> {
        if let Some(member) = self.member()
            && !member.is_pristine()
        {
            self.refuse_other_cluster(&member, &via).await?;
            return Ok(member.identity().clone());
        }
        let forming = self.forming.lock().await;
        let admitted = self.ask_for_admission(via, spec).await?;
        let cluster_id = ClusterId::from_slice(&admitted.cluster_id)
            .filter(|_| admitted.node_id != 0)
            .ok_or_else(|| RaftError::Refused("an answer without cluster or node id".into()))?;
        let cluster_name = self.config.cluster_name.clone();
        let identity = Identity { cluster_name, cluster_id, node: NodeId(admitted.node_id) };
        self.become_node(identity.clone()).await?;
        drop(forming);
        let mut published = self.published.subscribe();
        let holds = published.wait_for(|p| p.applied >= Some(LogIndex(admitted.log_index)));
        match timeout(LOG_TIMEOUT, holds).await {
            Ok(Ok(_)) => Ok(identity),
            Ok(Err(_)) => Err(RaftError::Stopped("the state machine has ended".into())),
            Err(_) => Err(RaftError::Refused(format!(
                "this node is admitted as node {}, but no leader has sent it the log within {LOG_TIMEOUT:?}: can the \
                 members reach {}? Then run `lockstep cluster join` again",
                identity.node, self.config.address
            ))),
        }
    }

    /// A member joins again only to finish what an earlier attempt left undone.
    async fn refuse_other_cluster(
        &self,
        member: &Replica<TokioRuntime>,
        via: &[SocketAddr],
    ) -> Result<(), RaftError> {
        let identity = member.identity();
        let metrics = member.metrics();
        if !member.members().contains(&identity.node) {
            return Err(not_a_member(identity.node));
        }
        if metrics.voters.contains(&identity.node) && !metrics.joint {
            return Err(RaftError::AlreadyMember {
                name: identity.cluster_name.clone(),
                cluster_id: identity.cluster_id,
                node: identity.node,
            });
        }
        for address in via {
            let mut client = self.pool.cluster(*address).map_err(|e| peer(*address, e.to_string()))?;
            let Ok(Ok(answer)) = timeout(JOIN_TIMEOUT, client.probe(pb::ProbeRequest {})).await else {
                continue;
            };
            let theirs = ClusterId::from_slice(&answer.into_inner().cluster_id);
            if let Some(theirs) = theirs.filter(|theirs| *theirs != identity.cluster_id) {
                let problem = format!(
                    "it belongs to cluster {theirs}, this node to {}: leave that one first, or empty this node's data \
                     directory",
                    identity.cluster_id
                );
                return Err(peer(*address, problem));
            }
        }
        Ok(())
    }

    /// Asks members in turn, and whom they name as their leader.
    async fn ask_for_admission(
        &self,
        via: Vec<SocketAddr>,
        spec: NodeSpec,
    ) -> Result<pb::join_response::Admitted, RaftError> {
        use pb::join_response::Result as Outcome;
        let request = pb::JoinRequest {
            cluster_name: self.config.cluster_name.clone(),
            installation: self.dir.installation()?.0.to_vec(),
            spec: Some((&spec).into()),
        };
        let mut queue: VecDeque<SocketAddr> = via.into();
        queue.retain(|address| *address != self.config.address);
        let mut problems = Vec::new();
        for _ in 0..MAX_ASKED {
            let Some(address) = queue.pop_front() else { break };
            let mut client = self.pool.cluster(address).map_err(|e| peer(address, e.to_string()))?;
            match timeout(JOIN_TIMEOUT, client.join(request.clone())).await {
                Ok(Ok(answer)) => match answer.into_inner().result {
                    Some(Outcome::Admitted(admitted)) => return Ok(admitted),
                    Some(Outcome::Elsewhere(elsewhere)) => {
                        match elsewhere.leader.and_then(|a| SocketAddr::try_from(a).ok()) {
                            Some(leader) => queue.push_front(leader),
                            None => problems.push(format!("{address} knows no leader")),
                        }
                    }
                    None => problems.push(format!("{address} gave an empty answer")),
                },
                Ok(Err(status)) => match link_error(&status) {
                    LinkError::Refused(why) => return Err(peer(address, why)),
                    other => problems.push(format!("{address}: {other}")),
                },
                Err(_) => problems.push(format!("{address}: no answer within {JOIN_TIMEOUT:?}")),
            }
        }
        Err(RaftError::NoLeader(format!(
            "no member let this node in ({}); are these the cluster.listen addresses of members?",
            problems.join("; ")
        )))
    }

    /// Asks the leader for a vote for this node; who votes then.
    pub(super) async fn enlist(self: Arc<Self>) -> Result<BTreeSet<NodeId>, RaftError> {
        let deadline = Instant::now() + CHANGE_TIMEOUT;
        self.attempt(deadline, |member, leader| {
            let inner = self.clone();
            async move { inner.enlist_once(&member, leader, deadline).await }
        })
        .await
    }

    async fn enlist_once(
        &self,
        member: &Replica<TokioRuntime>,
        leader: Option<NodeId>,
        deadline: Instant,
    ) -> Attempt<BTreeSet<NodeId>> {
        use pb::enlist_response::Result as Outcome;
        let me = member.identity().node;
        let Some(leader) = leader else { return no_leader() };
        if leader == me {
            return here(self.on_enlist(me).await);
        }
        let mut client = match self.leader_client(member, leader) {
            Ok(client) => client,
            Err(why) => return Attempt::Again(why),
        };
        let request = pb::EnlistRequest { header: Some(header(member, leader)) };
        match timeout_at(deadline, client.enlist(request)).await {
            Ok(Ok(response)) => match response.into_inner().result {
                Some(Outcome::Voters(voters)) => Attempt::Done(ids(voters)),
                _ => Attempt::Again(format!("node {leader} no longer leads")),
            },
            Ok(Err(status)) => harmless(&status),
            Err(_) => Attempt::Again(LATE.into()),
        }
    }

    /// Asks the leader to take `node` out; who votes then.
    pub(super) async fn remove(self: Arc<Self>, node: NodeId) -> Result<BTreeSet<NodeId>, RaftError> {
        let deadline = Instant::now() + CHANGE_TIMEOUT;
        self.attempt(deadline, |member, leader| {
            let inner = self.clone();
            async move { inner.remove_once(&member, leader, node, deadline).await }
        })
        .await
    }

    async fn remove_once(
        &self,
        member: &Replica<TokioRuntime>,
        leader: Option<NodeId>,
        node: NodeId,
        deadline: Instant,
    ) -> Attempt<BTreeSet<NodeId>> {
        use pb::remove_response::Result as Outcome;
        let Some(leader) = leader else { return no_leader() };
        if leader == member.identity().node {
            return here(self.on_remove(node).await);
        }
        let mut client = match self.leader_client(member, leader) {
            Ok(client) => client,
            Err(why) => return Attempt::Again(why),
        };
        let request = pb::RemoveRequest { header: Some(header(member, leader)), node: node.get() };
        match timeout_at(deadline, client.remove(request)).await {
            Ok(Ok(response)) => match response.into_inner().result {
                Some(Outcome::Voters(voters)) => Attempt::Done(ids(voters)),
                _ => Attempt::Again(format!("node {leader} no longer leads")),
            },
            Ok(Err(status)) => harmless(&status),
            Err(_) => Attempt::Again(LATE.into()),
        }
    }

    /// `Cluster.Dismiss`: the cluster goes on without this node.
    pub(crate) fn on_dismiss(&self) {
        tracing::warn!("the cluster has taken this node out");
        self.departed.send_replace(Some(Departure::Left));
    }

    /// Whether this node's membership can be seen from here: it votes, or receives the log.
    pub(super) fn is_learner(&self) -> bool {
        self.metrics.borrow().role == Role::Learner
    }
}

fn here(led: Result<Led<BTreeSet<NodeId>>, RaftError>) -> Attempt<BTreeSet<NodeId>> {
    match led {
        Ok(Led::Done(voters)) => Attempt::Done(voters),
        Ok(Led::Elsewhere(_)) => Attempt::Again("this node no longer leads".into()),
        // Every step may be repeated, so that it need not be known what became of it.
        Err(e @ (RaftError::NoLeader(_) | RaftError::Busy(_) | RaftError::OutcomeUnknown(_))) => {
            Attempt::Again(e.to_string())
        }
        Err(e) => Attempt::Failed(e),
    }
}

fn ids(voters: pb::Voters) -> BTreeSet<NodeId> {
    voters.ids.into_iter().map(NodeId).collect()
}

fn peer(address: SocketAddr, problem: String) -> RaftError {
    RaftError::Peer { address, problem }
}
