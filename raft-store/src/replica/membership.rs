//! Who receives the log, and who votes.
//!
//! A change of voters goes through a joint membership. A leader that ends in between leaves the cluster joint, which is
//! safe; the next change, by whoever leads then, takes it out of it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use lockstep_model::ids::NodeId;
use openraft::async_runtime::watch::WatchReceiver;
use openraft::errors::{ClientWriteError, RaftError as OpenRaftError};
use openraft::{AsyncRuntime, ChangeMembers, Instant};

use super::{LocalError, Replica, not_leader};
use crate::types::Peer;

impl<RT: AsyncRuntime> Replica<RT> {
    /// From now on `id` receives the log, without a vote. Does nothing if it is a member already.
    pub async fn add_learner(&self, id: NodeId, address: SocketAddr) -> Result<(), LocalError> {
        let learner = BTreeMap::from([(id.get(), Peer { address })]);
        self.change(ChangeMembers::AddNodes(learner)).await
    }

    /// Gives a learner a vote.
    pub async fn promote(&self, id: NodeId) -> Result<(), LocalError> {
        self.change(ChangeMembers::AddVoterIds(BTreeSet::from([id.get()]))).await
    }

    /// Takes a node out. Does nothing if it is no member.
    pub async fn remove(&self, id: NodeId) -> Result<(), LocalError> {
        let metrics = self.metrics();
        if metrics.voters.contains(&id) {
            self.change(ChangeMembers::RemoveVoters(BTreeSet::from([id.get()]))).await?;
        }
        if self.address_of(id).is_some() {
            self.change(ChangeMembers::RemoveNodes(BTreeSet::from([id.get()]))).await?;
        }
        Ok(())
    }

    /// How to reach a member; `None`: it is none.
    pub fn address_of(&self, id: NodeId) -> Option<SocketAddr> {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        metrics.membership_config.get_node(&id.get()).map(|peer| peer.address)
    }

    /// Every member, voter or not.
    pub fn members(&self) -> BTreeSet<NodeId> {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        metrics.membership_config.nodes().map(|(id, _)| NodeId(*id)).collect()
    }

    /// On the leader: the members that have answered within `age`, itself included.
    pub fn answering(&self, age: Duration) -> BTreeSet<NodeId> {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        let heard = metrics.heartbeat.iter().flatten();
        let fresh = heard.filter(|(_, at)| at.as_ref().is_some_and(|at| at.elapsed() < age));
        fresh.map(|(id, _)| NodeId(*id)).chain([self.identity.node]).collect()
    }

    async fn change(&self, change: ChangeMembers<u64, Peer>) -> Result<(), LocalError> {
        match self.raft.change_membership(change, false).await {
            Ok(_) => Ok(()),
            Err(OpenRaftError::APIError(ClientWriteError::ForwardToLeader(to))) => Err(not_leader(&to)),
            Err(OpenRaftError::APIError(ClientWriteError::LogEntryDiscarded(_))) => {
                Err(LocalError::OutcomeUnknown)
            }
            Err(OpenRaftError::APIError(e)) => Err(LocalError::Membership(e.to_string())),
            Err(e) => Err(LocalError::Stopped(e.to_string())),
        }
    }
}
