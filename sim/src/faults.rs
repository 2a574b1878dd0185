//! What goes wrong, and what operators do meanwhile: one random step after another.

mod network;

use std::sync::Arc;

use lockstep_model::command::{Change, Command};
use lockstep_model::ids::{Epoch, NodeId};
use lockstep_model::intent::{ClusterSettings, LeaseProfile};

use lockstep_raft_store::replica::Replica;
use openraft::AsyncRuntime;
use openraft_rt_sim::SimRuntime;

use crate::net::{address, now_ns};
use crate::world::{Event, MS, World, group_addresses, group_spec};

/// What a schedule is about: how often each fault or change comes, in parts of all.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Focus {
    weights: [u64; FAULTS.len()],
    /// Steps follow each other within this, on average half of it; in the unit in which faults last.
    pub(crate) pause_percent: u64,
    /// There are nodes without a vote at the beginning.
    pub(crate) grows: bool,
}

/// In the order of the weights.
const FAULTS: [fn(&mut World, NodeId, u64); 15] = [
    |world, _, _| world.assign_anything(),
    World::pause_for,
    World::restart,
    World::cut_something,
    |world, node, _| world.with_daemon(node, |participant, now| participant.surrender(now)),
    World::drain_for,
    |world, node, _| world.move_leadership(node),
    |world, _, _| world.move_an_address(),
    |world, node, _| world.change_membership(node),
    |world, _, _| world.change_lease(),
    |world, _, _| world.hold_raft_up(),
    |world, _, unit| world.black_out(unit),
    |world, _, unit| world.split(unit),
    World::hold_news_up,
    |world, _, _| world.forget_a_vote(),
];

/// A bit of everything; leases that are lost and given away in quick succession; addresses that move; voters that come and
/// go, and again while nodes hear late of what is applied and the network falls apart; votes.
pub(crate) const FOCUSES: [Focus; 6] = [
    Focus { weights: [20, 12, 14, 20, 6, 6, 6, 5, 7, 1, 1, 2, 3, 3, 1], pause_percent: 200, grows: false },
    Focus { weights: [42, 12, 22, 14, 4, 0, 2, 0, 0, 2, 2, 0, 0, 0, 0], pause_percent: 70, grows: false },
    Focus { weights: [10, 8, 8, 10, 2, 4, 4, 40, 0, 0, 12, 2, 0, 0, 0], pause_percent: 200, grows: false },
    Focus { weights: [22, 8, 10, 18, 0, 0, 4, 0, 34, 0, 3, 1, 0, 0, 0], pause_percent: 120, grows: false },
    Focus { weights: [30, 2, 2, 4, 0, 0, 2, 0, 34, 0, 0, 0, 16, 16, 0], pause_percent: 150, grows: true },
    Focus { weights: [10, 4, 8, 8, 0, 0, 10, 0, 0, 0, 0, 2, 4, 0, 24], pause_percent: 400, grows: false },
];

impl World {
    /// One random fault or change. `unit_ns`: in which faults last.
    pub(crate) fn disturb(&mut self, focus: Focus, unit_ns: u64) {
        let ids = self.ids();
        let node = *self.rng.pick(&ids);
        let mut drawn = self.rng.below(focus.weights.iter().sum());
        for (weight, fault) in focus.weights.iter().zip(FAULTS) {
            if drawn < *weight {
                return fault(self, node, unit_ns);
            }
            drawn -= weight;
        }
    }

    fn pause_for(&mut self, node: NodeId, unit_ns: u64) {
        let longest = *self.rng.pick(&[3, 3, 12]) * unit_ns;
        let until = now_ns() + self.rng.below(longest);
        self.pause(node, until);
    }

    /// What a node has applied is known to its lease thread only later; what it has appended is known at once.
    fn hold_news_up(&mut self, node: NodeId, unit_ns: u64) {
        let longest = *self.rng.pick(&[2, 8, 40]) * unit_ns;
        let until = now_ns() + self.rng.below(longest);
        self.net.note(format_args!("node {node} hears of nothing applied until {until}"));
        self.net.lock().hold_news(node, until);
    }

    fn restart(&mut self, node: NodeId, unit_ns: u64) {
        let power = self.rng.percent(40);
        self.stop(node, power);
        let longest = *self.rng.pick(&[1, 1, 4]) * unit_ns;
        let back = self.rng.below(longest);
        self.after(back, Event::Start { node });
    }

    /// Power fails everywhere at once.
    fn black_out(&mut self, unit_ns: u64) {
        for node in self.ids() {
            self.stop(node, true);
            let back = self.rng.below(unit_ns);
            self.after(back, Event::Start { node });
        }
    }

    /// Nodes that lost power at a moment of the network's choice come back.
    pub(crate) fn take_power_cuts(&mut self) {
        let cuts = std::mem::take(&mut self.net.lock().power_cuts);
        for node in cuts {
            self.stop(node, true);
            let back = self.rng.below(100 * MS);
            self.after(back, Event::Start { node });
        }
    }

    /// Whoever leads gives any group to any node, on the view of some node.
    fn assign_anything(&mut self) {
        let ids = self.ids();
        let (view, to) = (*self.rng.pick(&ids), *self.rng.pick(&ids));
        let Some(daemon) = self.nodes.get(&view).and_then(|n| n.daemon.as_ref()) else { return };
        let state = daemon.published.state.clone();
        let groups: Vec<_> = state.groups.iter().collect();
        if groups.is_empty() {
            return;
        }
        let (group, known) = *self.rng.pick(&groups);
        let replaces = known.assignment.map_or(Epoch(0), |a| a.epoch);
        let leaders: Vec<NodeId> = self.raft_leaders();
        if !leaders.is_empty() {
            let leader = *self.rng.pick(&leaders);
            self.propose(leader, Command::Assign { group: *group, replaces, node: to });
        }
    }

    fn drain_for(&mut self, node: NodeId, unit_ns: u64) {
        self.drain(node, true);
        let back = self.rng.below(4 * unit_ns);
        self.after(back, Event::Undrain { node });
    }

    fn move_leadership(&mut self, to: NodeId) {
        if let Some(leader) = self.raft_leader().and_then(|id| self.replica(id)) {
            self.net.note(format_args!("leadership is to go to node {to}"));
            // Refused if it leads no more, which changes nothing.
            drop(SimRuntime::spawn(async move { drop(leader.move_leader(to).await) }));
        }
    }

    /// The second address of a group goes to another group, or back.
    fn move_an_address(&mut self) {
        let Some(leader) = self.raft_leader() else { return };
        let Some(daemon) = self.nodes.get(&leader).and_then(|n| n.daemon.as_ref()) else { return };
        let groups = daemon.published.state.groups.len();
        if groups < 2 {
            return;
        }
        let all: Vec<usize> = (0..groups).collect();
        let (from, to) = (*self.rng.pick(&all), *self.rng.pick(&all));
        let changes = all
            .iter()
            .map(|group| {
                let [first, second] = group_addresses(*group);
                let mut addresses = vec![first];
                if *group == to {
                    addresses.push(group_addresses(from)[1]);
                }
                if *group != from && *group != to {
                    addresses.push(second);
                }
                Change::UpsertGroup(group_spec(*group, addresses))
            })
            .collect();
        self.propose(leader, Command::Change { expected: None, changes });
    }

    /// Makes a node a voter, or takes its vote.
    fn change_membership(&mut self, node: NodeId) {
        let Some(leader) = self.raft_leader().and_then(|id| self.replica(id)) else { return };
        let voters = leader.voters();
        let joins = !voters.contains(&node);
        // Nobody is left alone: what a sole voter may do is another protocol.
        if !joins && voters.len() <= 2 {
            return;
        }
        if joins {
            return self.join(leader, node);
        }
        let net = self.net.clone();
        drop(SimRuntime::spawn(async move {
            let removed = leader.remove(node).await;
            net.note(format_args!("node {node} removed: {removed:?}"));
        }));
    }

    /// Gives a node a vote. Refused, for instance, while another change is under way.
    pub(crate) fn join(&mut self, leader: Arc<Replica<SimRuntime>>, node: NodeId) {
        let net = self.net.clone();
        drop(SimRuntime::spawn(async move {
            let added = leader.add_learner(node, address(node)).await;
            let promoted = if added.is_ok() { leader.promote(node).await } else { added };
            net.note(format_args!("node {node} joined: {promoted:?}"));
        }));
    }

    fn change_lease(&mut self) {
        let Some(leader) = self.raft_leader() else { return };
        let lease = *self.rng.pick(&[LeaseProfile::Fast, LeaseProfile::Lan]);
        let settings = ClusterSettings { lease, ..ClusterSettings::default() };
        let changes = vec![Change::SetCluster(settings)];
        self.propose(leader, Command::Change { expected: None, changes });
    }
}
