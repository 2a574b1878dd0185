//! Forming a cluster, once.
//!
//! The node where `cluster init` is called asks all peers what they are, draws the cluster's id, tells each peer who it
//! is (`Adopt`), and only then makes them voters. If it fails in between, the peers know an id that no log
//! was ever written under: they may be adopted anew, and init can be repeated on any node.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use lockstep_model::ids::NodeId;
use lockstep_model::limits::MAX_NODES;
use lockstep_proto::raft::v1 as pb;
use tokio::time::timeout;

use super::{Formed, Inner, RaftError};
use crate::grpc::client::link_error;
use crate::layout::{ClusterId, Identity};

/// A peer that does not answer within this is not reachable.
const PEER_TIMEOUT: Duration = Duration::from_secs(3);

/// The new cluster's first election takes well under a second.
const ELECTION_TIMEOUT: Duration = Duration::from_secs(5);

impl Inner {
    /// What this node says of itself.
    pub(crate) fn describe(&self) -> pb::ProbeResponse {
        let member = self.member();
        let identity = member.as_ref().map(|m| m.identity());
        pb::ProbeResponse {
            cluster_name: self.config.cluster_name.clone(),
            cluster_id: identity.map(|i| i.cluster_id.to_vec()).unwrap_or_default(),
            node_id: identity.map_or(0, |i| i.node.get()),
            has_data: member.as_ref().is_some_and(|m| !m.is_pristine()),
        }
    }

    /// Becomes the node that `request` says.
    pub(crate) async fn adopt(self: &Arc<Self>, request: pb::AdoptRequest) -> Result<(), RaftError> {
        let _forming = self.forming.lock().await;
        if request.cluster_name != self.config.cluster_name {
            let (ours, theirs) = (&self.config.cluster_name, &request.cluster_name);
            return Err(RaftError::Refused(format!(
                "this node is configured for cluster {ours:?}, not {theirs:?}"
            )));
        }
        let malformed = || RaftError::Refused("a cluster id of other than 16 bytes, or no node id".into());
        let cluster_id = ClusterId::from_slice(&request.cluster_id).ok_or_else(malformed)?;
        if request.node_id == 0 {
            return Err(malformed());
        }
        let node = NodeId(request.node_id);
        self.become_node(Identity { cluster_name: request.cluster_name, cluster_id, node }).await
    }

    /// Takes `identity`, unless the node has data as another.
    pub(super) async fn become_node(self: &Arc<Self>, identity: Identity) -> Result<(), RaftError> {
        if let Some(member) = self.member() {
            if *member.identity() == identity {
                return Ok(());
            }
            if !member.is_pristine() {
                return Err(already(member.identity()));
            }
            // An earlier init told it another identity and failed. The log is empty, so nothing is lost.
            member.shutdown().await;
            self.member.send_replace(None);
        }
        self.dir.set_identity(&identity)?;
        tracing::info!(cluster = %identity.cluster_id, node = %identity.node, "belongs to a cluster");
        self.join(identity).await?;
        Ok(())
    }

    pub(super) async fn init(self: Arc<Self>) -> Result<Formed, RaftError> {
        let forming = self.forming.lock().await;
        if let Some(member) = self.member()
            && !member.is_pristine()
        {
            return Err(already(member.identity()));
        }
        let mut peers = self.config.peers.clone();
        peers.retain(|address| *address != self.config.address);
        peers.dedup();
        if peers.len() >= MAX_NODES {
            let problem = format!("{} nodes; allowed: {MAX_NODES}", peers.len() + 1);
            return Err(RaftError::Refused(problem));
        }
        for peer in &peers {
            self.probe(*peer).await?;
        }
        let cluster_id = ClusterId(rand::random());
        let others = peers.iter().enumerate().map(|(i, address)| (NodeId(i as u64 + 2), *address));
        let nodes: BTreeMap<NodeId, SocketAddr> =
            std::iter::once((NodeId(1), self.config.address)).chain(others).collect();
        for (id, address) in nodes.iter().skip(1) {
            self.request_adoption(*address, cluster_id, *id).await?;
        }
        let cluster_name = self.config.cluster_name.clone();
        self.become_node(Identity { cluster_name, cluster_id, node: NodeId(1) }).await?;
        let member = self.member().ok_or(RaftError::NotInitialised)?;
        member.initialise(&nodes).await?;
        drop(forming);
        let mut metrics = self.metrics.subscribe();
        let elected = timeout(ELECTION_TIMEOUT, metrics.wait_for(|m| m.leader.is_some())).await;
        match elected {
            Ok(Ok(_)) => Ok(Formed { cluster_id, nodes }),
            _ => Err(RaftError::NoLeader("the cluster is formed, but has elected no leader yet".into())),
        }
    }

    /// Refuses a peer that cannot be part of a new cluster.
    async fn probe(&self, address: SocketAddr) -> Result<(), RaftError> {
        let problem = |problem: String| RaftError::Peer { address, problem };
        let mut client = self.pool.cluster(address).map_err(|e| problem(e.to_string()))?;
        let answer = match timeout(PEER_TIMEOUT, client.probe(pb::ProbeRequest {})).await {
            Ok(answer) => answer.map_err(|status| problem(link_error(&status).to_string()))?.into_inner(),
            Err(_) => return Err(problem(format!("no answer within {PEER_TIMEOUT:?}"))),
        };
        if answer.cluster_name != self.config.cluster_name {
            let (theirs, ours) = (answer.cluster_name, &self.config.cluster_name);
            return Err(problem(format!("it is configured for cluster {theirs:?}; allowed: {ours:?}")));
        }
        if answer.has_data {
            let id = ClusterId::from_slice(&answer.cluster_id).map_or_else(String::new, |id| id.to_string());
            return Err(problem(format!("it has data of cluster {id}; allowed: nodes without data")));
        }
        Ok(())
    }

    async fn request_adoption(
        &self,
        address: SocketAddr,
        cluster_id: ClusterId,
        node: NodeId,
    ) -> Result<(), RaftError> {
        let problem = |problem: String| RaftError::Peer { address, problem };
        let request = pb::AdoptRequest {
            cluster_name: self.config.cluster_name.clone(),
            cluster_id: cluster_id.to_vec(),
            node_id: node.get(),
        };
        let mut client = self.pool.cluster(address).map_err(|e| problem(e.to_string()))?;
        match timeout(PEER_TIMEOUT, client.adopt(request)).await {
            Ok(answer) => answer.map(drop).map_err(|status| problem(link_error(&status).to_string())),
            Err(_) => Err(problem(format!("no answer within {PEER_TIMEOUT:?}"))),
        }
    }
}

fn already(identity: &Identity) -> RaftError {
    RaftError::AlreadyInitialised { name: identity.cluster_name.clone(), cluster_id: identity.cluster_id }
}
