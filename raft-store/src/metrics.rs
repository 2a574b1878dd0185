//! How Raft is doing, for people and for decisions that need no certainty.

use std::collections::{BTreeMap, BTreeSet};

use lockstep_model::ids::{LogIndex, NodeId};
use openraft::{AsyncRuntime, RaftMetrics, ServerState};

use crate::observer::MembershipId;
use crate::types::Types;

/// What this node is to Raft.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Role {
    /// Belongs to no cluster, or Raft has stopped.
    #[default]
    Down,
    /// Receives the log without a vote.
    Learner,
    /// Votes.
    Follower,
    /// Asks for votes.
    Candidate,
    /// Leads.
    Leader,
}

/// A snapshot of Raft's condition.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Metrics {
    /// What this node is.
    pub role: Role,
    /// The current term.
    pub term: u64,
    /// Who leads, as far as this node knows.
    pub leader: Option<NodeId>,
    /// Index of the last entry in the log; 0 before the first.
    pub last_log: u64,
    /// Index of the last entry known to be committed.
    pub committed: u64,
    /// Index of the entry applied last.
    pub applied: u64,
    /// Index of the last entry in the newest snapshot.
    pub snapshot: u64,
    /// Index of the last entry no longer in the log.
    pub purged: u64,
    /// Voters of the newest membership, all halves of a joint one together.
    pub voters: BTreeSet<NodeId>,
    /// Those that receive the log without a vote.
    pub learners: BTreeSet<NodeId>,
    /// Whether the membership is on its way from one set of voters to another.
    pub joint: bool,
    /// Which entry made it.
    pub membership: Option<MembershipId>,
    /// On the leader: up to where each node's log is known to match.
    pub matched: BTreeMap<NodeId, Option<LogIndex>>,
    /// Why Raft has stopped. It acknowledges nothing more until the daemon is restarted.
    pub stopped: Option<String>,
}

impl Metrics {
    pub(crate) fn of<RT: AsyncRuntime>(m: &RaftMetrics<Types<RT>>) -> Metrics {
        let index = |id: &Option<crate::types::LogId>| id.map_or(0, |id| id.index);
        Metrics {
            role: match m.state {
                ServerState::Learner => Role::Learner,
                ServerState::Follower => Role::Follower,
                ServerState::Candidate => Role::Candidate,
                ServerState::Leader => Role::Leader,
                ServerState::Shutdown => Role::Down,
            },
            term: m.current_term,
            leader: m.current_leader.map(NodeId),
            last_log: m.last_log_index.unwrap_or(0),
            committed: index(&m.local_committed),
            applied: index(&m.last_applied),
            snapshot: index(&m.snapshot),
            purged: index(&m.purged),
            voters: m.membership_config.voter_ids().map(NodeId).collect(),
            learners: m.membership_config.membership().learner_ids().map(NodeId).collect(),
            joint: m.membership_config.membership().get_joint_config().len() > 1,
            membership: m.membership_config.log_id().map(MembershipId::from),
            matched: m
                .replication
                .iter()
                .flatten()
                .map(|(id, at)| (NodeId(*id), at.map(|l| LogIndex(l.index))))
                .collect(),
            stopped: m.running_state.as_ref().err().map(ToString::to_string),
        }
    }
}
