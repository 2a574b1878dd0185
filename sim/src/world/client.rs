//! Clients of the intent API: they write, read, and remember what they were told.

use std::sync::PoisonError;
use std::time::Duration;

use lockstep_model::command::{Change, Command};
use lockstep_model::ids::NodeId;
use lockstep_model::intent::{PortRange, Prefix, SnatAction, SnatRuleSpec};
use lockstep_model::protocol::Family;
use lockstep_model::state::Applied;
use lockstep_raft_store::replica::{LocalError, Replica};
use openraft::AsyncRuntime;
use openraft_rt_sim::SimRuntime;

use super::{Event, MS, World};
use crate::net::now_ns;

/// How long a client waits for an answer.
const PATIENCE: Duration = Duration::from_secs(2);
/// Rules that one schedule makes: the model allows no more than 256.
const MAX_RULES: u64 = 200;
/// How long it pauses, at most, before it asks again.
const PAUSE_NS: u64 = 120 * MS;

/// What a client asked, and what all of them knew when it did.
#[derive(Debug, Clone)]
pub(crate) enum Op {
    /// To make a rule.
    Write { rule: String, known: u64 },
    /// What there is.
    Read { known: u64 },
}

/// The answer.
#[derive(Debug, Clone)]
pub(crate) enum OpResult {
    /// Written at, or read up to, this index.
    At(u64),
    /// Nothing happened.
    Refused,
    /// Nobody knows.
    Unknown,
}

fn rule(name: String) -> SnatRuleSpec {
    SnatRuleSpec {
        name,
        group: "g0".into(),
        priority: 1,
        source: Prefix::any(Family::V4),
        destination: Prefix::any(Family::V4),
        protocol: None,
        ports: PortRange::ANY,
        action: SnatAction::None,
    }
}

/// Up to which index a node has applied the log when it answers a linearizable read.
async fn linearizable(replica: &Replica<SimRuntime>) -> Result<u64, LocalError> {
    let index = replica.read_index().await?;
    loop {
        let applied = replica.metrics().applied;
        if applied >= index.get() {
            return Ok(applied);
        }
        SimRuntime::sleep(Duration::from_millis(1)).await;
    }
}

impl World {
    /// Clients ask, at random, until they are told to stop.
    pub(crate) fn begin_clients(&mut self) {
        self.clients = true;
        self.after(0, Event::Client);
    }

    /// A client asks some node, mostly the one that leads.
    pub(super) fn ask(&mut self) {
        if !self.clients {
            return;
        }
        let pause = self.rng.below(PAUSE_NS);
        self.after(pause, Event::Client);
        let leader = self.raft_leader().filter(|_| self.rng.percent(80));
        let ids = self.ids();
        let node = leader.unwrap_or_else(|| *self.rng.pick(&ids));
        let known = self.oracle.known();
        let reads = self.rng.percent(30);
        if reads {
            return self.read(node, known);
        }
        if self.next_rule < MAX_RULES {
            let name = format!("r{}", self.next_rule);
            self.next_rule += 1;
            self.write_rule(node, name, known);
        }
    }

    fn write_rule(&mut self, id: NodeId, name: String, known: u64) {
        let Some(replica) = self.replica(id) else { return };
        let (wire, results) = (self.wire(id), self.results.clone());
        let changes = vec![Change::UpsertSnatRule(rule(name.clone()))];
        let command = Command::Change { expected: None, changes };
        self.net.note(format_args!("client asks node {id} for {name}"));
        drop(SimRuntime::spawn(async move {
            let answer = SimRuntime::timeout(PATIENCE, replica.write(command)).await;
            let result = match answer {
                Ok(Ok((_, Applied::Refused(_)))) | Ok(Err(LocalError::NotLeader { .. })) => OpResult::Refused,
                Ok(Ok((index, _))) => OpResult::At(index.get()),
                Ok(Err(_)) | Err(_) => OpResult::Unknown,
            };
            // What a node that is paused, or has died, would have answered reaches nobody.
            let result = if wire.reaches().await { result } else { OpResult::Unknown };
            let op = Op::Write { rule: name, known };
            results.lock().unwrap_or_else(PoisonError::into_inner).push((op, result));
            wire.net.wake();
        }));
    }

    fn read(&mut self, id: NodeId, known: u64) {
        let Some(replica) = self.replica(id) else { return };
        let (wire, results) = (self.wire(id), self.results.clone());
        self.net.note(format_args!("client reads from node {id}, knowing {known}"));
        drop(SimRuntime::spawn(async move {
            let result = match SimRuntime::timeout(PATIENCE, linearizable(&replica)).await {
                Ok(Ok(index)) => OpResult::At(index),
                Ok(Err(_)) | Err(_) => OpResult::Unknown,
            };
            let result = if wire.reaches().await { result } else { OpResult::Unknown };
            results.lock().unwrap_or_else(PoisonError::into_inner).push((Op::Read { known }, result));
            wire.net.wake();
        }));
    }

    pub(super) fn take_results(&mut self) {
        let results = std::mem::take(&mut *self.results.lock().unwrap_or_else(PoisonError::into_inner));
        for (op, result) in results {
            let now = now_ns();
            self.net.lock().trace.note(now, format_args!("client {op:?}: {result:?}"));
            match (op, result) {
                (Op::Write { rule, known }, OpResult::At(index)) => {
                    self.oracle.note_write(index, rule, known);
                }
                (Op::Read { known }, OpResult::At(index)) => self.oracle.note_read(index, known),
                (_, OpResult::Refused | OpResult::Unknown) => {}
            }
        }
    }
}
