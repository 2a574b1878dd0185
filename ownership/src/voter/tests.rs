use std::collections::BTreeSet;
use std::time::Duration;

use lockstep_model::ids::{LogIndex, NodeId};

use super::*;
use crate::identity::BootId;
use crate::log::{Edit, LogEvent};
use crate::membership::Membership;
use crate::view::{GroupView, View};

const G: GroupId = GroupId(7);
const LEASE: Duration = Duration::from_millis(120);

fn at(ms: u64) -> Instant {
    Instant::from_nanos(ms * 1_000_000)
}

fn run(node: u64, incarnation: u64) -> Identity {
    Identity { node: NodeId(node), boot: BootId([node as u8; 16]), incarnation }
}

fn log_id(index: u64) -> LogId {
    LogId { term: 1, leader: NodeId(1), index: LogIndex(index) }
}

fn log() -> LogView {
    let mut log = LogView::default();
    let voters: BTreeSet<NodeId> = (1..=3).map(NodeId).collect();
    log.handle_event(at(0), LogEvent::Membership(Membership { id: log_id(1), configs: vec![voters] }));
    log
}

fn ask(nonce: u64, epoch: u64) -> Request {
    let tenures = vec![Tenure { group: G, epoch: Epoch(epoch) }];
    Request { nonce, membership: log_id(1), duration: LEASE, tenures }
}

fn release(epoch: u64) -> Release {
    Release { tenures: vec![Tenure { group: G, epoch: Epoch(epoch) }] }
}

/// A voter that has been up long enough, and what it says.
struct Bench {
    voter: Voter,
    log: LogView,
}

impl Bench {
    fn new() -> Self {
        Self { voter: Voter::new(at(0)), log: log() }
    }

    fn ask(
        &mut self,
        ms: u64,
        from: Identity,
        nonce: u64,
        epoch: u64,
    ) -> Vec<(u64, Result<(), RefusalReason>)> {
        self.voter.handle_request(at(ms), from, &ask(nonce, epoch), &self.log);
        self.answers()
    }

    fn pass(&mut self, ms: u64) -> Vec<(u64, Result<(), RefusalReason>)> {
        self.voter.handle_timeout(at(ms), &self.log);
        self.answers()
    }

    fn release(&mut self, ms: u64, from: Identity, epoch: u64) -> Vec<(u64, Result<(), RefusalReason>)> {
        self.voter.handle_release(at(ms), from, &release(epoch), &self.log);
        self.answers()
    }

    fn answers(&mut self) -> Vec<(u64, Result<(), RefusalReason>)> {
        let mut answers = Vec::new();
        while let Some(output) = self.voter.poll_output() {
            if let Output::Reply(reply) = output {
                answers.extend(reply.answers.iter().map(|a| (reply.nonce, a.outcome.map_err(|r| r.reason))));
            }
        }
        answers
    }

    fn promise(&self, ms: u64) -> Option<Promise> {
        self.voter.promises(at(ms)).next().map(|(_, p)| p)
    }
}

#[test]
fn i3_single_owner_after_a_voters_restart() {
    let mut b = Bench::new();
    assert_eq!(b.ask(990, run(1, 1), 1, 5), []);
    assert_eq!(b.ask(995, run(1, 1), 2, 5), []);
    assert_eq!(b.pass(999), []);
    assert_eq!(b.voter.next_deadline(), Some(at(1000)));
    assert_eq!(b.pass(1000), [(2, Ok(()))], "the newest, the moment it may");
    assert_eq!(b.promise(1000).map(|p| p.until), Some(at(995 + 120)), "counted from its arrival");
}

#[test]
fn a_kept_request_is_answered_when_the_promise_before_it_ends() {
    let mut b = Bench::new();
    assert_eq!(b.ask(2000, run(1, 1), 1, 5), [(1, Ok(()))]);
    assert_eq!(b.ask(2060, run(2, 1), 10, 6), []);
    assert_eq!(b.ask(2100, run(2, 1), 11, 6), []);
    assert_eq!(b.ask(2110, run(1, 1), 2, 5), [(2, Err(RefusalReason::BelowFloor))], "no more extension");
    assert_eq!(b.voter.next_deadline(), Some(at(2120)));
    assert_eq!(b.pass(2119), []);
    assert_eq!(b.pass(2120), [(11, Ok(()))]);
    let promise = b.promise(2120).unwrap();
    assert_eq!((promise.holder, promise.until), (run(2, 1), at(2220)));
}

#[test]
fn a_request_kept_for_longer_than_it_asked_for_is_dropped() {
    let mut b = Bench::new();
    b.ask(2000, run(1, 1), 1, 5);
    b.ask(2010, run(2, 1), 10, 6);
    assert_eq!(b.pass(2400), []);
    assert_eq!((b.voter.counters().queue_expired, b.promise(2400)), (1, None));
}

#[test]
fn another_run_of_the_holder_waits_like_anybody_else() {
    let mut b = Bench::new();
    b.ask(2000, run(1, 1), 1, 5);
    assert_eq!(b.ask(2010, run(1, 2), 1, 5), []);
    assert_eq!(b.pass(2120), [(1, Ok(()))]);
}

#[test]
fn a_promise_never_shrinks_and_passes_to_the_holders_next_epoch() {
    let mut b = Bench::new();
    b.ask(2000, run(1, 1), 1, 5);
    let short = Request { duration: Duration::from_millis(30), ..ask(2, 6) };
    b.voter.handle_request(at(2010), run(1, 1), &short, &b.log);
    assert_eq!(b.answers(), [(2, Ok(()))]);
    let promise = b.promise(2010).unwrap();
    assert_eq!((promise.epoch, promise.until), (Epoch(6), at(2120)));
}

#[test]
fn a_release_is_terminal_and_answers_who_waits() {
    let mut b = Bench::new();
    b.ask(2000, run(1, 1), 1, 5);
    b.ask(2010, run(2, 1), 9, 6);
    assert_eq!(b.release(2020, run(1, 1), 5), [(9, Ok(()))]);
    assert_eq!(b.release(2021, run(1, 1), 5), [], "again: acknowledged, nothing else");
    b.release(2030, run(2, 1), 6);
    assert_eq!(b.ask(2031, run(2, 1), 10, 6), [(10, Err(RefusalReason::Released))]);
    assert_eq!(b.promise(2031), None);
}

#[test]
fn i3_single_owner_a_release_by_an_earlier_run_frees_nothing() {
    let mut b = Bench::new();
    b.ask(2000, run(1, 2), 1, 5);
    b.ask(2010, run(2, 1), 9, 6);
    assert_eq!(b.release(2020, run(1, 1), 5), []);
    assert_eq!(b.promise(2020).map(|p| p.holder), Some(run(1, 2)));
    assert_eq!(b.pass(2120), [(9, Ok(()))]);
}

/// The group went away from node 1 and came back to it; what it said when it went is late.
#[test]
fn i3_single_owner_a_late_release_leaves_the_promise_of_a_later_epoch() {
    let mut b = Bench::new();
    b.ask(2000, run(1, 1), 1, 5);
    b.ask(2010, run(1, 1), 2, 7);
    b.ask(2020, run(2, 1), 9, 8);
    assert_eq!(b.release(2030, run(1, 1), 5), []);
    assert_eq!(b.promise(2030).map(|p| (p.epoch, p.holder)), Some((Epoch(7), run(1, 1))));
    assert_eq!(b.release(2040, run(1, 1), 7), [(9, Ok(()))]);
}

#[test]
fn the_floor_follows_the_log_committed_or_not() {
    let mut b = Bench::new();
    b.ask(2000, run(1, 1), 1, 5);
    let assign = |index: u64, node: u64| LogEvent::Assign {
        index: LogIndex(index),
        group: G,
        replaces: Epoch(5),
        node: NodeId(node),
    };
    b.log.handle_event(at(2001), assign(8, 2));
    assert_eq!(b.ask(2010, run(1, 1), 2, 5), [(2, Err(RefusalReason::BelowFloor))]);
    assert_eq!(b.ask(2010, run(3, 1), 1, 8), [(1, Err(RefusalReason::NotAssignee))]);
    b.log.handle_event(at(2020), LogEvent::Truncated { after: LogIndex(7) });
    assert_eq!(b.ask(2030, run(1, 1), 3, 5), [(3, Ok(()))]);
    assert_eq!(b.voter.floor(G, &b.log), Epoch(5));
}

#[test]
fn refusals() {
    let mut b = Bench::new();
    let cases = [
        (Request { duration: Duration::ZERO, ..ask(1, 5) }, RefusalReason::Duration),
        (Request { duration: MAX_LEASE + Duration::from_nanos(1), ..ask(2, 5) }, RefusalReason::Duration),
        (Request { membership: log_id(0), ..ask(3, 5) }, RefusalReason::OldMembership),
    ];
    for (request, reason) in cases {
        b.voter.handle_request(at(2000), run(1, 1), &request, &b.log);
        assert_eq!(b.answers(), [(request.nonce, Err(reason))]);
    }
    assert_eq!(b.voter.heard(at(2000)).count(), 0, "an invalid request is not heard");
    assert_eq!(b.ask(2000, run(1, 1), 4, 5), [(4, Ok(()))]);
    let newer = Request { membership: log_id(9), ..ask(5, 5) };
    b.voter.handle_request(at(2001), run(1, 1), &newer, &b.log);
    assert_eq!(b.answers(), [(5, Ok(()))], "the owner may know a newer membership");
}

#[test]
fn an_owner_is_suspected_after_five_sixths_of_its_lease() {
    let mut b = Bench::new();
    let hears = |voter: &mut Voter| {
        std::iter::from_fn(|| voter.poll_output())
            .filter_map(|o| if let Output::HearingChanged(h) = o { Some(h.hears) } else { None })
            .collect::<Vec<_>>()
    };
    b.voter.handle_request(at(2000), run(1, 1), &ask(1, 5), &b.log);
    assert_eq!(hears(&mut b.voter), [true]);
    b.voter.handle_request(at(2040), run(1, 1), &ask(2, 5), &b.log);
    assert_eq!(hears(&mut b.voter), [false; 0], "no news");
    b.voter.handle_timeout(at(2139), &b.log);
    assert_eq!(hears(&mut b.voter), [false; 0]);
    b.voter.handle_timeout(at(2140), &b.log);
    assert_eq!(hears(&mut b.voter), [false]);
    b.voter.handle_request(at(2150), run(1, 1), &ask(3, 5), &b.log);
    assert_eq!(hears(&mut b.voter), [true]);
}

#[test]
fn i3_single_owner_a_change_that_takes_an_address_ends_extensions_when_it_is_appended() {
    let address: std::net::IpAddr = "192.0.2.1".parse().unwrap();
    let group = |name: &str| GroupView { name: name.into(), ..GroupView::default() };
    let view = |applied: u64| View {
        applied: LogIndex(applied),
        groups: [(G, group("loser")), (GroupId(8), group("gainer"))].into(),
        holders: [(address, G)].into(),
        ..View::default()
    };
    let gives = |index: u64, name: &str| LogEvent::Edit {
        index: LogIndex(index),
        edit: Edit { gives: [(address, name.to_owned())].into(), ..Edit::default() },
    };
    let mut b = Bench::new();
    b.log.handle_view(view(5));
    b.ask(2000, run(1, 1), 1, 5);

    b.log.handle_event(at(2001), gives(6, "loser"));
    assert_eq!(b.ask(2010, run(1, 1), 2, 5), [(2, Ok(()))], "an ordinary change disturbs nobody");
    b.log.handle_event(at(2011), gives(7, "gainer"));
    assert_eq!(b.ask(2020, run(1, 1), 3, 5), [(3, Err(RefusalReason::AddressMoves))]);
    assert_eq!(b.promise(2020).map(|p| p.until), Some(at(2130)), "not extended");
    assert_eq!(b.log.ends_below(GroupId(8)), Epoch(0), "the gainer goes on");
    assert_eq!(b.ask(2030, run(1, 1), 4, 7), [(4, Ok(()))], "the epoch that the change gives");
    b.log.handle_event(at(2040), LogEvent::Truncated { after: LogIndex(6) });
    assert_eq!(b.log.ends_below(G), Epoch(0), "void");

    // What an earlier change has made of the address is not known before it is applied.
    b.log.handle_event(at(2050), gives(7, "gainer"));
    b.log.handle_event(at(2051), gives(8, "third"));
    assert_eq!((b.log.ends_below(G), b.log.ends_below(GroupId(8))), (Epoch(8), Epoch(8)));
    b.log.handle_view(view(8));
    assert_eq!(b.log.ends_below(G), Epoch(0), "applied: the epoch says it from now on");

    let edit = Edit { deletes: ["loser".to_owned()].into(), ..Edit::default() };
    b.log.handle_event(at(2060), LogEvent::Edit { index: LogIndex(9), edit });
    assert_eq!((b.log.ends_below(G), b.log.ends_below(GroupId(8))), (Epoch(9), Epoch(0)));
}

#[test]
fn i3_single_owner_a_group_that_is_gone_gets_no_promise_and_is_forgotten() {
    let made_at = |index: u64| GroupId(LogIndex(index).object(0));
    let view = |applied: u64, groups: &[GroupId]| View {
        applied: LogIndex(applied),
        groups: groups.iter().map(|g| (*g, GroupView::default())).collect(),
        ..View::default()
    };
    let mut b = Bench::new();
    let ask = |b: &mut Bench, ms: u64, group: GroupId| {
        let tenures = vec![Tenure { group, epoch: Epoch(9) }];
        b.voter.handle_request(at(ms), run(1, 1), &Request { tenures, ..ask(ms, 9) }, &b.log);
        b.answers().iter().map(|(_, outcome)| *outcome).collect::<Vec<_>>()
    };
    b.log.handle_view(view(6, &[made_at(5)]));
    assert_eq!(ask(&mut b, 2000, made_at(5)), [Ok(())]);
    assert_eq!(ask(&mut b, 2000, made_at(8)), [Ok(())], "its making is not applied here");

    b.log.handle_view(view(7, &[]));
    assert_eq!(ask(&mut b, 2010, made_at(5)), [Err(RefusalReason::BelowFloor)]);
    b.voter.handle_view(at(2119), &b.log);
    assert_eq!(b.voter.heard(at(2119)).count(), 2, "its promise still binds");
    b.voter.handle_view(at(2120), &b.log);
    assert_eq!(b.voter.heard(at(2120)).map(|h| h.tenure.group).collect::<Vec<_>>(), [made_at(8)]);
}
