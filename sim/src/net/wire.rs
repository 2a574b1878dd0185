//! Raft's calls over the simulated network: the store's own messages, as gRPC would carry them.

use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use lockstep_model::ids::NodeId;
use lockstep_raft_store::error::Refused;
use lockstep_raft_store::replica::Replica;
use lockstep_raft_store::transport::{LinkError, Transport, messages as pb};
use openraft::AsyncRuntime;
use openraft_rt_sim::SimRuntime;

use super::{Channel, SharedNet, now_ns};

/// A call whose message is lost hangs: Raft's own time limits end it much earlier.
const LOST: Duration = Duration::from_secs(60);

/// One run of a node's way to its peers.
#[derive(Clone)]
pub struct Wire {
    /// Who calls.
    pub from: NodeId,
    /// Which of its runs.
    pub run: u64,
    /// By way of.
    pub net: SharedNet,
}

type Peer = Arc<Replica<SimRuntime>>;

fn node_at(address: SocketAddr) -> NodeId {
    match address.ip() {
        IpAddr::V4(ip) => NodeId(u64::from(ip.octets()[3])),
        IpAddr::V6(_) => unreachable!("simulated nodes have IPv4 addresses"),
    }
}

fn lost() -> LinkError {
    LinkError::Broken("lost".into())
}

async fn sleep_ns(ns: u64) {
    SimRuntime::sleep(Duration::from_nanos(ns)).await;
}

impl Wire {
    /// Until the node runs. A paused node does not hold back what its threads compute, only what goes in and
    /// out, which is all that others can see.
    async fn awake(&self, node: NodeId) {
        loop {
            let until = self.net.lock().paused_until(node);
            let now = now_ns();
            if until <= now {
                return;
            }
            sleep_ns(until - now).await;
        }
    }

    /// What a run that has ended still wants to send is never sent.
    fn alive(&self) -> Result<(), LinkError> {
        if self.net.lock().run(self.from) == self.run { Ok(()) } else { Err(lost()) }
    }

    /// Whether what this run says now reaches whoever asked it, once it is awake.
    pub async fn reaches(&self) -> bool {
        self.awake(self.from).await;
        self.alive().is_ok()
    }

    async fn travel(&self, from: NodeId, to: NodeId) -> Result<Option<u64>, LinkError> {
        let fate = self.net.lock().fate(Channel::Raft, from, to);
        match fate.arrives_ns {
            Some(delay) => sleep_ns(delay).await,
            None => {
                SimRuntime::sleep(LOST).await;
                return Err(lost());
            }
        }
        self.awake(to).await;
        Ok(fate.again_ns)
    }

    async fn call<M, T, F>(
        &self,
        to: SocketAddr,
        what: String,
        message: M,
        handle: impl Fn(Peer, M) -> F + Send + Sync + Copy + 'static,
    ) -> Result<T, LinkError>
    where
        M: Clone + Send + Sync + 'static,
        T: Send + 'static,
        F: Future<Output = Result<T, Refused>> + Send + 'static,
    {
        let to = node_at(to);
        self.awake(self.from).await;
        self.alive()?;
        let again = self.travel(self.from, to).await?;
        let Some((peer, run)) = self.net.lock().replica(to) else {
            return Err(LinkError::Unreachable("nobody listens".into()));
        };
        self.net.note(format_args!("{} -> {to} {what}", self.from));
        if let Some(delay) = again {
            self.repeat(to, run, delay, message.clone(), handle);
        }
        let answer = handle(peer, message).await;
        self.awake(to).await;
        if self.net.lock().run(to) != run {
            return Err(lost());
        }
        self.travel(to, self.from).await?;
        self.alive()?;
        answer.map_err(|e| LinkError::Refused(e.to_string()))
    }

    /// The same message arrives a second time, at the same run, and its answer is lost.
    fn repeat<M, T, F>(
        &self,
        to: NodeId,
        run: u64,
        delay_ns: u64,
        message: M,
        handle: impl Fn(Peer, M) -> F + Send + Sync + 'static,
    ) where
        M: Send + Sync + 'static,
        T: Send + 'static,
        F: Future<Output = Result<T, Refused>> + Send + 'static,
    {
        let wire = self.clone();
        drop(SimRuntime::spawn(async move {
            sleep_ns(delay_ns).await;
            wire.awake(to).await;
            let peer = wire.net.lock().replica(to);
            if let Some((peer, _)) = peer.filter(|(_, now)| *now == run) {
                wire.net.note(format_args!("{} -> {to} again", wire.from));
                drop(handle(peer, message).await);
            }
        }));
    }
}

fn of_vote(m: &pb::VoteRequest, kind: &str) -> String {
    format!("{kind} {:?} last {:?}", m.vote, m.last_log_id)
}

impl Transport for Wire {
    async fn append_entries(
        &self,
        to: SocketAddr,
        message: pb::AppendEntriesRequest,
    ) -> Result<pb::AppendEntriesResponse, LinkError> {
        let (prev, commit) = (index(&message.prev_log_id), index(&message.leader_commit));
        let what = format!("append {} after {prev}, committed {commit}", message.entries.len());
        self.call(to, what, message, |peer, m| async move { peer.on_append_entries(m).await }).await
    }

    async fn vote(&self, to: SocketAddr, message: pb::VoteRequest) -> Result<pb::VoteResponse, LinkError> {
        let what = of_vote(&message, "vote");
        let answer = self.call(to, what, message, |peer, m| async move { peer.on_vote(m).await }).await;
        if answer.as_ref().is_ok_and(|answer| answer.vote_granted) {
            self.net.lock().voted(node_at(to), self.from);
            self.net.wake();
        }
        answer
    }

    async fn pre_vote(
        &self,
        to: SocketAddr,
        message: pb::VoteRequest,
    ) -> Result<pb::VoteResponse, LinkError> {
        let what = of_vote(&message, "pre-vote");
        self.call(to, what, message, |peer, m| async move { peer.on_pre_vote(m).await }).await
    }

    async fn transfer_leader(
        &self,
        to: SocketAddr,
        message: pb::TransferLeaderRequest,
    ) -> Result<pb::TransferLeaderResponse, LinkError> {
        let what = format!("transfer to {}", message.to_node_id);
        self.call(to, what, message, |peer, m| async move { peer.on_transfer_leader(m).await }).await
    }

    async fn install_snapshot(
        &self,
        to: SocketAddr,
        header: pb::SnapshotHeader,
        data: Bytes,
    ) -> Result<pb::InstallSnapshotResponse, LinkError> {
        let what = format!("snapshot of {} bytes", data.len());
        let message = (header, data);
        self.call(to, what, message, |peer, (header, data)| async move {
            peer.on_install_snapshot(header, data).await
        })
        .await
    }
}

fn index(id: &Option<pb::LogId>) -> u64 {
    id.as_ref().map_or(0, |id| id.index)
}
