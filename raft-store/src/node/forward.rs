//! Writes and linearizable reads from any node: done here if it leads, else sent to the leader.

use std::sync::Arc;
use std::time::Duration;

use lockstep_model::command::Command;
use lockstep_model::ids::{LogIndex, NodeId};
use lockstep_model::state::{Applied, State};
use lockstep_proto::convert::required;
use lockstep_proto::raft::v1 as pb;
use openraft::TokioRuntime;
use openraft::async_runtime::watch::WatchReceiver;
use tokio::time::{Instant, timeout, timeout_at};

use super::{Inner, RaftError};
use crate::grpc::client::link_error;
use crate::replica::{LocalError, Replica};
use crate::transport::LinkError;

/// A request that cannot be answered within this has failed. Several elections fit into it.
const DEADLINE: Duration = Duration::from_secs(5);

/// Between two looks for a leader, unless something changes earlier.
const LOOK_AGAIN: Duration = Duration::from_millis(25);

/// What became of an attempt.
pub(super) enum Attempt<T> {
    Done(T),
    /// Nothing happened; try again.
    Again(String),
    Failed(RaftError),
}

impl Inner {
    pub(super) async fn write(self: Arc<Self>, command: Command) -> Result<Applied, RaftError> {
        let deadline = Instant::now() + DEADLINE;
        self.attempt(deadline, |member, leader| {
            let (inner, command) = (self.clone(), command.clone());
            async move { inner.write_once(&member, leader, command, deadline).await }
        })
        .await
    }

    /// Answers with the state once it holds every write acknowledged before the call.
    pub(super) async fn read(self: Arc<Self>) -> Result<Arc<State>, RaftError> {
        let deadline = Instant::now() + DEADLINE;
        let LogIndex(index) = self
            .attempt(deadline, |member, leader| {
                let inner = self.clone();
                async move { inner.read_index_once(&member, leader, deadline).await }
            })
            .await?;
        let stopped = self.member().and_then(|member| Some(self.stopped(&member, member.metrics().stopped?)));
        let mut published = self.published.subscribe();
        if published.borrow().applied.is_none_or(|at| at.get() < index)
            && let Some(stopped) = stopped
        {
            return Err(stopped);
        }
        let reached = published.wait_for(|p| p.applied.is_some_and(|at| at.get() >= index));
        match timeout_at(deadline, reached).await {
            Ok(Ok(published)) => Ok(published.state.clone()),
            Ok(Err(_)) => Err(RaftError::Stopped("the state machine has ended".into())),
            Err(_) => Err(RaftError::NoLeader(format!("entry {index} has not been applied here"))),
        }
    }

    pub(super) async fn transfer_leader(self: Arc<Self>, to: NodeId) -> Result<(), RaftError> {
        let member = self.member().ok_or(RaftError::NotInitialised)?;
        if !member.voters().contains(&to) {
            return Err(RaftError::NotAVoter(to));
        }
        let deadline = Instant::now() + DEADLINE;
        self.attempt(deadline, |member, leader| {
            let inner = self.clone();
            async move { inner.transfer_once(&member, leader, to, deadline).await }
        })
        .await
    }

    /// Tries until done, failed, or too late. Only what certainly had no effect is tried again.
    pub(super) async fn attempt<T, F>(
        self: &Arc<Self>,
        deadline: Instant,
        mut once: impl FnMut(Arc<Replica<TokioRuntime>>, Option<NodeId>) -> F,
    ) -> Result<T, RaftError>
    where
        F: Future<Output = Attempt<T>>,
    {
        let member = self.member().ok_or(RaftError::NotInitialised)?;
        let mut metrics = member.raft.metrics();
        loop {
            let leader = member.metrics().leader;
            let why = match once(member.clone(), leader).await {
                Attempt::Done(done) => return Ok(done),
                Attempt::Failed(RaftError::Stopped(why)) => return Err(self.stopped(&member, why)),
                Attempt::Failed(e) => return Err(e),
                Attempt::Again(why) => why,
            };
            if let Some(why) = member.metrics().stopped {
                return Err(self.stopped(&member, why));
            }
            if Instant::now() >= deadline {
                return Err(RaftError::NoLeader(why));
            }
            // Whichever comes first: something changed, or time to look again.
            drop(timeout(LOOK_AGAIN, metrics.changed()).await);
        }
    }

    async fn write_once(
        &self,
        member: &Replica<TokioRuntime>,
        leader: Option<NodeId>,
        command: Command,
        deadline: Instant,
    ) -> Attempt<Applied> {
        let Some(leader) = leader else { return no_leader() };
        if leader == member.identity.node {
            return match timeout_at(deadline, member.write(command)).await {
                Ok(Ok((_, applied))) => Attempt::Done(applied),
                Ok(Err(e @ LocalError::NotLeader { .. })) => Attempt::Again(e.to_string()),
                Ok(Err(e)) => Attempt::Failed(e.into()),
                Err(_) => Attempt::Failed(RaftError::OutcomeUnknown("no majority answers".into())),
            };
        }
        let request =
            pb::WriteRequest { header: Some(header(member, leader)), command: Some((&command).into()) };
        let answer = match self.leader_client(member, leader) {
            Ok(mut client) => timeout_at(deadline, client.write(request)).await.map_err(|_| LATE),
            Err(why) => return Attempt::Again(why),
        };
        let result = match answer {
            Ok(Ok(response)) => response.into_inner().result,
            Ok(Err(status)) => return sent_write(&status),
            Err(late) => return Attempt::Failed(RaftError::OutcomeUnknown(late.into())),
        };
        match result {
            Some(pb::write_response::Result::Written(written)) => {
                match required("applied", written.applied) {
                    Ok(applied) => Attempt::Done(applied),
                    Err(e) => Attempt::Failed(RaftError::OutcomeUnknown(e.to_string())),
                }
            }
            Some(pb::write_response::Result::NotLeader(_)) => {
                Attempt::Again(format!("node {leader} no longer leads"))
            }
            None => Attempt::Failed(RaftError::OutcomeUnknown("an answer that says nothing".into())),
        }
    }

    async fn read_index_once(
        &self,
        member: &Replica<TokioRuntime>,
        leader: Option<NodeId>,
        deadline: Instant,
    ) -> Attempt<LogIndex> {
        let Some(leader) = leader else { return no_leader() };
        if leader == member.identity.node {
            return match timeout_at(deadline, member.read_index()).await {
                Ok(Ok(index)) => Attempt::Done(index),
                // A read has no effect: it can always be tried again.
                Ok(Err(e @ (LocalError::NotLeader { .. } | LocalError::NoQuorum(_)))) => {
                    Attempt::Again(e.to_string())
                }
                Ok(Err(e)) => Attempt::Failed(e.into()),
                Err(_) => Attempt::Again(LATE.into()),
            };
        }
        let request = pb::ReadIndexRequest { header: Some(header(member, leader)) };
        let answer = match self.leader_client(member, leader) {
            Ok(mut client) => timeout_at(deadline, client.read_index(request)).await,
            Err(why) => return Attempt::Again(why),
        };
        match answer {
            Ok(Ok(response)) => match response.into_inner().result {
                Some(pb::read_index_response::Result::ReadPoint(point)) => {
                    Attempt::Done(LogIndex(point.log_index))
                }
                _ => Attempt::Again(format!("node {leader} no longer leads")),
            },
            Ok(Err(status)) => harmless(&status),
            Err(_) => Attempt::Again(LATE.into()),
        }
    }

    async fn transfer_once(
        &self,
        member: &Replica<TokioRuntime>,
        leader: Option<NodeId>,
        to: NodeId,
        deadline: Instant,
    ) -> Attempt<()> {
        let Some(leader) = leader else { return no_leader() };
        if leader == to {
            return Attempt::Done(());
        }
        if leader == member.identity.node {
            return match member.move_leader(to).await {
                Ok(()) => Attempt::Done(()),
                Err(e @ LocalError::NotLeader { .. }) => Attempt::Again(e.to_string()),
                Err(e) => Attempt::Failed(e.into()),
            };
        }
        let request = pb::MoveLeaderRequest { header: Some(header(member, leader)), to: to.get() };
        let answer = match self.leader_client(member, leader) {
            Ok(mut client) => timeout_at(deadline, client.move_leader(request)).await,
            Err(why) => return Attempt::Again(why),
        };
        match answer {
            Ok(Ok(response)) => match response.into_inner().result {
                Some(pb::move_leader_response::Result::Started(_)) => Attempt::Done(()),
                _ => Attempt::Again(format!("node {leader} no longer leads")),
            },
            // Asking twice is harmless.
            Ok(Err(status)) => harmless(&status),
            Err(_) => Attempt::Again(LATE.into()),
        }
    }

    /// Why `member`, which has stopped, does nothing.
    fn stopped(&self, member: &Replica<TokioRuntime>, why: String) -> RaftError {
        if !member.was_full() {
            return RaftError::Stopped(why);
        }
        self.disk().into()
    }

    pub(super) fn leader_client(
        &self,
        member: &Replica<TokioRuntime>,
        leader: NodeId,
    ) -> Result<pb::cluster_client::ClusterClient<tonic::transport::Channel>, String> {
        let address = member.address_of(leader).ok_or_else(|| format!("node {leader} has no address"))?;
        self.pool.cluster(address).map_err(|e| e.to_string())
    }
}

pub(super) const LATE: &str = "the leader did not answer in time";

pub(super) fn no_leader<T>() -> Attempt<T> {
    Attempt::Again("no node leads, or a majority of the voters is not reachable".into())
}

pub(super) fn header(member: &Replica<TokioRuntime>, target: NodeId) -> pb::Header {
    let identity = member.identity();
    pb::Header { cluster_id: identity.cluster_id.to_vec(), sender: identity.node.get(), target: target.get() }
}

/// A write that was not answered is tried again only if it certainly had no effect.
fn sent_write<T>(status: &tonic::Status) -> Attempt<T> {
    // Its disk was full before the write reached its log: another may lead soon.
    if status.code() == tonic::Code::ResourceExhausted {
        return Attempt::Again(status.message().to_owned());
    }
    match link_error(status) {
        LinkError::Unreachable(why) => Attempt::Again(why),
        LinkError::Refused(why) => Attempt::Failed(RaftError::Refused(why)),
        LinkError::Broken(why) => Attempt::Failed(RaftError::OutcomeUnknown(why)),
    }
}

/// A request without effect is tried again unless it was refused.
pub(super) fn harmless<T>(status: &tonic::Status) -> Attempt<T> {
    match link_error(status) {
        LinkError::Refused(why) => Attempt::Failed(RaftError::Refused(why)),
        LinkError::Unreachable(why) | LinkError::Broken(why) => Attempt::Again(why),
    }
}
