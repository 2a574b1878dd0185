//! What must never happen, whatever the schedule. The oracle sees all nodes at once, and true time.

use std::collections::BTreeMap;
use std::sync::Arc;

use lockstep_model::ids::{Epoch, GroupId, NodeId};
use lockstep_model::state::State;
use lockstep_ownership::message::Tenure;
use lockstep_raft_store::state_machine::Published;

use crate::node::Node;

/// All that was seen.
#[derive(Default)]
pub struct Oracle {
    /// The state after each index, as the first node to apply it had it.
    states: BTreeMap<u64, Arc<State>>,
    /// By log index, the rule that a client was told is there.
    acknowledged: BTreeMap<u64, String>,
    /// The newest index that any client knows of.
    known: u64,
    /// The highest epoch under which a group's lease was opened.
    opened: BTreeMap<GroupId, Epoch>,
    violation: Option<String>,
    /// Leases opened.
    pub leases_opened: u64,
    /// Reads answered.
    pub reads: u64,
}

impl Oracle {
    /// The first thing that must not happen and did.
    pub fn violation(&self) -> Option<&str> {
        self.violation.as_deref()
    }

    /// Notes a violation. The first one counts.
    pub fn violate(&mut self, what: String) {
        self.violation.get_or_insert(what);
    }

    /// How many writes clients know to be durable.
    pub fn writes(&self) -> u64 {
        self.acknowledged.len() as u64
    }

    /// What a client that asks now must at least see.
    pub fn known(&self) -> u64 {
        self.known
    }

    /// A client was told that a rule was written at `index`; when it asked, `known` had been told already.
    pub fn note_write(&mut self, index: u64, rule: String, known: u64) {
        if index <= known {
            self.violate(format!("I2: a write got index {index}, after index {known} was acknowledged"));
        }
        self.known = self.known.max(index);
        if let Some((at, state)) = self.states.range(index..).next()
            && state.snat_rule(&rule).is_none()
        {
            let what = format!("I1: {rule} was acknowledged at {index}, but is not in the state at {at}");
            self.violate(what);
        }
        self.acknowledged.insert(index, rule);
    }

    /// A client was shown the state at `index`; when it asked, `known` had been told already.
    pub fn note_read(&mut self, index: u64, known: u64) {
        self.reads += 1;
        if index < known {
            self.violate(format!("I2: a read saw index {index}, after index {known} was acknowledged"));
        }
        self.known = self.known.max(index);
    }

    /// A node has applied more.
    pub fn note_state(&mut self, node: NodeId, published: &Published) {
        let Some(applied) = published.applied else { return };
        let (index, state) = (applied.get(), &published.state);
        if let Some(known) = self.states.get(&index) {
            if !Arc::ptr_eq(known, state) && known != state {
                self.violate(format!("I1: node {node} and another differ at index {index}"));
            }
            return;
        }
        for (at, rule) in self.acknowledged.range(..=index) {
            if state.snat_rule(rule).is_none() {
                let what =
                    format!("I1: {rule}, acknowledged at {at}, is not in node {node}'s state at {index}");
                return self.violate(what);
            }
        }
        let earlier = self.states.range(..index).next_back();
        let later = self.states.range(index..).next();
        let falls = |a: &State, b: &State| {
            let epoch = |s: &State, group| s.groups.get(group).and_then(|g| g.assignment).map(|a| a.epoch);
            a.groups.keys().find(|g| b.groups.contains_key(g) && epoch(b, g) < epoch(a, g)).copied()
        };
        let fell = earlier.and_then(|(_, s)| falls(s, state)).or(later.and_then(|(_, s)| falls(state, s)));
        if let Some(group) = fell {
            self.violate(format!("epochs: group {group}'s epoch falls around index {index}"));
        }
        self.states.insert(index, state.clone());
    }

    /// A kernel lease was opened or extended, or an address was given to a group that has one.
    pub fn note_kernel(&mut self, now_ns: u64, nodes: &BTreeMap<NodeId, Node>, changed: NodeId) {
        let mine = &nodes[&changed].kernel;
        for (other, node) in nodes.iter().filter(|(id, _)| **id != changed) {
            for (group, (tenure, end)) in &mine.leases {
                if *end > now_ns
                    && let Some((theirs, until)) = node.kernel.leases.get(group)
                    && *until > now_ns
                {
                    let what = format!(
                        "I3: at {now_ns} ns node {changed} holds {tenure:?} until {end} ns, while node {other} holds {theirs:?} until {until} ns"
                    );
                    return self.violate(what);
                }
            }
            for address in mine.addresses.keys() {
                let (own, others) = (mine.forwards_until(address), node.kernel.forwards_until(address));
                if own.is_some_and(|end| end > now_ns) && others.is_some_and(|end| end > now_ns) {
                    let (a, b) = (mine.addresses[address], node.kernel.addresses[address]);
                    let what = format!(
                        "I3: at {now_ns} ns node {changed} serves {address} for group {a}, while node {other} serves it for group {b}"
                    );
                    return self.violate(what);
                }
            }
        }
    }

    /// A lease was opened that was not held just before.
    pub fn note_opened(&mut self, node: NodeId, tenure: Tenure) {
        self.leases_opened += 1;
        let highest = self.opened.entry(tenure.group).or_default();
        if tenure.epoch < *highest {
            let what = format!("epochs: node {node} opened {tenure:?} after epoch {highest} had been opened");
            return self.violate(what);
        }
        *highest = tenure.epoch;
    }
}
