//! The leader's part in a change of membership: whether a node may come in, vote, or go.
//!
//! ```text
//!   Join ─► admitted in the agreed state ─► receives the log ─► Enlist ─► votes
//!                                                  └──── Remove ◄───────────┘
//! ```
//!
//! Each step may be repeated, by the same node and through another leader, and then ends where it was to end.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use lockstep_model::command::Command;
use lockstep_model::ids::NodeId;
use lockstep_model::intent::NodeSpec;
use lockstep_model::state::{Applied, State};
use lockstep_proto::convert::{installation, required};
use lockstep_proto::raft::v1 as pb;
use openraft::TokioRuntime;
use tokio::time::timeout;

use super::{Inner, RaftError};
use crate::config::MAX_VOTERS;
use crate::error::Refused;
use crate::guard::MembershipGuard;
use crate::metrics::Role;
use crate::replica::{LocalError, Replica};

/// A voter that does not answer within this does not count as there.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(1);

/// What a majority does not commit within this may never be.
const COMMIT_TIMEOUT: Duration = Duration::from_secs(5);

type Member = Arc<Replica<TokioRuntime>>;

/// What a leader, or somebody else, says.
pub(crate) enum Led<T> {
    Done(T),
    /// This node does not lead.
    Elsewhere(Option<NodeId>),
}

impl Inner {
    /// `Cluster.Join`.
    pub(crate) async fn on_join(&self, request: pb::JoinRequest) -> Result<pb::JoinResponse, RaftError> {
        use pb::join_response::{Admitted, Elsewhere, Result as Outcome};
        let member = self.member().ok_or(RaftError::NotInitialised)?;
        if request.cluster_name != self.config.cluster_name {
            return Err(RaftError::Refused(format!(
                "node asks for cluster {:?}, this is a node of {:?}: its cluster.name must be the same",
                request.cluster_name, self.config.cluster_name
            )));
        }
        let malformed = |e: lockstep_proto::convert::ConvertError| RaftError::Refused(e.to_string());
        let installation = installation("installation", &request.installation).map_err(malformed)?;
        let spec: NodeSpec = required("spec", request.spec).map_err(malformed)?;

        let changing = self.forming.lock().await;
        let result = match self.led(&member) {
            Led::Elsewhere(leader) => {
                let leader = leader.and_then(|id| member.address_of(id)).map(Into::into);
                Outcome::Elsewhere(Elsewhere { leader })
            }
            Led::Done(()) => {
                let node = self.let_in(&member, installation, spec).await?;
                let cluster_id = member.identity().cluster_id.to_vec();
                let log_index = member.metrics().last_log;
                Outcome::Admitted(Admitted { cluster_id, node_id: node.get(), log_index })
            }
        };
        drop(changing);
        Ok(pb::JoinResponse { result: Some(result) })
    }

    async fn let_in(
        &self,
        member: &Member,
        installation: lockstep_model::ids::InstallationId,
        spec: NodeSpec,
    ) -> Result<NodeId, RaftError> {
        let state = self.newest(member).await?;
        if let Some(unknown) = member.members().into_iter().find(|id| !state.nodes.contains_key(id)) {
            return Err(RaftError::Refused(format!(
                "node {unknown} of this cluster has not registered itself yet: start it, then try again"
            )));
        }
        let address = spec.cluster_address;
        let _company = self.company(member).await?;
        self.change(member, Command::AdmitNode { installation, spec }).await?;
        let state = self.published.borrow().state.clone();
        let admitted = state.installations.iter().find(|(_, known)| **known == installation);
        let node = *admitted.expect("the admission has been applied, and nobody else changes members").0;
        committed(member.add_learner(node, address)).await?;
        tracing::info!(%node, %address, "a node has joined");
        Ok(node)
    }

    /// `Cluster.Enlist`: who votes afterwards.
    pub(crate) async fn on_enlist(&self, node: NodeId) -> Result<Led<BTreeSet<NodeId>>, RaftError> {
        let member = self.member().ok_or(RaftError::NotInitialised)?;
        let _changing = self.forming.lock().await;
        if let Led::Elsewhere(leader) = self.led(&member) {
            return Ok(Led::Elsewhere(leader));
        }
        let metrics = member.metrics();
        if !member.members().contains(&node) {
            return Err(not_a_member(node));
        }
        if metrics.voters.contains(&node) && !metrics.joint {
            return Ok(Led::Done(metrics.voters));
        }
        if !metrics.voters.contains(&node) && metrics.voters.len() >= MAX_VOTERS {
            return Err(RaftError::Refused(format!(
                "{MAX_VOTERS} nodes vote already, which is the most allowed: join with --learner, which carries traffic \
                 without a vote"
            )));
        }
        let _company = self.company(&member).await?;
        self.guard()?.before_vote(node).await.map_err(RaftError::Refused)?;
        committed(member.promote(node)).await?;
        let voters = member.voters();
        tracing::info!(%node, voters = voters.len(), "a node has a vote");
        Ok(Led::Done(voters))
    }

    /// `Cluster.Remove`: who votes afterwards.
    pub(crate) async fn on_remove(&self, node: NodeId) -> Result<Led<BTreeSet<NodeId>>, RaftError> {
        let member = self.member().ok_or(RaftError::NotInitialised)?;
        let _changing = self.forming.lock().await;
        if let Led::Elsewhere(leader) = self.led(&member) {
            return Ok(Led::Elsewhere(leader));
        }
        let state = self.newest(&member).await?;
        refuse_owner(&state, node)?;
        self.refuse_loss_of_quorum(&member, &state, node).await?;
        let address = member.address_of(node);
        committed(member.remove(node)).await?;
        if state.nodes.contains_key(&node) {
            self.change(&member, Command::RemoveNode { id: node }).await?;
        }
        let voters = member.voters();
        tracing::info!(%node, voters = voters.len(), "a node has left");
        if let Some(address) = address {
            self.dismiss(&member, node, address);
        }
        Ok(Led::Done(voters))
    }

    /// Tells a node, if it can be reached, that it has been taken out: it need not guess why nobody talks to it.
    fn dismiss(&self, member: &Member, node: NodeId, address: std::net::SocketAddr) {
        let identity = member.identity();
        let header = Some(pb::Header {
            cluster_id: identity.cluster_id.to_vec(),
            sender: identity.node.get(),
            target: node.get(),
        });
        let client = self.pool.cluster(address);
        tokio::spawn(async move {
            let told = match client {
                Ok(mut client) => {
                    client.dismiss(pb::DismissRequest { header }).await.map(drop).map_err(|e| e.to_string())
                }
                Err(e) => Err(e.to_string()),
            };
            if let Err(reason) = told {
                tracing::warn!(%node, reason, "the node that was taken out could not be told");
            }
        });
    }

    /// Those who would be left must be able to go on.
    async fn refuse_loss_of_quorum(
        &self,
        member: &Member,
        state: &State,
        node: NodeId,
    ) -> Result<(), RaftError> {
        let voters = member.voters();
        if !voters.contains(&node) {
            return Ok(());
        }
        let left: BTreeSet<NodeId> = voters.into_iter().filter(|id| *id != node).collect();
        let leaver = name(state, node);
        if left.is_empty() {
            return Err(RaftError::Refused(format!(
                "{leaver} is the last voter: without it there is no cluster (to end the cluster, stop the daemon)"
            )));
        }
        if node == member.identity().node {
            return Err(RaftError::Refused(format!("{leaver} leads: leadership has to move first")));
        }
        let mut silent = Vec::new();
        for id in left.iter().filter(|id| **id != member.identity().node) {
            if !self.answers(member, *id).await {
                silent.push(name(state, *id));
            }
        }
        if silent.len() > (left.len() - 1) / 2 {
            return Err(RaftError::Refused(format!(
                "without {leaver}, {} voters are left, of which {} do(es) not answer: the cluster would stand still. \
                 Remove the dead first",
                left.len(),
                silent.join(", ")
            )));
        }
        Ok(())
    }

    /// Asked now: Raft itself notices a death only after a while.
    async fn answers(&self, member: &Member, id: NodeId) -> bool {
        let Some(mut client) = member.address_of(id).and_then(|address| self.pool.cluster(address).ok())
        else {
            return false;
        };
        let answer = timeout(ANSWER_TIMEOUT, client.probe(pb::ProbeRequest {})).await;
        answer.is_ok_and(|answer| {
            answer.is_ok_and(|answer| {
                let answer = answer.into_inner();
                answer.cluster_id == member.identity().cluster_id.0 && answer.node_id == id.get()
            })
        })
    }

    fn led(&self, member: &Member) -> Led<()> {
        let metrics = member.metrics();
        match metrics.role {
            Role::Leader => Led::Done(()),
            _ => Led::Elsewhere(metrics.leader.filter(|id| *id != member.identity().node)),
        }
    }

    /// The state with everything acknowledged in it. Refused when a majority does not confirm that this node leads.
    async fn newest(&self, member: &Member) -> Result<Arc<State>, RaftError> {
        let index = member.read_index().await?;
        let mut published = self.published.subscribe();
        let reached = published.wait_for(|p| p.applied.is_some_and(|at| at >= index));
        let published =
            reached.await.map_err(|_| RaftError::Stopped("the state machine has ended".into()))?;
        Ok(published.state.clone())
    }

    async fn change(&self, member: &Member, command: Command) -> Result<(), RaftError> {
        match committed(member.write(command)).await?.1 {
            Applied::Refused(refusal) => Err(RaftError::Refused(refusal.to_string())),
            Applied::Changed { .. } | Applied::Unchanged { .. } => Ok(()),
        }
    }

    fn guard(&self) -> Result<Arc<dyn MembershipGuard>, RaftError> {
        let guard = self.guard.get().cloned();
        guard.ok_or_else(|| RaftError::Refused("this node is starting: try again".into()))
    }

    /// Prepares for the first other voter, if this node is the only one.
    async fn company(&self, member: &Member) -> Result<Company, RaftError> {
        let guard = self.guard()?;
        let metrics = member.metrics();
        if metrics.voters.len() > 1 {
            return Ok(Company(None));
        }
        // Also when it fails: what was begun is ended.
        let company = Company(Some(guard.clone()));
        guard.before_company().await.map_err(RaftError::Refused)?;
        Ok(company)
    }
}

/// While it lives, no lease is without an end.
struct Company(Option<Arc<dyn MembershipGuard>>);

impl Drop for Company {
    fn drop(&mut self) {
        if let Some(guard) = &self.0 {
            guard.company_settled();
        }
    }
}

pub(crate) fn not_a_member(node: NodeId) -> RaftError {
    RaftError::Refused(Refused::NotAMember { sender: node }.to_string())
}

fn name(state: &State, node: NodeId) -> String {
    state.nodes.get(&node).map_or_else(|| format!("node {node}"), |spec| format!("node {:?}", spec.name))
}

fn refuse_owner(state: &State, node: NodeId) -> Result<(), RaftError> {
    let owned = state.groups.values().filter(|g| g.assignment.is_some_and(|a| a.node == node));
    let owned: Vec<&str> = owned.map(|g| g.spec.name.as_str()).collect();
    if owned.is_empty() {
        return Ok(());
    }
    let (owner, owned) = (name(state, node), owned.join(", "));
    Err(RaftError::Refused(format!(
        "{owner} owns group {owned}: run `lockstep cluster leave` on that node, which hands over first"
    )))
}

/// Not for ever: whoever waits holds off every other change.
async fn committed<T>(change: impl Future<Output = Result<T, LocalError>>) -> Result<T, RaftError> {
    match timeout(COMMIT_TIMEOUT, change).await {
        Ok(done) => Ok(done?),
        Err(_) => Err(RaftError::OutcomeUnknown("no majority answers".into())),
    }
}
