use lockstep_model::command::Command;
use lockstep_model::health::FailureKind;
use lockstep_model::ids::LogIndex;
use lockstep_model::intent::NodeSpec;
use lockstep_model::manifest;
use lockstep_model::state::{Applied, apply};

use super::*;

const MANIFEST: &str = "
apiVersion: lockstep/v1
kind: Group
name: edge
spec: {addresses: [10.0.0.1]}
---
apiVersion: lockstep/v1
kind: Service
name: web
spec:
  group: edge
  vip: [192.0.2.10]
  port: 443
  protocol: [tcp]
  health: {type: tcp, interval: 1s}
  endpoints: [{address: 10.0.0.11}, {address: 10.0.0.12}, {address: 10.0.0.13, state: disabled}]
";

/// A cluster of data-plane nodes 1, 2, … and a witness, and its leader's judge.
struct Bed {
    state: State,
    judge: Judge,
    start: Instant,
    index: u64,
}

impl Bed {
    fn new(nodes: u64) -> Self {
        let start = Instant::now();
        let mut bed = Bed { state: State::default(), judge: Judge::new(start), start, index: 0 };
        for id in 1..=nodes {
            bed.register(id, NodeRole::Dataplane);
        }
        bed.register(99, NodeRole::Witness);
        bed.apply(Command::Change {
            expected: None,
            changes: manifest::changes(manifest::parse(MANIFEST).unwrap()),
        });
        bed
    }

    fn apply(&mut self, command: Command) {
        self.index += 1;
        let applied = apply(&mut self.state, LogIndex(self.index), &command);
        assert!(matches!(applied, Applied::Changed { .. }), "{applied:?}");
    }

    fn register(&mut self, id: u64, role: NodeRole) {
        let address = |port| ([10, 9, 0, id as u8], port).into();
        let spec = NodeSpec {
            name: format!("n{id}"),
            role,
            cluster_address: address(7400),
            lease_address: address(7401),
        };
        self.apply(Command::RegisterNode { id: NodeId(id), spec });
    }

    fn at(&self, ms: u64) -> Instant {
        self.start + Duration::from_millis(ms)
    }

    fn endpoint(&self, i: usize) -> EndpointId {
        self.state.service("web").unwrap().1.endpoint_ids[i]
    }

    /// Node `node` says of the first endpoint that it is up (`+`), down (`-`) or undecided (`?`).
    fn says(&mut self, ms: u64, node: u64, what: char) {
        let opinion = match what {
            '+' => Some(true),
            '-' => Some(false),
            _ => None,
        };
        let failure = (what == '-').then_some(Failure::of(FailureKind::Refused));
        let view = Reported { endpoint: self.endpoint(0), age: Duration::ZERO, opinion, failure };
        self.judge.report(self.at(ms), NodeId(node), vec![view]);
    }

    /// What the judge finds, which is applied, as `+` and `-`.
    fn judged(&mut self, ms: u64) -> String {
        let judgements = self.judge.judge(self.at(ms), &self.state);
        let found = judgements.iter().map(|j| if j.up { '+' } else { '-' }).collect();
        if !judgements.is_empty() {
            self.apply(Command::Judge { at_unix_ms: 1, judgements });
            assert_eq!(self.judge.judge(self.at(ms), &self.state), [], "it is so now");
        }
        found
    }
}

#[test]
fn i7_of_two_both_must_say_so() {
    let mut bed = Bed::new(2);
    bed.says(0, 1, '-');
    bed.says(0, 2, '+');
    assert_eq!(bed.judged(0), "");
    bed.says(10, 2, '-');
    assert_eq!(bed.judged(10), "-");
    let verdict = bed.state.service("web").unwrap().1.verdicts[&bed.endpoint(0)].clone();
    assert_eq!(verdict.nodes, [NodeId(1), NodeId(2)].into());
    assert_eq!(verdict.failure, Some(Failure::of(FailureKind::Refused)));
    bed.says(20, 1, '+');
    assert_eq!(bed.judged(20), "", "up likewise");
    bed.says(30, 2, '+');
    assert_eq!(bed.judged(30), "+");
}

#[test]
fn of_three_two_are_enough_and_of_four_three() {
    let mut bed = Bed::new(3);
    bed.says(0, 1, '-');
    bed.says(0, 3, '-');
    assert_eq!(bed.judged(0), "-", "whatever the third will say");
    let mut bed = Bed::new(4);
    for node in [1, 2] {
        bed.says(0, node, '-');
        bed.says(0, node + 2, '+');
    }
    assert_eq!(bed.judged(0), "", "half is no majority");
    bed.says(1, 3, '-');
    assert_eq!(bed.judged(1), "-");
}

#[test]
fn i7_a_new_leader_waits_for_who_may_contradict() {
    let mut bed = Bed::new(2);
    bed.says(0, 1, '-');
    assert_eq!(bed.judged(0), "");
    bed.says(3000, 1, '-');
    assert_eq!(bed.judged(3000), "", "three intervals are not over");
    bed.says(3001, 1, '-');
    assert_eq!(bed.judged(3001), "-", "the other one does not probe");
}

#[test]
fn a_node_that_falls_silent_counts_for_three_intervals() {
    let mut bed = Bed::new(2);
    bed.says(0, 1, '+');
    bed.says(0, 2, '+');
    assert_eq!(bed.judged(0), "+");
    bed.says(10_000, 2, '+');
    bed.says(13_000, 1, '-');
    assert_eq!(bed.judged(13_000), "");
    bed.says(13_001, 1, '-');
    assert_eq!(bed.judged(13_001), "-");
}

#[test]
fn i7_a_node_that_restarts_contradicts_until_it_knows() {
    let mut bed = Bed::new(2);
    bed.says(0, 1, '-');
    bed.says(0, 2, '?');
    assert_eq!(bed.judged(60_000), "", "nobody has probed for a minute");
    bed.says(60_000, 1, '-');
    bed.says(60_000, 2, '?');
    assert_eq!(bed.judged(60_000), "");
}

#[test]
fn a_node_that_joins_is_waited_for() {
    let mut bed = Bed::new(1);
    bed.judged(0);
    bed.register(2, NodeRole::Dataplane);
    bed.says(60_000, 1, '-');
    assert_eq!(bed.judged(60_000), "");
    bed.says(63_001, 1, '-');
    assert_eq!(bed.judged(63_001), "-");
}

#[test]
fn an_old_probe_does_not_count_however_fresh_its_report() {
    let mut bed = Bed::new(1);
    bed.judged(0);
    let age = Duration::from_millis(3001);
    let view = Reported { endpoint: bed.endpoint(0), age, opinion: Some(false), failure: None };
    bed.judge.report(bed.at(60_000), NodeId(1), vec![view]);
    assert_eq!(bed.judged(60_000), "");
}

#[test]
fn witnesses_strangers_and_disabled_endpoints_have_no_part() {
    let mut bed = Bed::new(2);
    bed.says(0, 99, '-');
    bed.says(0, 7, '-');
    bed.says(0, 1, '-');
    assert_eq!(bed.judged(0), "");
    let disabled = bed.endpoint(2);
    for node in [1, 2] {
        let view = Reported { endpoint: disabled, age: Duration::ZERO, opinion: Some(false), failure: None };
        bed.judge.report(bed.at(1), NodeId(node), vec![view]);
    }
    assert_eq!(bed.judged(1), "");
    assert!(bed.judge.opinions(bed.endpoint(0)).is_empty(), "a report replaces what was said before");
}

#[test]
fn what_is_deleted_is_forgotten() {
    let mut bed = Bed::new(1);
    bed.says(0, 1, '-');
    assert_eq!(bed.judged(0), "-");
    let changes = vec![lockstep_model::command::Change::DeleteService("web".into())];
    bed.apply(Command::Change { expected: None, changes });
    bed.says_nothing(10);
    assert_eq!(bed.judged(10), "");
    assert!(bed.judge.endpoints.is_empty() && bed.judge.reports[&NodeId(1)].is_empty());
}

impl Bed {
    fn says_nothing(&mut self, ms: u64) {
        self.judge.report(self.at(ms), NodeId(1), vec![]);
    }
}
