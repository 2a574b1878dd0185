//! Events in their order: what daemons are told, what they put out, and the network between them.

use std::cmp::Reverse;

use lockstep_model::ids::NodeId;
use lockstep_ownership::identity::Identity;
use lockstep_ownership::message::{Message, Tenure};
use lockstep_ownership::owner::Until;
use lockstep_ownership::participant::{Output, Participant};

use super::{CLOCK_STEP, Event, FOREVER, MS, World};
use crate::raft::Item;

impl World {
    pub(super) fn with_daemon(
        &mut self,
        id: NodeId,
        f: impl FnOnce(&mut Participant, lockstep_ownership::time::Instant),
    ) {
        if let Some(node) = self.nodes.get_mut(&id)
            && let Some(daemon) = node.daemon.as_mut()
        {
            f(daemon, node.clock.local(self.now));
            self.drain(id);
        }
    }

    /// Runs until `until`, or a violation.
    pub(crate) fn run(&mut self, until: u64) {
        while let Some(Reverse((time, key))) = self.queue.peek().copied() {
            if time > until || self.violation.is_some() {
                break;
            }
            self.queue.pop();
            self.now = self.now.max(time);
            if let Some(event) = self.events[key].take() {
                self.handle(time, event);
            }
        }
        self.now = self.now.max(until);
    }

    fn handle(&mut self, time: u64, event: Event) {
        let id = match &event {
            Event::Deliver { to, .. } => *to,
            Event::Timer { node }
            | Event::Flushed { node, .. }
            | Event::Closed { node, .. }
            | Event::Commit { node, .. }
            | Event::Start { node, .. }
            | Event::Propose { node, .. } => *node,
        };
        let node = &self.nodes[&id];
        if node.paused_until > self.now && !matches!(event, Event::Start { .. }) {
            // When it wakes, what has piled up comes in any order.
            let (wakes, timer) = (node.paused_until, matches!(event, Event::Timer { .. }));
            let later = wakes + self.rng.below(MS);
            if timer {
                self.nodes.get_mut(&id).expect("it was there above").timer_at = later;
            }
            self.at(later, event);
            return;
        }
        match event {
            Event::Deliver { to, from, message } => {
                self.with_daemon(to, |daemon, now| daemon.handle_message(now, from, message));
            }
            Event::Timer { node: id } => {
                if self.nodes[&id].timer_at == time {
                    self.nodes.get_mut(&id).expect("it was there above").timer_at = FOREVER;
                    self.with_daemon(id, |daemon, now| daemon.handle_timeout(now));
                }
            }
            Event::Flushed { node, run, tenure } if self.nodes[&node].me == run => {
                self.with_daemon(node, |daemon, now| daemon.handle_flushed(now, tenure));
            }
            Event::Closed { node, run, tenure } if self.nodes[&node].me == run => {
                self.with_daemon(node, |daemon, now| daemon.handle_closed(now, tenure));
            }
            Event::Flushed { .. } | Event::Closed { .. } => {}
            Event::Commit { node, up_to } => self.commit(node, up_to),
            Event::Start { node, reboot } => self.start(node, reboot),
            Event::Propose { node, item } => {
                self.propose(node, item, 100);
            }
        }
    }

    /// Carries out what a daemon wants, and sets its timer.
    pub(super) fn drain(&mut self, id: NodeId) {
        loop {
            let node = self.nodes.get_mut(&id).expect("ids come from the map");
            let Some(daemon) = node.daemon.as_mut() else { return };
            let Some(output) = daemon.poll_output() else { break };
            self.carry_out(id, output);
        }
        let late = if self.rng.percent(10) { self.rng.below(3 * MS) } else { 0 };
        let now = self.now;
        let node = self.nodes.get_mut(&id).expect("ids come from the map");
        let deadline = node.daemon.as_ref().and_then(Participant::next_deadline);
        let Some(at) = deadline.map(|d| node.clock.real(d).max(now + 1) + late) else { return };
        if at < node.timer_at {
            node.timer_at = at;
            self.at(at, Event::Timer { node: id });
        }
    }

    fn carry_out(&mut self, id: NodeId, output: Output) {
        let run = self.nodes[&id].me;
        match output {
            Output::Send { to, message } => self.send(run, to, message),
            Output::SetLease { tenure, until, first } => self.set_lease(id, tenure, until, first),
            Output::CloseLease(tenure) => {
                // A program that has read the lease just before may still forward until the grace period ends.
                let closed = self.now + self.rng.below(3 * MS);
                if let Some(until) = self.nodes.get_mut(&id).and_then(|n| n.kernel.get_mut(&tenure.group)) {
                    *until = (*until).min(closed);
                }
                self.at(closed, Event::Closed { node: id, run, tenure });
            }
            Output::Flush { tenure, .. } => {
                let flushed = self.now + self.rng.below(20 * MS);
                self.at(flushed, Event::Flushed { node: id, run, tenure });
            }
            Output::Assign { group, replaces, node, .. } if self.governed => {
                self.at(
                    self.now + 1,
                    Event::Propose { node: id, item: Item::Assign { group, replaces, node } },
                );
            }
            Output::TransferLeader(to) if self.governed => {
                self.at(self.now + 1, Event::Propose { node: to, item: Item::Blank });
            }
            Output::Campaign { .. } if self.governed => {
                self.at(self.now + 1, Event::Propose { node: id, item: Item::Blank });
            }
            Output::Assign { .. }
            | Output::SetReplicas { .. }
            | Output::TransferLeader(_)
            | Output::Campaign { .. }
            | Output::IntentStale(_)
            | Output::Failover(_) => {}
        }
    }

    fn set_lease(&mut self, id: NodeId, tenure: Tenure, until: Until, first: bool) {
        let now = self.now;
        let Until::At(until) = until else {
            self.violation = Some(format!("node {id} took an unbounded lease of {tenure:?}"));
            return;
        };
        // The kernel's clock may show a reading this old.
        let end = self.nodes[&id].clock.real(until + CLOCK_STEP);
        if end <= now {
            return;
        }
        self.leases_opened += u64::from(first);
        for (other, node) in &self.nodes {
            if let Some(held) = node.kernel.get(&tenure.group)
                && *other != id
                && *held > now
            {
                self.violation = Some(format!(
                    "at {now} ns node {id} opened {tenure:?} until {end}, while node {other} holds the group until {held}"
                ));
            }
        }
        self.nodes.get_mut(&id).expect("ids come from the map").kernel.insert(tenure.group, end);
    }

    fn send(&mut self, from: Identity, to: NodeId, message: Message) {
        if !self.nodes.contains_key(&to) || (!self.governed && matches!(message, Message::Report(_))) {
            return;
        }
        if self.cut.get(&(from.node, to)).is_some_and(|until| *until > self.now)
            || self.rng.percent(self.loss_percent)
        {
            return;
        }
        let at = self.now + self.delay();
        if self.rng.percent(self.loss_percent / 3) {
            let again = self.now + self.delay();
            self.at(again, Event::Deliver { to, from, message: message.clone() });
        }
        self.at(at, Event::Deliver { to, from, message });
    }

    /// Mostly the network's usual delay; now and then so long that leases have come and gone meanwhile.
    pub(super) fn delay(&mut self) -> u64 {
        let usual = 50_000 + self.rng.below(self.delays);
        if self.loss_percent > 0 && self.rng.percent(6) {
            usual + self.rng.below(2 * self.lease_hint())
        } else {
            usual
        }
    }

    fn lease_hint(&self) -> u64 {
        self.nodes.values().next().map_or(MS, |n| n.view.lease.as_nanos() as u64)
    }
}
