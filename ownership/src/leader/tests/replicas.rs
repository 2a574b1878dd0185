//! Which nodes hold a group's flows.

use super::*;

/// Data-plane nodes 1 to 4; groups that any of them may own and of which node 1 owns the first. Node 1 leads.
struct Cluster {
    leader: Leader,
    log: LogView,
    standbys: usize,
    failback: bool,
    preference: Vec<NodeId>,
    replicas: BTreeMap<GroupId, BTreeMap<NodeId, LogIndex>>,
    owners: BTreeMap<GroupId, u64>,
    applied: u64,
    /// Nodes that say they hold all flows of what they are a replica of.
    caught_up: BTreeSet<u64>,
    draining: BTreeSet<u64>,
    /// Nodes that have applied nothing of these groups yet.
    behind: BTreeSet<u64>,
    proposed: usize,
}

const NODES: u64 = 4;

impl Cluster {
    fn new(owners: &[u64], standbys: usize) -> Self {
        let mut log = LogView::default();
        let id = LogId { term: 1, leader: NodeId(1), index: LogIndex(1) };
        let voters: BTreeSet<NodeId> = (1..=NODES).map(NodeId).collect();
        log.handle_event(at(0), LogEvent::Membership(Membership { id, configs: vec![voters] }));
        let owners: BTreeMap<GroupId, u64> = (1..).map(GroupId).zip(owners.iter().copied()).collect();
        let replicas = owners.iter().map(|(group, owner)| (*group, [(NodeId(*owner), LogIndex(5))].into()));
        let mut cluster = Cluster {
            leader: Leader::new(NodeId(1)),
            log,
            standbys,
            failback: false,
            preference: Vec::new(),
            replicas: replicas.collect(),
            owners,
            applied: 9,
            caught_up: (1..=NODES).collect(),
            draining: BTreeSet::new(),
            behind: BTreeSet::new(),
            proposed: 0,
        };
        cluster.apply(0);
        cluster.leader.handle_leadership(at(0), true, &cluster.log);
        cluster
    }

    fn apply(&mut self, ms: u64) {
        let group = |(id, owner): (&GroupId, &u64)| {
            let view = GroupView {
                assignment: Some(Assignment { epoch: Epoch(5), node: NodeId(*owner) }),
                replicas: self.replicas[id].clone(),
                standbys: self.standbys,
                preference: self.preference.clone(),
                failback: self.failback,
                ..GroupView::default()
            };
            (*id, view)
        };
        self.log.handle_view(View {
            applied: LogIndex(self.applied),
            lease: LEASE,
            groups: self.owners.iter().map(group).collect(),
            nodes: (1..=NODES).map(|n| (NodeId(n), NodeRole::Dataplane)).collect(),
            draining: self.draining.iter().copied().map(NodeId).collect(),
            ..View::default()
        });
        self.leader.handle_log(at(ms), &self.log);
    }

    /// The nodes of `alive` report every 40 ms, and what the leader proposes is applied at once.
    fn pass(&mut self, from: u64, until: u64, alive: &[u64]) {
        for ms in (from..until).step_by(40) {
            for node in alive.iter().copied() {
                let report = self.report(node, alive);
                self.leader.handle_report(at(ms), NodeId(node), report, &self.log);
            }
            self.agree(ms);
        }
    }

    fn report(&self, node: u64, alive: &[u64]) -> Report {
        let tenure = |group: &GroupId| Tenure { group: *group, epoch: Epoch(5) };
        let owned: Vec<_> = self.owners.iter().filter(|(_, owner)| alive.contains(owner)).collect();
        let heard =
            |(group, _): &(&GroupId, &u64)| Heard { tenure: tenure(group), hears: true, age: Duration::ZERO };
        let flows =
            if self.caught_up.contains(&node) { Flows::CaughtUp } else { Flows::Behind(Duration::ZERO) };
        Report {
            applied: if self.behind.contains(&node) { LogIndex(1) } else { self.log.view().applied },
            heard: owned.iter().map(heard).collect(),
            candidacies: self
                .owners
                .keys()
                .map(|group| Candidacy { group: *group, fitness: Ok(()), flows })
                .collect(),
            holding: owned
                .iter()
                .filter(|(_, owner)| **owner == node)
                .map(|(group, _)| tenure(group))
                .collect(),
            ..Report::default()
        }
    }

    fn agree(&mut self, ms: u64) {
        while let Some(output) = self.leader.poll_output() {
            match output {
                Output::SetReplicas { group, epoch, replaces, nodes } => {
                    self.proposed += 1;
                    self.applied += 1;
                    let held = self.replicas.get_mut(&group).expect("it is one of ours");
                    assert_eq!((epoch, replaces), (Epoch(5), held.keys().copied().collect()));
                    assert!(nodes.contains(&NodeId(self.owners[&group])), "without its owner: {nodes:?}");
                    held.retain(|node, _| nodes.contains(node));
                    for node in nodes {
                        held.entry(node).or_insert(LogIndex(self.applied));
                    }
                }
                Output::Assign { cause: Cause::Failback, .. } | Output::TransferLeader(_) => {}
                other => panic!("{other:?}"),
            }
        }
        self.apply(ms);
    }

    fn of(&self, group: u64) -> Vec<u64> {
        self.replicas[&GroupId(group)].keys().map(|node| node.get()).collect()
    }
}

#[test]
fn a_group_has_as_many_standbys_as_it_wants_and_groups_are_spread() {
    let mut c = Cluster::new(&[1, 1, 1], 1);
    c.pass(0, 400, &[1, 2, 3, 4]);
    assert_eq!((c.of(1), c.of(2), c.of(3)), (vec![1, 2], vec![1, 3], vec![1, 4]));
    assert_eq!(c.proposed, 3);
    c.pass(400, 9000, &[1, 2, 3, 4]);
    assert_eq!(c.proposed, 3, "what is as it should be stays");
    c.standbys = 2;
    c.apply(9000);
    c.pass(9000, 9400, &[1, 2, 3, 4]);
    assert_eq!([1, 2, 3].map(|group| c.of(group).len()), [3, 3, 3]);
}

#[test]
fn whom_a_group_prefers_is_waited_for_if_it_hears_of_it_later() {
    let mut c = Cluster::new(&[1], 1);
    c.preference = vec![NodeId(1), NodeId(2), NodeId(3)];
    c.behind.insert(2);
    c.apply(0);
    c.pass(0, 1000, &[1, 2, 3]);
    assert_eq!(c.of(1), [1], "node 2 has not applied the assignment yet");
    c.behind.clear();
    c.pass(1000, 1080, &[1, 2, 3]);
    assert_eq!(c.of(1), [1, 2]);
    let mut c = Cluster::new(&[1], 1);
    c.behind.insert(2);
    c.pass(0, 2400, &[1, 2, 3]);
    assert_eq!(c.of(1), [1, 3], "but not for ever");
}

#[test]
fn fewer_nodes_than_wanted_hold_it_all() {
    let mut c = Cluster::new(&[1], 3);
    c.pass(0, 400, &[1, 3]);
    assert_eq!(c.of(1), [1, 3], "only those that can");
    c.pass(400, 800, &[1, 2, 3, 4]);
    assert_eq!(c.of(1), [1, 2, 3, 4]);
}

#[test]
fn i5_a_standby_that_is_lost_is_replaced_and_holds_until_the_other_has_caught_up() {
    let mut c = Cluster::new(&[1], 1);
    c.pass(0, 400, &[1, 2, 3, 4]);
    assert_eq!(c.of(1), [1, 2]);
    c.pass(400, 4800, &[1, 3, 4]);
    assert_eq!(c.of(1), [1, 2], "it may be back soon");
    c.caught_up.remove(&3);
    c.pass(4800, 20_000, &[1, 3, 4]);
    assert_eq!(c.of(1), [1, 2, 3], "nobody else holds the flows");
    c.caught_up.insert(3);
    c.pass(20_000, 21_000, &[1, 3, 4]);
    assert_eq!(c.of(1), [1, 2, 3], "who asked for another standby may be about to give it the group");
    c.pass(21_000, 23_000, &[1, 3, 4]);
    assert_eq!(c.of(1), [1, 3]);
    c.pass(23_000, 33_000, &[1, 2, 3, 4]);
    assert_eq!(c.of(1), [1, 3], "the former standby is back, and nothing moves");
}

#[test]
fn a_standby_that_comes_back_before_another_has_caught_up_stays() {
    let mut c = Cluster::new(&[1], 1);
    c.pass(0, 400, &[1, 2]);
    c.caught_up.remove(&3);
    c.pass(400, 8000, &[1, 3]);
    assert_eq!(c.of(1), [1, 2, 3]);
    c.pass(8000, 20_000, &[1, 2, 3]);
    assert_eq!(c.of(1), [1, 2, 3], "who is being copied to may be about to get the group");
    c.caught_up.insert(3);
    c.pass(20_000, 23_000, &[1, 2, 3]);
    assert_eq!(c.of(1), [1, 2]);
}

#[test]
fn a_drained_standby_is_replaced_at_once() {
    let mut c = Cluster::new(&[1], 1);
    c.pass(0, 400, &[1, 2, 3]);
    c.draining.insert(2);
    c.apply(400);
    c.pass(400, 480, &[1, 2, 3]);
    assert_eq!(c.of(1), [1, 2, 3]);
    c.pass(480, 3000, &[1, 2, 3]);
    assert_eq!(c.of(1), [1, 3]);
}

#[test]
fn a_standby_that_the_group_does_not_name_any_more_goes_at_once() {
    let mut c = Cluster::new(&[1], 2);
    c.pass(0, 400, &[1, 2, 3]);
    assert_eq!(c.of(1), [1, 2, 3]);
    c.preference = vec![NodeId(1), NodeId(3)];
    let group = |cluster: &mut Cluster| {
        cluster.apply(400);
        let mut view = cluster.log.view().clone();
        view.groups.values_mut().for_each(|group| group.restricted = true);
        cluster.log.handle_view(view);
        cluster.leader.handle_log(at(400), &cluster.log);
    };
    group(&mut c);
    c.agree(400);
    assert_eq!(c.of(1), [1, 3]);
}

#[test]
fn a_group_that_goes_back_is_copied_to_whom_it_prefers() {
    let mut c = Cluster::new(&[2], 1);
    (c.preference, c.failback) = (vec![NodeId(1), NodeId(2), NodeId(3)], true);
    c.apply(0);
    c.pass(0, 400, &[2, 3]);
    assert_eq!(c.of(1), [2, 3]);
    c.caught_up.remove(&1);
    let before = c.proposed;
    c.pass(400, 30_000, &[1, 2, 3]);
    assert_eq!((c.of(1), c.proposed - before), (vec![1, 2, 3], 1), "however long the copy takes");
    c.caught_up.insert(1);
    c.pass(30_000, 33_000, &[1, 2, 3]);
    assert_eq!(c.of(1), [1, 2], "it can go back only to a node that holds its flows");
}

#[test]
fn i4_who_is_no_replica_any_more_or_again_holds_no_flows_whatever_it_says() {
    let mut c = Cluster::new(&[1], 1);
    c.pass(0, 400, &[1, 2, 3]);
    let view = c.log.view().groups[&GroupId(1)].clone();
    let flows = |c: &Cluster, node: u64| {
        c.leader.standing(at(400), NodeId(node), GroupId(1), &view, &c.log).expect("it is fit").1
    };
    assert_eq!(flows(&c, 2), Flows::CaughtUp);
    assert_eq!(flows(&c, 3), Flows::Never, "nobody tells it of them");
    // Out and in again: it reports what it knew before.
    let mut view = view.clone();
    view.replicas.insert(NodeId(2), LogIndex(99));
    let again = c.leader.standing(at(400), NodeId(2), GroupId(1), &view, &c.log);
    assert_eq!(again.expect("it is fit").1, Flows::Never);
}
