//! Clients that read and write a few objects through every node, and write down what they were told.

use std::time::Duration;

use anyhow::{Context, bail, ensure};
use lockstep_proto::admin::v1::admin_client::AdminClient;
use lockstep_proto::admin::v1::{ApplyRequest, GetSnatRuleRequest};
use lockstep_seeded::Rng;
use tonic::{Code, Status};

use super::history::{Call, Operation, Outcome, State};
use super::search::{Verdict, check};
use crate::api;
use crate::clock;
use crate::cluster::{Cluster, GROUP};
use crate::namespace::Handle;
use crate::topology::Node;
use crate::wait;
use crate::workers::{Stop, Workers};

/// Objects: few, so that clients meet.
const OBJECTS: usize = 3;
/// Clients, each with one call at a time.
const CLIENTS: u64 = 4;
/// Between two calls of a client: every write is programmed by two nodes, beside all else.
const PAUSE: Duration = Duration::from_millis(120);
/// A rule's priority is its value, and no value is written twice.
const MAX_VALUE: u64 = 65_535;

/// The clients, running.
#[derive(Debug)]
pub struct Recorder {
    initial: State,
    workers: Workers<Vec<Operation>>,
}

/// What they saw, and what is to be thought of it.
#[derive(Debug)]
pub struct Judged {
    /// Calls that say something.
    pub operations: usize,
    /// Writes of which nobody knows whether they happened.
    pub unknown: usize,
    /// Whether there is an order.
    pub verdict: Verdict,
}

impl Recorder {
    /// Makes the objects and starts the clients.
    pub fn start(cluster: &Cluster, seed: u64) -> anyhow::Result<Self> {
        let objects: Vec<String> = (0..OBJECTS).map(|object| manifest(object, object as u64)).collect();
        cluster.apply(Node::A, &objects.join("---\n"))?;
        let nodes: Vec<Handle> =
            Node::ALL.iter().map(|node| cluster.topology.node(*node).handle().clone()).collect();
        let mut revision = None;
        for object in 0..OBJECTS {
            let Call::Read { value, revision: at, .. } = read(&nodes[0], object)?? else {
                bail!("a read that is none")
            };
            ensure!(value == object as u64, "object {object} begins with {value}");
            ensure!(*revision.get_or_insert(at) == at, "somebody else changes the intent");
        }
        let initial = State::new(revision.unwrap_or(0), (0..OBJECTS as u64).collect());
        let mut workers = Workers::new("intent clients");
        for client in 0..CLIENTS {
            let nodes = nodes.clone();
            workers.spawn("intent", move |stop| Client::new(seed, client, nodes).run(stop))?;
        }
        Ok(Recorder { initial, workers })
    }

    /// Stops the clients and looks for an order.
    pub fn finish(self) -> anyhow::Result<Judged> {
        let history: Vec<Operation> = self.workers.stop()?.into_iter().flatten().collect();
        let unknown = history.iter().filter(|operation| operation.completed.is_none()).count();
        let operations = history.len();
        Ok(Judged { operations, unknown, verdict: check(self.initial, history) })
    }
}

struct Client {
    rng: Rng,
    nodes: Vec<Handle>,
    next_value: u64,
    /// The newest revision it was told.
    revision: u64,
    history: Vec<Operation>,
}

impl Client {
    fn new(seed: u64, number: u64, nodes: Vec<Handle>) -> Self {
        let rng = Rng::new(seed ^ (number + 1).rotate_left(32));
        Client { rng, nodes, next_value: OBJECTS as u64 + number, revision: 0, history: Vec::new() }
    }

    fn run(mut self, stop: &Stop) -> anyhow::Result<Vec<Operation>> {
        while !stop.requested() {
            let node = self.rng.below(self.nodes.len() as u64) as usize;
            let object = self.rng.below(OBJECTS as u64) as usize;
            match self.rng.below(20) {
                0..10 => self.read(node, object)?,
                10..16 => self.write(node, object, None)?,
                _ => self.write(node, object, Some(self.revision).filter(|revision| *revision > 0))?,
            }
            wait::pass(PAUSE)?;
        }
        Ok(self.history)
    }

    fn read(&mut self, node: usize, object: usize) -> anyhow::Result<()> {
        let invoked = clock::now();
        // A node that is down, or does not know: a read that says nothing.
        let Ok(answer) = read(&self.nodes[node], object) else { return Ok(()) };
        let completed = Some(clock::now());
        match answer {
            Ok(call) => {
                if let Call::Read { revision, .. } = call {
                    self.revision = self.revision.max(revision);
                }
                self.history.push(Operation { invoked, completed, object, call });
                Ok(())
            }
            Err(status) if status.code() == Code::NotFound => bail!("object {object} is gone: {status}"),
            Err(_) => Ok(()),
        }
    }

    fn write(&mut self, node: usize, object: usize, expected: Option<u64>) -> anyhow::Result<()> {
        let value = self.next_value;
        self.next_value += CLIENTS;
        ensure!(value <= MAX_VALUE, "no value is left to write");
        let request = ApplyRequest {
            manifest: manifest(object, value),
            expected_revision: expected,
            ..ApplyRequest::default()
        };
        let invoked = clock::now();
        // Without a connection nothing was sent.
        let Ok(answer) = apply(&self.nodes[node], request) else { return Ok(()) };
        let completed = clock::now();
        let outcome = match answer {
            Ok(revision) => {
                self.revision = self.revision.max(revision);
                Outcome::Done(revision)
            }
            Err(status) => match status.code() {
                Code::Aborted if expected.is_some() => Outcome::Conflict,
                Code::InvalidArgument => bail!("value {value} of object {object} is refused: {status}"),
                _ => Outcome::Unknown,
            },
        };
        let completed = (outcome != Outcome::Unknown).then_some(completed);
        self.history.push(Operation {
            invoked,
            completed,
            object,
            call: Call::Write { value, expected, outcome },
        });
        Ok(())
    }
}

/// The outer error: there was no connection. The inner one: there was, and no good answer.
fn read(node: &Handle, object: usize) -> anyhow::Result<Result<Call, Status>> {
    api::ask(node, async |channel| {
        let request = GetSnatRuleRequest { name: name(object), stale: false };
        let answer = AdminClient::new(channel).get_snat_rule(request).await;
        Ok(answer.map(|answer| {
            let answer = answer.into_inner();
            let rule = answer.snat_rule.unwrap_or_default();
            let value = u64::from(rule.spec.unwrap_or_default().priority);
            Call::Read { value, revision: answer.revision, changed: rule.revision }
        }))
    })
    .context("no connection")
}

fn apply(node: &Handle, request: ApplyRequest) -> anyhow::Result<Result<u64, Status>> {
    api::ask(node, async |channel| {
        Ok(AdminClient::new(channel).apply(request).await.map(|answer| answer.into_inner().revision))
    })
    .context("no connection")
}

fn name(object: usize) -> String {
    format!("register-{object}")
}

/// A rule that concerns no packet (RFC 2544's addresses), with `value` as its priority.
fn manifest(object: usize, value: u64) -> String {
    format!(
        "apiVersion: lockstep/v1\nkind: SnatRule\nname: {}\nspec:\n  group: {GROUP}\n  priority: {value}\n  \
         match: {{source: 198.18.{object}.1/32}}\n  action: {{type: none}}\n",
        name(object)
    )
}
