use lockstep_model::ids::LogIndex;
use lockstep_model::intent::NodeRole;
use lockstep_model::state::Assignment;

use super::*;
use crate::identity::BootId;
use crate::log::LogEvent;
use crate::membership::LogId;
use crate::message::{Answer, Refused, Release};
use crate::view::{GroupView, View};

const G: GroupId = GroupId(7);
const STEP: Duration = Duration::from_millis(1);

fn at(ms: u64) -> Instant {
    Instant::from_nanos(ms * 1_000_000)
}

fn me() -> Identity {
    Identity { node: NodeId(1), boot: BootId([1; 16]), incarnation: 3 }
}

fn tenure(epoch: u64) -> Tenure {
    Tenure { group: G, epoch: Epoch(epoch) }
}

fn membership(index: u64, nodes: &[u64]) -> LogEvent {
    let id = LogId { term: 1, leader: NodeId(1), index: LogIndex(index) };
    LogEvent::Membership(Membership { id, configs: vec![nodes.iter().copied().map(NodeId).collect()] })
}

/// Of a lease of [`tenure`] 5 that was asked for at 2000.
const TO_FLUSH: Output = Output::Flush {
    tenure: Tenure { group: G, epoch: Epoch(5) },
    deadline: Instant::from_nanos(2_098_000_000),
};

struct Bench {
    owner: Owner,
    log: LogView,
}

impl Bench {
    fn new(nodes: &[u64]) -> Self {
        let mut log = LogView::default();
        log.handle_event(at(0), membership(1, nodes));
        Self { owner: Owner::new(me(), STEP), log }
    }

    /// The group belongs to `node` under `epoch`, and that is applied.
    fn assigned(&mut self, ms: u64, epoch: u64, node: u64) {
        let assignment = Some(Assignment { epoch: Epoch(epoch), node: NodeId(node) });
        let groups = [(G, GroupView { assignment, ..GroupView::default() })].into();
        let lease = Duration::from_millis(100);
        self.log.handle_view(View { applied: LogIndex(epoch), lease, groups, ..View::default() });
        self.owner.handle_log(at(ms), &self.log);
    }

    fn outputs(&mut self) -> Vec<Output> {
        std::iter::from_fn(|| self.owner.poll_output()).collect()
    }

    fn pass(&mut self, ms: u64) -> Vec<Output> {
        self.owner.handle_timeout(at(ms), &self.log);
        self.outputs()
    }

    /// The nonce of the request that is due.
    fn request(&mut self, ms: u64) -> u64 {
        nonce(&self.pass(ms))
    }

    fn answer(
        &mut self,
        ms: u64,
        voter: u64,
        nonce: u64,
        epoch: u64,
        outcome: Result<(), Refused>,
    ) -> Vec<Output> {
        let answers = vec![Answer { tenure: tenure(epoch), outcome }];
        let reply = Reply { to: me(), nonce, applied: LogIndex(1), answers };
        self.owner.handle_reply(at(ms), NodeId(voter), &reply, &self.log);
        self.outputs()
    }

    /// `node` asks the voter here for the epoch.
    fn asked(&mut self, ms: u64, node: u64, epoch: u64) {
        let from = Identity { node: NodeId(node), boot: BootId([9; 16]), incarnation: 1 };
        self.owner.handle_asked(at(ms), from, &[tenure(epoch)], &self.log);
    }

    fn open(&mut self, ms: u64, epoch: u64) {
        self.assigned(ms, epoch, 1);
        let nonce = nonce(&self.outputs());
        self.answer(ms, 1, nonce, epoch, Ok(()));
        self.answer(ms, 2, nonce, epoch, Ok(()));
        assert_eq!(self.owner.holding(at(ms)).collect::<Vec<_>>(), [tenure(epoch)]);
    }
}

/// Of the one request that these are.
fn nonce(outputs: &[Output]) -> u64 {
    match outputs {
        [Output::Request(r)] => r.nonce,
        other => panic!("a request was expected, not {other:?}"),
    }
}

fn below(floor: u64) -> Result<(), Refused> {
    Err(Refused { reason: RefusalReason::BelowFloor, floor: Epoch(floor) })
}

#[test]
fn i3_single_owner_a_lease_counts_from_the_sending_of_its_request() {
    let mut b = Bench::new(&[1, 2, 3]);
    b.assigned(2000, 5, 1);
    b.outputs();
    let nonce = b.request(2034);
    assert_eq!(b.answer(2040, 1, nonce, 5, Ok(())), [], "one of three");
    // 2034 + 100 - 1 % - the clock step.
    let until = Until::At(at(2132));
    let set = |first| Output::SetLease { tenure: tenure(5), until, first };
    assert_eq!(b.answer(2090, 2, nonce, 5, Ok(())), [set(true)]);
    assert_eq!(b.answer(2091, 3, nonce, 5, Ok(())), [], "a third promise does not make it longer");
    assert!(b.owner.holding(at(2131)).next().is_some() && b.owner.holding(at(2132)).next().is_none());
}

#[test]
fn i3_single_owner_replies_to_another_run_or_to_nobody_mean_nothing() {
    let mut b = Bench::new(&[1, 2, 3]);
    b.assigned(2000, 5, 1);
    b.outputs();
    let nonce = b.request(2034);
    let answers = vec![Answer { tenure: tenure(5), outcome: Ok(()) }];
    for to in [Identity { incarnation: 2, ..me() }, Identity { boot: BootId([9; 16]), ..me() }] {
        let reply = Reply { to, nonce, applied: LogIndex(1), answers: answers.clone() };
        for voter in [1, 2, 3] {
            b.owner.handle_reply(at(2040), NodeId(voter), &reply, &b.log);
        }
    }
    b.answer(2041, 1, nonce + 50, 5, Ok(()));
    assert_eq!(b.answer(2041, 2, nonce + 50, 5, Ok(())), []);
    assert_eq!(b.owner.counters().late_replies, 8);
    let nonce = b.request(2068);
    b.answer(2300, 1, nonce, 5, Ok(()));
    assert_eq!(b.answer(2300, 2, nonce, 5, Ok(())), [], "what has ended is not opened");
}

#[test]
fn i3_single_owner_nothing_is_acquired_under_a_young_membership() {
    let mut b = Bench::new(&[1, 2, 3]);
    b.log.handle_event(at(1500), membership(9, &[1, 4, 5]));
    b.assigned(2000, 10, 1);
    assert_eq!(b.outputs(), []);
    assert_eq!(b.owner.next_deadline(), Some(at(2500)));
    let nonce = b.request(2500);
    b.answer(2501, 1, nonce, 10, Ok(()));
    assert_eq!(b.answer(2501, 2, nonce, 10, Ok(())), [], "no voter any more");
    assert!(matches!(b.answer(2501, 5, nonce, 10, Ok(()))[..], [Output::SetLease { .. }]));
}

#[test]
fn one_voter_that_knows_of_another_epoch_is_no_reason_to_yield() {
    let mut b = Bench::new(&[1, 2, 3]);
    b.open(2000, 5);
    let nonce = b.request(2034);
    assert_eq!(b.answer(2035, 3, nonce, 5, below(8)), []);
    b.answer(2035, 1, nonce, 5, Ok(()));
    assert!(matches!(b.answer(2035, 2, nonce, 5, Ok(()))[..], [Output::SetLease { first: false, .. }]));
    let nonce = b.request(2070);
    b.asked(2070, 2, 8);
    let outputs = b.answer(2071, 2, nonce, 5, below(8));
    assert!(matches!(outputs[..], [Output::Flush { .. }]), "two of three: {outputs:?}");
}

#[test]
fn a_hand_over_flushes_closes_releases_and_is_final() {
    let mut b = Bench::new(&[1, 2, 3]);
    b.open(2000, 5);
    b.assigned(2010, 6, 2);
    b.asked(2011, 2, 6);
    assert_eq!(b.outputs(), [TO_FLUSH], "it serves until that is done");
    assert_eq!(b.pass(2050), [], "no renewal");
    b.owner.handle_flushed(tenure(5));
    assert_eq!(b.outputs(), [Output::CloseLease(tenure(5))]);
    b.owner.handle_closed(at(2052), tenure(5), &b.log);
    let released = |nodes: &[u64]| -> Vec<Output> {
        let release = || Release { tenures: vec![tenure(5)] };
        nodes.iter().map(|n| Output::Release(NodeId(*n), release())).collect()
    };
    assert_eq!(b.outputs(), released(&[1, 2, 3]));
    let ack = ReleaseAck { to: me(), tenures: vec![tenure(5)] };
    b.owner.handle_release_ack(NodeId(1), &ack);
    b.owner.handle_release_ack(NodeId(3), &ack);
    assert_eq!(b.pass(2062), released(&[2]), "again, where it was not acknowledged");
    assert!(!b.owner.is_idle());
    b.owner.handle_release_ack(NodeId(2), &ack);
    assert!(b.owner.is_idle());
    b.assigned(2100, 5, 1);
    assert_eq!(b.pass(2200), [], "never again, whatever the state says");
}

#[test]
fn a_successor_that_has_not_asked_is_waited_for() {
    let mut b = Bench::new(&[1, 2, 3]);
    b.open(2000, 5);
    b.assigned(2010, 6, 2);
    b.asked(2011, 1, 6);
    b.asked(2012, 2, 4);
    assert_eq!(b.pass(2029), [], "neither this node nor an earlier epoch counts");
    assert_eq!(b.owner.holding(at(2029)).collect::<Vec<_>>(), [tenure(5)]);
    assert_eq!(b.owner.next_deadline(), Some(at(2030)));
    b.asked(2029, 2, 6);
    assert_eq!(b.outputs(), [TO_FLUSH]);
}

#[test]
fn a_successor_that_does_not_ask_is_waited_for_so_long_and_until_it_is_time_to_flush() {
    let mut b = Bench::new(&[1, 2, 3]);
    b.open(2000, 5);
    b.assigned(2010, 6, 2);
    assert_eq!(b.pass(2029), []);
    assert_eq!(b.pass(2030), [TO_FLUSH]);

    let mut b = Bench::new(&[1, 2, 3]);
    b.open(2000, 5);
    b.assigned(2090, 6, 2);
    assert_eq!(b.owner.next_deadline(), Some(at(2093)));
    assert_eq!(b.pass(2092), []);
    assert_eq!(b.pass(2093), [TO_FLUSH]);
    assert_eq!(b.pass(2098), [Output::CloseLease(tenure(5))]);
}

#[test]
fn a_successor_that_asked_before_this_node_knew_of_it_is_not_waited_for() {
    let mut b = Bench::new(&[1, 2, 3]);
    b.open(2000, 5);
    b.asked(2009, 2, 6);
    b.assigned(2010, 6, 2);
    assert_eq!(b.outputs(), [TO_FLUSH]);
}

#[test]
fn a_successor_whose_epoch_voters_know_of_and_this_node_does_not_is_waited_for() {
    let mut b = Bench::new(&[1, 2, 3]);
    b.open(2000, 5);
    let nonce = b.request(2034);
    b.answer(2035, 2, nonce, 5, below(6));
    b.answer(2035, 3, nonce, 5, below(6));
    assert_eq!(b.pass(2040), [], "it is not committed yet, perhaps");
    b.assigned(2041, 6, 2);
    assert_eq!(b.outputs(), []);
    b.asked(2042, 2, 6);
    assert_eq!(b.outputs(), [TO_FLUSH]);
}

#[test]
fn nobody_is_waited_for_who_is_not_known_or_asks_others_only() {
    let mut b = Bench::new(&[1, 2, 3]);
    b.open(2000, 5);
    b.owner.surrender(at(2010), &b.log);
    assert_eq!(b.outputs(), [TO_FLUSH], "no successor");

    let mut b = Bench::new(&[2, 3, 4]);
    b.assigned(2000, 5, 1);
    let nonce = nonce(&b.outputs());
    b.answer(2000, 2, nonce, 5, Ok(()));
    b.answer(2000, 3, nonce, 5, Ok(()));
    b.outputs();
    b.assigned(2010, 6, 2);
    assert_eq!(b.outputs(), [TO_FLUSH], "it has no vote here");
}

#[test]
fn a_lease_that_ends_before_the_flush_does_is_closed() {
    let mut b = Bench::new(&[1, 2, 3]);
    b.open(2000, 5);
    b.assigned(2010, 6, 2);
    b.asked(2011, 2, 6);
    b.outputs();
    assert_eq!(b.pass(2098), [Output::CloseLease(tenure(5))]);
    b.owner.handle_flushed(tenure(5));
    assert_eq!(b.outputs(), [], "too late to matter");
}

#[test]
fn an_epoch_that_an_earlier_run_gave_back_is_given_back_again() {
    let mut b = Bench::new(&[1, 2]);
    b.assigned(2000, 5, 1);
    b.outputs();
    let nonce = b.request(2034);
    b.answer(2035, 2, nonce, 5, below(8));
    assert_eq!(b.owner.given_back().count(), 0, "that epoch may never be committed");
    let released = Err(Refused { reason: RefusalReason::Released, floor: Epoch(5) });
    b.answer(2036, 2, nonce, 5, released);
    assert_eq!(b.owner.given_back().collect::<Vec<_>>(), [tenure(5)], "the leader can assign it anew");
    b.pass(2040);
    assert!(b.owner.claims().next().is_none(), "it is asked for no more");
}

#[test]
fn i12_what_an_empty_kernel_owned_is_given_back_unclaimed() {
    let mut b = Bench::new(&[1, 2]);
    b.owner.forgo(Epoch(5));
    b.assigned(2000, 5, 1);
    assert_eq!(
        b.owner.given_back().collect::<Vec<_>>(),
        [tenure(5)],
        "the leader can assign it to who has the flows"
    );
    b.pass(2100);
    assert!(b.owner.claims().next().is_none());
    b.open(2200, 7);
}

#[test]
fn a_lapsed_lease_is_asked_for_again_and_opens_anew() {
    let mut b = Bench::new(&[1, 2, 3]);
    b.open(2000, 5);
    let nonce = b.request(2150);
    assert_eq!(b.owner.counters().lapsed, 1);
    b.answer(2151, 1, nonce, 5, Ok(()));
    assert!(matches!(b.answer(2151, 3, nonce, 5, Ok(()))[..], [Output::SetLease { first: true, .. }]));
}

#[test]
fn reassigned_to_itself_it_serves_on_until_the_new_epoch_opens() {
    let mut b = Bench::new(&[1, 2, 3]);
    b.open(2000, 5);
    b.assigned(2010, 6, 1);
    let outputs = b.outputs();
    let [Output::Request(request)] = &outputs[..] else { panic!("{outputs:?}") };
    assert_eq!(request.tenures, [tenure(6)]);
    let nonce = request.nonce;
    b.answer(2011, 1, nonce, 6, Ok(()));
    let outputs = b.answer(2011, 2, nonce, 6, Ok(()));
    assert!(matches!(outputs[..], [Output::SetLease { tenure, .. }] if tenure.epoch == Epoch(6)));
    assert_eq!(b.owner.claims().count(), 1, "nothing to close");
}

#[test]
fn alone_it_needs_nobody_until_it_is_not_alone() {
    let mut b = Bench::new(&[1]);
    b.assigned(2000, 5, 1);
    let unbounded = Output::SetLease { tenure: tenure(5), until: Until::Unbounded, first: true };
    assert_eq!(b.outputs(), [unbounded]);
    assert_eq!((b.pass(9000), b.owner.is_bounded()), (vec![], false));

    b.owner.prepare_growth(at(9000), &b.log);
    let outputs = b.outputs();
    let bounded = Output::SetLease { tenure: tenure(5), until: Until::At(at(9098)), first: false };
    assert_eq!(outputs[0], bounded);
    assert!(matches!(outputs[1], Output::Request(_)) && b.owner.is_bounded());

    b.log.handle_event(at(9050), membership(9, &[1, 2]));
    b.owner.growth_done();
    b.owner.handle_log(at(9050), &b.log);
    let nonce = match b.outputs().as_slice() {
        [Output::Request(r)] => r.nonce,
        other => panic!("the new voter is asked at once: {other:?}"),
    };
    assert_eq!(b.answer(9051, 1, nonce, 5, Ok(())), [], "one of two");
    assert!(matches!(b.answer(9051, 2, nonce, 5, Ok(()))[..], [Output::SetLease { first: false, .. }]));
}

#[test]
fn i3_single_owner_the_only_voter_of_others_is_not_alone() {
    let mut b = Bench::new(&[1]);
    b.assigned(2000, 5, 1);
    assert!(!b.owner.is_bounded(), "alone");
    // Another node registers: it could be given the group.
    let nodes = [(NodeId(1), NodeRole::Dataplane), (NodeId(2), NodeRole::Dataplane)];
    let view = View { applied: LogIndex(6), nodes: nodes.into(), ..b.log.view().clone() };
    b.outputs();
    b.log.handle_view(view);
    b.owner.handle_log(at(2500), &b.log);
    let outputs = b.outputs();
    assert!(matches!(outputs[0], Output::SetLease { until: Until::At(_), first: false, .. }), "{outputs:?}");
    assert!(matches!(outputs[1], Output::Request(_)) && b.owner.is_bounded(), "{outputs:?}");
}

#[test]
fn i3_single_owner_a_group_that_the_log_gives_away_ends_being_alone() {
    let mut b = Bench::new(&[1]);
    b.assigned(2000, 5, 1);
    b.outputs();
    let away = LogEvent::Assign { index: LogIndex(9), group: G, replaces: Epoch(5), node: NodeId(2) };
    b.log.handle_event(at(2500), away);
    b.owner.handle_log(at(2500), &b.log);
    assert!(b.owner.is_bounded(), "not committed, and bounded all the same");
}

#[test]
fn what_an_earlier_run_left_of_somebody_elses_group_is_closed_once() {
    let mut b = Bench::new(&[1, 2, 3]);
    b.assigned(0, 5, 2);
    assert_eq!(b.outputs(), [Output::CloseLease(tenure(5))]);
    b.assigned(10, 6, 3);
    assert_eq!(b.outputs(), []);
}

#[test]
fn voters_that_wait_for_a_change_to_be_applied_end_no_lease() {
    let mut b = Bench::new(&[1, 2, 3]);
    b.open(2000, 5);
    let waits = Err(Refused { reason: RefusalReason::AddressMoves, floor: Epoch(5) });
    let nonce = b.request(2034);
    for voter in 1..=3 {
        assert_eq!(b.answer(2040, voter, nonce, 5, waits), [], "nothing is flushed, nothing closed");
    }
    // The change is applied, and gives the group a new epoch: it opens while the old one still serves.
    b.open(2060, 6);
}
