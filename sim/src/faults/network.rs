//! What goes wrong between the nodes.

use lockstep_model::ids::NodeId;

use crate::net::{Channel, now_ns};
use crate::world::{MS, World};

const BOTH: &[Channel] = &[Channel::Raft, Channel::Lease];
/// A candidate that is cut off the moment it is elected stays so for up to this.
const ELECTED_ALONE_NS: u64 = 4000 * MS;

impl World {
    /// Raft gets nothing through, while leases are renewed.
    pub(super) fn hold_raft_up(&mut self) {
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

    /// One way, both ways, or a whole node; Raft, leases, or both.
    pub(super) fn cut_something(&mut self, node: NodeId, unit_ns: u64) {
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

    /// The network falls into two parts. A part without a majority of voters may keep its leases for a while.
    pub(super) fn split(&mut self, unit_ns: u64) {
        let until_ns = now_ns() + unit_ns + self.rng.below(8 * unit_ns);
        let channels = *self.rng.pick(&[BOTH, &BOTH[..1], &BOTH[..1]]);
        let (one, other): (Vec<NodeId>, Vec<NodeId>) =
            self.ids().into_iter().partition(|_| self.rng.percent(50));
        self.net.note(format_args!("cut {channels:?} between {one:?} and {other:?} until {until_ns}"));
        let mut net = self.net.lock();
        for channel in channels {
            for (a, b) in one.iter().flat_map(|a| other.iter().map(move |b| (*a, *b))) {
                net.cut(*channel, a, b, until_ns);
                net.cut(*channel, b, a, until_ns);
            }
        }
    }

    /// The leader is cut off, so that another is elected; who votes for that one first loses power at once, and comes back
    /// when the former leader does, while the new one is cut off in its turn.
    pub(super) fn forget_a_vote(&mut self) {
        let Some(leader) = self.raft_leader() else { return };
        let until_ns = now_ns() + 300 * MS + self.rng.below(1200 * MS);
        let alone_ns = 200 * MS + self.rng.below(ELECTED_ALONE_NS);
        self.net
            .note(format_args!("cut Raft of leader {leader} until {until_ns} or until another is elected"));
        let ids = self.ids();
        let mut net = self.net.lock();
        for other in ids.iter().filter(|id| **id != leader) {
            net.cut(Channel::Raft, leader, *other, until_ns);
            net.cut(Channel::Raft, *other, leader, until_ns);
        }
        net.elected_alone_ns = Some(alone_ns);
    }

    /// Loss and delay from now on.
    pub(crate) fn weather(&mut self) {
        let mut net = self.net.lock();
        net.loss_percent = *self.rng.pick(&[0, 0, 2, 8, 20]);
        net.late_percent = if net.loss_percent > 0 { 6 } else { *self.rng.pick(&[0, 3]) };
        net.repeat_percent = *self.rng.pick(&[0, net.loss_percent / 3, 30]);
        net.power_after_vote_percent = *self.rng.pick(&[0, 0, 40]);
        net.long_delay_ns = *self.rng.pick(&[20, 100, 300]) * MS;
    }
}
