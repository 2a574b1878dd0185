//! Where several groups go on more than two data-plane nodes.

use super::*;

/// Data-plane nodes 1 to 4, of which the last has no vote; groups that any of them may own. Node 1 leads.
struct Cluster {
    leader: Leader,
    log: LogView,
    owners: BTreeMap<GroupId, Assignment>,
    preference: Vec<NodeId>,
    applied: u64,
    /// Nodes that have yet to program groups without an owner.
    programming: Vec<NodeId>,
}

const NODES: u64 = 4;

impl Cluster {
    fn new(groups: u64) -> Self {
        let mut log = LogView::default();
        let id = LogId { term: 1, leader: NodeId(1), index: LogIndex(1) };
        let voters: BTreeSet<NodeId> = (1..NODES).map(NodeId).collect();
        log.handle_event(at(0), LogEvent::Membership(Membership { id, configs: vec![voters] }));
        let mut cluster = Cluster {
            leader: Leader::new(NodeId(1)),
            log,
            owners: BTreeMap::new(),
            preference: Vec::new(),
            applied: 9,
            programming: Vec::new(),
        };
        cluster.apply(0, groups);
        cluster.leader.handle_leadership(at(0), true, &cluster.log);
        cluster
    }

    /// All that was agreed on is applied.
    fn apply(&mut self, ms: u64, groups: u64) {
        let group = |id: GroupId| GroupView {
            assignment: self.owners.get(&id).copied(),
            preference: self.preference.clone(),
            restricted: !self.preference.is_empty(),
            ..GroupView::default()
        };
        self.log.handle_view(View {
            applied: LogIndex(self.applied),
            lease: LEASE,
            groups: (1..=groups).map(GroupId).map(|id| (id, group(id))).collect(),
            nodes: (1..=NODES).map(|n| (NodeId(n), NodeRole::Dataplane)).collect(),
            ..View::default()
        });
        self.leader.handle_log(at(ms), &self.log);
    }

    /// The nodes of `alive` report: they are fit, and hear every owner that is alive.
    fn report(&mut self, ms: u64, alive: &[u64]) {
        let groups: Vec<GroupId> = self.log.view().groups.keys().copied().collect();
        let tenures = self.owners.iter().map(|(group, a)| (a.node, Tenure { group: *group, epoch: a.epoch }));
        let tenures: Vec<_> = tenures.filter(|(owner, _)| alive.contains(&owner.get())).collect();
        for node in alive.iter().copied().map(NodeId) {
            let heard =
                |(_, tenure): &(NodeId, Tenure)| Heard { tenure: *tenure, hears: true, age: Duration::ZERO };
            let programs =
                |group: &GroupId| self.programming.contains(&node) && !self.owners.contains_key(group);
            let can = |group: &GroupId| Candidacy {
                group: *group,
                fitness: if programs(group) { Err(Unfit::IntentNotApplied) } else { Ok(()) },
                flows: Flows::CaughtUp,
            };
            let report = Report {
                applied: self.log.view().applied,
                heard: tenures.iter().map(heard).collect(),
                candidacies: groups.iter().map(can).collect(),
                holding: tenures.iter().filter(|(owner, _)| *owner == node).map(|(_, t)| *t).collect(),
                ..Report::default()
            };
            self.leader.handle_report(at(ms), node, report, &self.log);
        }
    }

    /// What is proposed meanwhile is agreed on, and applied only afterwards.
    fn pass(&mut self, from: u64, until: u64, alive: &[u64]) {
        for ms in (from..=until).step_by(40) {
            self.report(ms, alive);
        }
        while let Some(output) = self.leader.poll_output() {
            if let Output::Assign { group, node, .. } = output {
                self.applied += 1;
                self.owners.insert(group, Assignment { epoch: Epoch(self.applied), node });
            }
        }
        let groups = u64::try_from(self.log.view().groups.len()).unwrap();
        self.apply(until, groups);
    }

    /// How many groups each node owns.
    fn loads(&self) -> [usize; NODES as usize] {
        std::array::from_fn(|n| self.owners.values().filter(|a| a.node.get() == n as u64 + 1).count())
    }
}

#[test]
fn groups_that_are_made_at_once_are_spread_over_all_nodes() {
    let mut c = Cluster::new(9);
    c.pass(0, 400, &[1, 2, 3, 4]);
    assert_eq!(c.loads(), [3, 2, 2, 2], "whether or not a node has a vote");
}

#[test]
fn a_new_group_goes_to_whoever_has_least_though_others_hear_of_it_first() {
    let mut c = Cluster::new(9);
    c.pass(0, 400, &[1, 2, 3, 4]);
    // Node 1 applies it first, and nobody else has said that it could serve it.
    c.apply(440, 10);
    c.pass(440, 440, &[1]);
    assert_eq!(c.loads(), [3, 2, 2, 2]);
    c.pass(480, 840, &[1, 2, 3, 4]);
    assert_eq!(c.loads(), [3, 3, 2, 2]);
    // A node that says nothing at all is not waited for.
    c.pass(880, 1200, &[1, 2, 3]);
    assert_eq!(c.loads(), [4, 3, 3, 0]);
    c.apply(1240, 11);
    c.pass(1240, 1320, &[1, 2, 3]);
    assert_eq!(c.loads(), [4, 4, 3, 0]);
}

#[test]
fn a_new_group_goes_to_whoever_has_least_though_others_program_it_first() {
    let mut c = Cluster::new(9);
    c.pass(0, 400, &[1, 2, 3, 4]);
    c.programming = vec![NodeId(2), NodeId(3), NodeId(4)];
    c.apply(440, 10);
    c.pass(440, 600, &[1, 2, 3, 4]);
    assert_eq!(c.loads(), [3, 2, 2, 2]);
    c.programming.clear();
    c.pass(640, 840, &[1, 2, 3, 4]);
    assert_eq!(c.loads(), [3, 3, 2, 2]);
    // Who does not get done is not waited for any longer.
    c.programming = vec![NodeId(2), NodeId(3), NodeId(4)];
    c.apply(880, 11);
    c.pass(880, 3200, &[1, 2, 3, 4]);
    assert_eq!(c.loads(), [4, 3, 2, 2]);
}

#[test]
fn the_groups_of_a_lost_node_are_spread_over_those_that_are_left() {
    let mut c = Cluster::new(12);
    c.pass(0, 400, &[1, 2, 3, 4]);
    assert_eq!(c.loads(), [3, 3, 3, 3]);
    c.pass(440, 1200, &[1, 2, 3, 4]);
    c.pass(1240, 1640, &[1, 3, 4]);
    assert_eq!(c.loads(), [4, 0, 4, 4]);
    // It is back, and nothing moves for that: failback is off.
    c.pass(1680, 9000, &[1, 2, 3, 4]);
    assert_eq!(c.loads(), [4, 0, 4, 4]);
}

#[test]
fn preference_comes_before_load() {
    let mut c = Cluster::new(3);
    c.preference = vec![NodeId(4), NodeId(2)];
    c.apply(0, 3);
    c.pass(0, 400, &[1, 2, 3, 4]);
    assert_eq!(c.loads(), [0, 0, 0, 3]);
    c.pass(440, 1200, &[1, 2, 3, 4]);
    c.pass(1240, 1640, &[1, 2, 3]);
    assert_eq!(c.loads(), [0, 3, 0, 0], "only nodes that the groups name");
}

/// Node 1 comes before node 2, and is back.
fn back(failback: bool) -> Bench {
    let mut b = Bench::new();
    b.failback = failback;
    b.owned(0, 5, Some((5, 2)));
    b
}

fn owner() -> Says {
    Says { holds: Some(5), ..hears(5) }
}

#[test]
fn a_group_goes_back_when_its_preferred_node_has_been_fit_for_a_while() {
    let mut b = back(true);
    let moves = b.pass(0, 12_000, [Some(hears(5)), Some(owner()), Some(hears(5))]);
    let [(when, (5, 1, Cause::Failback)), ..] = moves[..] else { panic!("{moves:?}") };
    assert!((10_000..10_500).contains(&when), "{moves:?}");
    assert_eq!(b.leader.counters().takeover_without_flows, 0);
    let held = b.leader.is_held_down(at(12_000), NodeId(2));
    assert!(!held, "that the group leaves it does not speak against its owner");
}

#[test]
fn a_group_goes_back_only_if_it_is_to_and_to_a_node_that_holds_its_flows_without_a_break() {
    assert_eq!(back(false).pass(0, 15_000, [Some(hears(5)), Some(owner()), Some(hears(5))]), vec![]);
    let behind = Says { flows: Flows::Behind(Duration::from_millis(1)), ..hears(5) };
    assert_eq!(back(true).pass(0, 15_000, [Some(behind.clone()), Some(owner()), Some(hears(5))]), vec![]);

    let mut b = back(true);
    assert_eq!(b.pass(0, 9_000, [Some(hears(5)), Some(owner()), Some(hears(5))]), vec![]);
    assert_eq!(b.pass(9_040, 9_200, [Some(behind), Some(owner()), Some(hears(5))]), vec![]);
    assert_eq!(b.pass(9_240, 18_000, [Some(hears(5)), Some(owner()), Some(hears(5))]), vec![]);
    assert_eq!(
        b.pass(18_040, 20_000, [Some(hears(5)), Some(owner()), Some(hears(5))])[0].1.2,
        Cause::Failback
    );
}

#[test]
fn a_group_stays_with_the_node_that_it_prefers() {
    let mut b = Bench::new();
    b.failback = true;
    b.owned(0, 5, Some((5, 1)));
    assert_eq!(b.pass(0, 15_000, [Some(owner()), Some(hears(5)), Some(hears(5))]), vec![]);
}
