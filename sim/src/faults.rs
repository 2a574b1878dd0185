//! What goes wrong, and what operators do meanwhile: one random step after another.

use std::sync::Arc;

use lockstep_model::command::{Change, Command};
use lockstep_model::ids::{Epoch, NodeId};
use lockstep_model::intent::{ClusterSettings, LeaseProfile};

use lockstep_raft_store::replica::Replica;
use openraft::AsyncRuntime;
use openraft_rt_sim::SimRuntime;

use crate::net::{Channel, address, now_ns};
use crate::world::{Event, MS, World, group_addresses, group_spec};

const BOTH: &[Channel] = &[Channel::Raft, Channel::Lease];

/// What a schedule is about: how often each fault or change comes, in parts of all.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Focus {
    weights: [u64; 12],
    /// Steps follow each other within this, on average half of it; in the unit in which faults last.
    pub(crate) pause_percent: u64,
}

/// In the order of the weights.
const FAULTS: [fn(&mut World, NodeId, u64); 12] = [
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
];

/// A bit of everything; leases that are lost and given away in quick succession; addresses that move; voters
/// that come and go.
pub(crate) const FOCUSES: [Focus; 4] = [
    Focus { weights: [20, 12, 14, 20, 6, 6, 6, 5, 7, 1, 1, 2], pause_percent: 200 },
    Focus { weights: [42, 12, 22, 14, 4, 0, 2, 0, 0, 2, 2, 0], pause_percent: 70 },
    Focus { weights: [10, 8, 8, 10, 2, 4, 4, 40, 0, 0, 12, 2], pause_percent: 200 },
    Focus { weights: [22, 8, 10, 18, 0, 0, 4, 0, 34, 0, 3, 1], pause_percent: 120 },
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

    /// Raft gets nothing through, while leases are renewed.
    fn hold_raft_up(&mut self) {
        let until = now_ns() + self.rng.below(4000) * MS;
        self.net.note(format_args!("Raft is held up until {until}"));
        let ids = self.ids();
        let mut net = self.net.lock();
        for from in &ids {
            for to in &ids {
                net.cut(Channel::Raft, *from, *to, until);
            }
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

    /// One way, both ways, or a whole node; Raft, leases, or both.
    fn cut_something(&mut self, node: NodeId, unit_ns: u64) {
        let until_ns = now_ns() + unit_ns + self.rng.below(3 * unit_ns);
        let ids = self.ids();
        let channels = *self.rng.pick(&[BOTH, BOTH, &BOTH[..1], &BOTH[1..]]);
        let alone = self.rng.percent(50);
        let (out, back) = *self.rng.pick(&[(true, true), (true, false), (false, true)]);
        let others: Vec<NodeId> = if alone { ids } else { vec![*self.rng.pick(&ids)] };
        self.net.note(format_args!(
            "cut {channels:?} of node {node} and {others:?}, out {out}, back {back}, until {until_ns}"
        ));
        let mut net = self.net.lock();
        for other in others.into_iter().filter(|other| *other != node) {
            for channel in channels {
                if out {
                    net.cut(*channel, node, other, until_ns);
                }
                if back {
                    net.cut(*channel, other, node, until_ns);
                }
            }
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

    /// Loss and delay from now on.
    pub(crate) fn weather(&mut self) {
        let mut net = self.net.lock();
        net.loss_percent = *self.rng.pick(&[0, 0, 2, 8, 20]);
        net.late_percent = if net.loss_percent > 0 { 6 } else { *self.rng.pick(&[0, 3]) };
        net.power_after_vote_percent = *self.rng.pick(&[0, 0, 40]);
        net.long_delay_ns = *self.rng.pick(&[20, 100, 300]) * MS;
    }
}
