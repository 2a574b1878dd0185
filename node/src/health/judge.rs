//! The leader's part: from what the nodes report to verdicts. Pure; time comes in.
//!
//! An endpoint is up, or down, when more than half of the nodes say so that probed it within three intervals (of
//! two, both). A node that has reported nothing yet may still contradict: it counts, as undecided, until three
//! intervals after it could first have spoken. So a new leader, which knows nothing, changes nothing.
//! Without a majority the verdict stays what it is.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use lockstep_model::health::{Failure, Judgement};
use lockstep_model::ids::{EndpointId, NodeId};
use lockstep_model::intent::NodeRole;
use lockstep_model::state::State;

use super::view::window;

/// What a node reports of one endpoint that it has probed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Reported {
    pub(crate) endpoint: EndpointId,
    /// How long ago the last probe ended.
    pub(crate) age: Duration,
    pub(crate) opinion: Option<bool>,
    pub(crate) failure: Option<Failure>,
}

#[derive(Debug, Clone, Copy)]
struct Heard {
    last: Instant,
    opinion: Option<bool>,
    failure: Option<Failure>,
}

/// What the nodes have reported since this node leads.
#[derive(Debug)]
pub(crate) struct Judge {
    since: Instant,
    reports: BTreeMap<NodeId, BTreeMap<EndpointId, Heard>>,
    /// When nodes and endpoints were first seen in the agreed state.
    nodes: BTreeMap<NodeId, Instant>,
    endpoints: BTreeMap<EndpointId, Instant>,
}

/// Who says what of an endpoint.
#[derive(Debug, Default)]
struct Votes {
    up: BTreeSet<NodeId>,
    down: BTreeSet<NodeId>,
    undecided: usize,
    failure: Option<(Instant, Failure)>,
}

impl Votes {
    /// What a majority says, and who.
    fn decided(&self) -> Option<(bool, &BTreeSet<NodeId>)> {
        let voters = self.up.len() + self.down.len() + self.undecided;
        let most = |said: &BTreeSet<NodeId>| said.len() * 2 > voters;
        match (most(&self.up), most(&self.down)) {
            (true, _) => Some((true, &self.up)),
            (_, true) => Some((false, &self.down)),
            _ => None,
        }
    }
}

impl Judge {
    /// A leader's, at the beginning.
    pub(crate) fn new(now: Instant) -> Self {
        Judge { since: now, reports: BTreeMap::new(), nodes: BTreeMap::new(), endpoints: BTreeMap::new() }
    }

    /// Takes in everything that a node sees; what it said before is replaced.
    pub(crate) fn report(&mut self, now: Instant, node: NodeId, views: Vec<Reported>) {
        let heard = |view: Reported| {
            let last = now.checked_sub(view.age)?;
            Some((view.endpoint, Heard { last, opinion: view.opinion, failure: view.failure }))
        };
        self.reports.insert(node, views.into_iter().filter_map(heard).collect());
    }

    /// Where a majority contradicts what the cluster holds.
    pub(crate) fn judge(&mut self, now: Instant, state: &State) -> Vec<Judgement> {
        self.follow(now, state);
        let mut judgements = Vec::new();
        for (id, service) in &state.services {
            let Some(check) = &service.spec.health else { continue };
            for (endpoint, _) in service.probed() {
                let votes = self.votes(now, endpoint, window(check));
                let Some((up, nodes)) = votes.decided() else { continue };
                if service.verdicts.get(&endpoint).is_some_and(|verdict| verdict.up == up) {
                    continue;
                }
                judgements.push(Judgement {
                    service: *id,
                    revision: service.revision,
                    endpoint,
                    up,
                    failure: votes.failure.map(|(_, failure)| failure).filter(|_| !up),
                    nodes: nodes.clone(),
                });
            }
        }
        judgements
    }

    /// What each node says of an endpoint, for people: those that may vote.
    pub(crate) fn opinions(&self, endpoint: EndpointId) -> BTreeMap<NodeId, Option<bool>> {
        let said = |(node, views): (&NodeId, &BTreeMap<EndpointId, Heard>)| {
            Some((*node, views.get(&endpoint)?.opinion))
        };
        self.reports.iter().filter_map(said).collect()
    }

    /// Forgets what is no more, and notes what is new.
    fn follow(&mut self, now: Instant, state: &State) {
        let carries = |id: &NodeId| state.nodes.get(id).is_some_and(|n| n.role == NodeRole::Dataplane);
        self.nodes.retain(|id, _| carries(id));
        self.reports.retain(|id, _| carries(id));
        for id in state.nodes.keys().filter(|id| carries(id)) {
            self.nodes.entry(*id).or_insert(now);
        }
        let probed: BTreeSet<EndpointId> =
            state.services.values().flat_map(|s| s.probed().map(|(id, _)| id)).collect();
        self.endpoints.retain(|id, _| probed.contains(id));
        for id in probed {
            self.endpoints.entry(id).or_insert(now);
        }
    }

    fn votes(&self, now: Instant, endpoint: EndpointId, window: Duration) -> Votes {
        let mut votes = Votes::default();
        let recent = |at: Instant| now.duration_since(at) <= window;
        let known = self.endpoints.get(&endpoint).copied().unwrap_or(now);
        for (node, joined) in &self.nodes {
            let heard = self.reports.get(node).and_then(|views| views.get(&endpoint));
            match heard.filter(|heard| recent(heard.last)) {
                Some(Heard { opinion: Some(true), .. }) => drop(votes.up.insert(*node)),
                Some(Heard { opinion: Some(false), last, failure }) => {
                    votes.down.insert(*node);
                    let newest = votes.failure.is_none_or(|(at, _)| at < *last);
                    votes.failure = failure.map(|f| (*last, f)).filter(|_| newest).or(votes.failure);
                }
                Some(Heard { opinion: None, .. }) => votes.undecided += 1,
                None if recent(self.since.max(*joined).max(known)) => votes.undecided += 1,
                None => {}
            }
        }
        votes
    }
}

#[cfg(test)]
mod tests;
