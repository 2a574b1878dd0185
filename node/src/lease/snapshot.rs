//! What the lease thread shows of itself: published now and then, read without disturbing it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use lockstep_model::ids::{GroupId, NodeId};
use lockstep_ownership::failover::FailoverRecord;
use lockstep_ownership::leader::{Ineligible, Standing};
use lockstep_ownership::membership::Membership;
use lockstep_ownership::message::Tenure;
use lockstep_ownership::owner::Until;
use lockstep_ownership::participant::Participant;
use lockstep_ownership::status::Flows;
use lockstep_ownership::time::Instant;

use super::counters::{self, Counters};

/// Takeovers remembered.
pub(super) const MAX_FAILOVERS: usize = 64;

/// A node that has reported within this is heard: several reports of the slowest profile.
const LATELY: Duration = Duration::from_secs(1);

/// How a node stands for a group, or why it cannot be chosen.
pub(crate) type StandingOf = (NodeId, Result<(Standing, Flows), Ineligible>);

/// The thread at one moment.
#[derive(Debug, Clone, Default)]
pub(crate) struct Snapshot {
    /// Leases that are in the kernel and have not ended.
    pub(crate) held: Vec<Tenure>,
    /// This node's tenures.
    pub(crate) claims: Vec<ClaimStatus>,
    /// How each node stands for each group, from the reports that this node gets.
    pub(crate) standings: BTreeMap<GroupId, Vec<StandingOf>>,
    /// Nodes whose reports have come lately, over the network.
    pub(crate) reporting: Vec<NodeId>,
    /// The newest takeovers by this node, oldest first.
    pub(crate) failovers: Arc<VecDeque<FailoverRecord>>,
    /// Nothing is claimed and nothing is left to give back.
    pub(crate) idle: bool,
    /// Counters of datagrams and leases.
    pub(crate) counters: Vec<(String, u64)>,
    /// Counters of decisions.
    pub(crate) leader_counters: Vec<(String, u64)>,
}

/// One tenure of this node.
#[derive(Debug, Clone)]
pub(crate) struct ClaimStatus {
    pub(crate) tenure: Tenure,
    pub(crate) until: Option<Until>,
    /// By voter, when its promise ends.
    pub(crate) promises: BTreeMap<NodeId, Instant>,
}

impl Snapshot {
    pub(super) fn of(
        now: Instant,
        participant: &Participant,
        held: Vec<Tenure>,
        failovers: Arc<VecDeque<FailoverRecord>>,
        counters: &Counters,
    ) -> Self {
        let (owner, log) = (participant.owner(), participant.log());
        let claim =
            |(tenure, _, until)| ClaimStatus { tenure, until, promises: owner.promises(tenure).collect() };
        let standings = log.view().groups.iter().map(|(group, view)| {
            let nodes = log.view().nodes.keys();
            let standing = |n: &NodeId| (*n, participant.leader().standing(now, *n, *group, view, log));
            (*group, nodes.map(standing).collect())
        });
        let voters = log.membership().map(Membership::voters).unwrap_or_default();
        let known = log.view().nodes.keys().copied().chain(voters);
        let lately = |n: &NodeId| participant.leader().report(now, *n).is_some_and(|(_, age)| age < LATELY);
        Snapshot {
            reporting: known.filter(lately).collect(),
            held,
            claims: owner.claims().map(claim).collect(),
            standings: standings.collect(),
            failovers,
            idle: owner.is_idle(),
            counters: counters.all(participant),
            leader_counters: counters::of_leader(participant),
        }
    }
}
