mod flows;
mod placement;
mod replicas;
mod succession;

use std::collections::BTreeSet;

use lockstep_model::ids::LogIndex;
use lockstep_model::intent::NodeRole;

use super::*;
use crate::log::LogEvent;
use crate::membership::{LogId, Membership};
use crate::message::Heard;
use crate::status::{Candidacy, Unfit};
use crate::view::View;

const G: GroupId = GroupId(7);
const LEASE: Duration = Duration::from_millis(120);
const SUSPECT: u64 = 100;

fn at(ms: u64) -> Instant {
    Instant::from_nanos(ms * 1_000_000)
}

/// Data-plane nodes 1 and 2, witness 3; the leader is the witness unless said otherwise.
struct Bench {
    leader: Leader,
    log: LogView,
    failback: bool,
}

/// What a node reports: whether it hears the owner, whether it is fit, how well it knows the flows.
#[derive(Clone)]
struct Says {
    hears: Option<u64>,
    /// How long ago; longer than the lease is too long to hear it.
    heard_ago: Duration,
    fitness: Result<(), Unfit>,
    flows: Flows,
    draining: bool,
    holds: Option<u64>,
    released: Option<u64>,
    pinned: Duration,
    /// What it has applied; none: as much as this node.
    applied: Option<u64>,
}

fn fit() -> Says {
    Says {
        hears: None,
        heard_ago: Duration::ZERO,
        fitness: Ok(()),
        flows: Flows::CaughtUp,
        draining: false,
        holds: None,
        released: None,
        pinned: Duration::ZERO,
        applied: None,
    }
}

fn hears(epoch: u64) -> Says {
    Says { hears: Some(epoch), ..fit() }
}

fn tenure(epoch: u64) -> Tenure {
    Tenure { group: G, epoch: Epoch(epoch) }
}

impl Bench {
    fn new() -> Self {
        Self::led_by(3)
    }

    fn led_by(me: u64) -> Self {
        let mut log = LogView::default();
        let id = LogId { term: 1, leader: NodeId(3), index: LogIndex(1) };
        let voters: BTreeSet<NodeId> = (1..=3).map(NodeId).collect();
        log.handle_event(at(0), LogEvent::Membership(Membership { id, configs: vec![voters] }));
        let mut bench = Bench { leader: Leader::new(NodeId(me)), log, failback: false };
        bench.owned(0, 2, None);
        bench.leader.handle_leadership(at(0), true, &bench.log);
        bench
    }

    fn owned(&mut self, ms: u64, applied: u64, owner: Option<(u64, u64)>) {
        let assignment = owner.map(|(epoch, node)| Assignment { epoch: Epoch(epoch), node: NodeId(node) });
        let group = GroupView {
            assignment,
            preference: vec![NodeId(1), NodeId(2)],
            restricted: true,
            failback: self.failback,
            ..GroupView::default()
        };
        let role = |n: u64| if n == 3 { NodeRole::Witness } else { NodeRole::Dataplane };
        self.log.handle_view(View {
            applied: LogIndex(applied),
            lease: LEASE,
            groups: [(G, group)].into(),
            nodes: (1..=3).map(|n| (NodeId(n), role(n))).collect(),
            ..View::default()
        });
        self.leader.handle_log(at(ms), &self.log);
    }

    fn says(&mut self, ms: u64, node: u64, says: &Says) {
        let heard = says.hears.map(|e| Heard {
            tenure: tenure(e),
            hears: says.heard_ago < LEASE,
            age: says.heard_ago,
        });
        let candidacy = Candidacy { group: G, fitness: says.fitness, flows: says.flows };
        let report = Report {
            applied: says.applied.map_or(self.log.view().applied, LogIndex),
            draining: says.draining,
            heard: heard.into_iter().collect(),
            candidacies: if node == 3 { Vec::new() } else { vec![candidacy] },
            holding: says.holds.map(tenure).into_iter().collect(),
            released: says.released.map(tenure).into_iter().collect(),
            leadership_pinned: says.pinned,
        };
        self.leader.handle_report(at(ms), NodeId(node), report, &self.log);
    }

    fn assigned(&mut self) -> Vec<(u64, u64, Cause)> {
        let mut assigned = Vec::new();
        while let Some(output) = self.leader.poll_output() {
            if let Output::Assign { replaces, node, cause, .. } = output {
                assigned.push((replaces.get(), node.get(), cause));
            }
        }
        assigned
    }

    /// All three report every 40 ms until `until`; what is assigned meanwhile, and when.
    fn pass(&mut self, from: u64, until: u64, says: [Option<Says>; 3]) -> Vec<(u64, (u64, u64, Cause))> {
        let mut assigned = Vec::new();
        for ms in (from..=until).step_by(40) {
            for (node, says) in (1..).zip(&says) {
                if let Some(says) = says {
                    self.says(ms, node, says);
                }
            }
            self.leader.handle_timeout(at(ms), &self.log);
            assigned.extend(self.assigned().into_iter().map(|a| (ms, a)));
        }
        assigned
    }
}

/// An owner under epoch 5 that everybody has heard.
fn served() -> Bench {
    let mut b = Bench::new();
    b.owned(0, 5, Some((5, 1)));
    let owner = Says { holds: Some(5), ..hears(5) };
    assert_eq!(b.pass(0, 1000, [Some(owner), Some(hears(5)), Some(hears(5))]), []);
    b
}

#[test]
fn a_new_leader_listens_before_it_judges() {
    let mut b = Bench::new();
    b.says(SUSPECT - 1, 1, &fit());
    assert_eq!(b.assigned(), []);
    b.says(SUSPECT, 1, &fit());
    assert_eq!(b.assigned(), [(0, 1, Cause::First)]);
}

#[test]
fn a_new_group_waits_a_little_for_the_node_it_prefers() {
    let mut b = Bench::new();
    let unfit = Says { fitness: Err(Unfit::Starting), ..fit() };
    let assigned = b.pass(0, 3000, [Some(unfit), Some(fit()), Some(fit())]);
    assert_eq!(assigned[0], (2000, (0, 2, Cause::First)));
    let mut b = Bench::new();
    assert_eq!(b.pass(0, 200, [Some(fit()), Some(fit()), Some(fit())])[0], (120, (0, 1, Cause::First)));
    let mut b = Bench::new();
    assert_eq!(b.pass(0, 3000, [None, None, Some(fit())]), [], "a witness serves nothing");
}

#[test]
fn a_group_moves_when_less_than_a_majority_hears_its_owner() {
    let mut b = served();
    b.says(1040, 2, &fit());
    assert_eq!(b.assigned(), [], "one broken link is no reason");
    b.says(1041, 3, &fit());
    assert_eq!(b.assigned(), [(5, 2, Cause::NotHeard)], "two of three");
    b.says(1042, 3, &fit());
    assert_eq!(b.assigned(), [], "it has been proposed");
    assert_eq!(b.pass(1080, 1600, [None, Some(fit()), Some(fit())])[0].1, (5, 2, Cause::NotHeard), "again");
    assert_eq!(b.leader.counters().takeover_without_flows, 0);
    assert!(b.leader.is_held_down(at(1100), NodeId(1)));
}

#[test]
fn an_owner_whose_successor_is_heard_already_is_not_blamed() {
    let mut b = served();
    // The assignment of epoch 9 is committed, and applied by its owner before it is applied here.
    b.says(1040, 2, &hears(9));
    b.says(1041, 3, &hears(9));
    assert_eq!(b.assigned(), []);
    assert!(!b.leader.is_held_down(at(1042), NodeId(1)));
    // A former epoch says nothing of this one.
    b.says(1080, 2, &hears(4));
    b.says(1081, 3, &hears(4));
    assert_eq!(b.assigned(), [(5, 2, Cause::NotHeard)]);
}

#[test]
fn a_leader_that_hears_no_quorum_moves_nothing() {
    let mut b = served();
    assert_eq!(b.pass(1040, 3000, [None, None, Some(fit())]), []);
    assert!(b.leader.counters().blind > 0);
}

#[test]
fn with_nobody_caught_up_the_freshest_is_taken_after_a_second() {
    let mut b = served();
    let behind = Says { flows: Flows::Behind(Duration::from_secs(9)), ..fit() };
    let assigned = b.pass(1080, 3000, [None, Some(behind), Some(fit())]);
    let (when, what) = assigned[0];
    assert_eq!(what, (5, 2, Cause::NotHeard));
    assert!((2080..2200).contains(&when), "{when}");
    assert!(b.leader.counters().takeover_without_flows > 0);
}

#[test]
fn an_unfit_owner_keeps_the_group_until_a_fitter_node_is_there() {
    let mut b = served();
    let owner = Says { fitness: Err(Unfit::CarrierLost), holds: Some(5), ..hears(5) };
    let other = Says { fitness: Err(Unfit::CarrierLost), ..hears(5) };
    b.says(1039, 2, &other);
    assert_eq!(b.pass(1040, 2000, [Some(owner.clone()), Some(other), Some(hears(5))]), []);
    let assigned = b.pass(2040, 2080, [Some(owner), Some(hears(5)), Some(hears(5))]);
    assert_eq!(assigned[0].1, (5, 2, Cause::OwnerUnfit));
}

#[test]
fn a_draining_owner_is_relieved_and_not_blamed() {
    let mut b = served();
    let owner = Says { draining: true, holds: Some(5), ..hears(5) };
    b.says(1040, 1, &owner);
    assert_eq!(b.assigned(), [(5, 2, Cause::OwnerDraining)]);
    assert!(!b.leader.is_held_down(at(1041), NodeId(1)));
}

#[test]
fn an_epoch_that_was_given_back_is_replaced_if_only_by_the_same_node() {
    let mut b = served();
    let owner = Says { released: Some(5), ..hears(5) };
    b.says(1040, 2, &Says { fitness: Err(Unfit::ProgramDetached), ..hears(5) });
    b.says(1041, 1, &owner);
    assert_eq!(b.assigned(), [(5, 1, Cause::GivenBack)]);
}

#[test]
fn an_owner_that_is_heard_but_never_holds_a_lease_loses_the_group() {
    let mut b = served();
    let assigned = b.pass(1040, 4000, [Some(hears(5)), Some(hears(5)), Some(hears(5))]);
    let (when, what) = assigned[0];
    assert_eq!(what, (5, 2, Cause::NoLease));
    assert!((3000..3100).contains(&when), "{when}");
}

#[test]
fn a_new_owner_gets_time_to_be_heard() {
    let mut b = served();
    b.owned(1040, 9, Some((9, 2)));
    let assigned = b.pass(1040, 2000, [Some(fit()), Some(fit()), Some(fit())]);
    assert_eq!(assigned[0], (1560, (9, 1, Cause::NotHeard)));
}

#[test]
fn a_new_leader_knows_whom_it_heard_while_another_led() {
    let mut b = Bench::new();
    b.leader.handle_leadership(at(0), false, &b.log);
    b.owned(0, 5, Some((5, 1)));
    let owner = Says { holds: Some(5), ..hears(5) };
    assert_eq!(b.pass(0, 1200, [Some(owner), Some(hears(5)), Some(hears(5))]), [], "another leads");
    b.leader.handle_leadership(at(1240), true, &b.log);
    let assigned = b.pass(1240, 2000, [None, Some(fit()), Some(fit())]);
    assert_eq!(assigned[0], (1360, (5, 2, Cause::NotHeard)), "no grace for an owner that is not new");
}

/// Node 2 owns the group under epoch 9, which everybody has heard and seen held until 2000 ms; node 1 is away.
fn taken_over() -> Bench {
    let mut b = served();
    b.owned(1040, 9, Some((9, 2)));
    let owner = Says { holds: Some(9), ..hears(9) };
    assert_eq!(b.pass(1040, 2000, [None, Some(owner), Some(hears(9))]), []);
    b
}

fn with(flows: Flows, says: Says) -> Says {
    Says { flows, ..says }
}

#[test]
fn an_owner_that_is_heard_again_gets_time_for_its_promises() {
    let mut b = taken_over();
    // Nobody is there to take over, and it returns after its lease has been gone for longer than that time.
    assert_eq!(b.pass(2040, 4520, [None, None, Some(fit())]), []);
    let assigned = b.pass(4560, 8000, [Some(hears(9)), Some(hears(9)), Some(hears(9))]);
    let (when, what) = assigned[0];
    assert_eq!(what, (9, 1, Cause::NoLease));
    assert!((6560..6700).contains(&when), "two seconds since it is heard: {when}");
}

#[test]
fn a_lease_of_which_the_leader_hears_nothing_may_be_held() {
    let mut b = served();
    assert_eq!(
        b.pass(1040, 4000, [None, Some(hears(5)), Some(hears(5))]),
        [],
        "the owner has not said that it is not"
    );
}

/// The leader is stopped for longer than an owner may be without a lease, and what it missed comes in any order.
#[test]
fn a_leader_that_stood_still_listens_before_it_judges() {
    let mut b = served();
    b.says(3200, 3, &fit());
    b.says(3201, 2, &fit());
    assert_eq!(b.assigned(), [], "what both did not hear was meanwhile");
    let owner = Says { holds: Some(5), ..hears(5) };
    assert_eq!(b.pass(3240, 4000, [Some(owner), Some(hears(5)), Some(hears(5))]), []);
    assert_eq!(b.leader.counters().stood_still, 1);
    b.says(4040, 2, &fit());
    b.says(4041, 3, &fit());
    assert_eq!(b.assigned(), [(5, 2, Cause::NotHeard)]);
}

#[test]
fn a_node_that_has_not_applied_the_newest_assignment_is_not_chosen() {
    let mut b = served();
    let returned = Says { applied: Some(4), ..fit() };
    assert_eq!(
        b.pass(1040, 1400, [None, Some(returned), Some(fit())]),
        [],
        "it may take the group for its own yet"
    );
    assert_eq!(b.pass(1440, 1440, [None, Some(fit()), Some(fit())]), [(1440, (5, 2, Cause::NotHeard))]);
}
