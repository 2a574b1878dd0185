//! I5 at the places where a walk, live changes and refusals meet; each is one schedule.

#[path = "replication/table.rs"]
#[expect(dead_code, reason = "shared with the replication test, which uses all of it")]
mod table;

use std::time::Duration;

use lockstep_model::flow::{FlowChange, FlowRecord, SHARDS, WriteOutcome};
use lockstep_model::ids::{Epoch, GroupId, LogIndex, NodeId};
use lockstep_sync_core::{
    Connection, Down, Nack, NackReason, Origin, OriginOutput, PassId, Purpose, Receiver, ReceiverOutput,
    Session, StreamId, SyncState, Time, Up, WalkId,
};

use table::{GROUP, Table, key};

const EPOCH: Epoch = Epoch(5);
const NOW: Time = Time::from_nanos(1_000_000_000);
/// When subscribers came: who else needs the table read has come as well by now.
const EARLIER: Time = Time::from_nanos(0);
const CONNECTION: Connection = Connection(1);
const SESSION: Session = Session([1; 16]);

fn stream() -> StreamId {
    StreamId { peer: NodeId(2), shard: key(0).shard() }
}

fn record(table: &mut Table, number: u64) -> FlowRecord {
    match table.packet(key(number), EPOCH, 1, 0) {
        FlowChange::Upsert(record) => record,
        FlowChange::Remove { .. } => unreachable!("a packet ends no flow"),
    }
}

/// Everything the origin says and asks for now.
fn outputs(origin: &mut Origin) -> (Vec<Down>, Option<PassId>) {
    origin.release_later();
    let (mut messages, mut page) = (Vec::new(), None);
    while let Some(output) = origin.poll_output(NOW) {
        match output {
            OriginOutput::Send { message, .. } => messages.push(message),
            OriginOutput::ReadPage { pass, .. } => page = Some(pass),
            OriginOutput::Close { reason, .. } => panic!("closed: {reason:?}"),
            OriginOutput::List { .. } | OriginOutput::Digest(_) => {
                panic!("nobody here understands digests")
            }
        }
    }
    (messages, page)
}

fn acknowledge(origin: &mut Origin, credit: u64) {
    let position = origin.lag(NOW).iter().find(|lag| lag.stream == stream()).unwrap().position;
    origin.handle_up(NOW, stream(), CONNECTION, Up::Ack { position, nacks: Vec::new(), credit });
}

/// An owner whose subscriber has said Hello, in the middle of its first walk: the page is not read yet.
fn walking() -> (Origin, PassId) {
    let mut origin = Origin::new(SESSION);
    origin.set_peers([NodeId(2)]);
    origin.set_replicas(NOW, LogIndex(1), [(GROUP, [(NodeId(2), LogIndex(1))].into())].into());
    origin.own(NOW, GROUP, EPOCH);
    origin.handle_up(
        EARLIER,
        stream(),
        CONNECTION,
        Up::Hello { session: None, position: 0, credit: 100, audits: false, removes: true },
    );
    let (messages, page) = outputs(&mut origin);
    assert!(
        matches!(messages[..], [Down::Welcome { resumed: false, .. }, Down::WalkBegin { .. }]),
        "{messages:?}"
    );
    (origin, page.expect("a page is asked for"))
}

/// The same, when the walk has ended and nothing is left to say.
fn walked() -> Origin {
    let (mut origin, pass) = walking();
    origin.handle_page(NOW, pass, Vec::new(), true);
    outputs(&mut origin);
    acknowledge(&mut origin, 100);
    assert!(origin.is_flushed());
    origin
}

fn mentions(message: &Down, record: &FlowRecord) -> bool {
    matches!(message, Down::Batch { changes, .. } if changes.contains(&FlowChange::Upsert(record.clone())))
}

#[test]
fn i5_a_page_read_before_a_flow_ended_does_not_bring_it_back() {
    let (mut origin, pass) = walking();
    let mut table = Table::default();
    let flow = record(&mut table, 0);
    let page = vec![flow.clone()];
    let ended = table.expire(flow.key).unwrap();
    origin.handle_change(NOW, ended.clone(), EPOCH);
    let (messages, _) = outputs(&mut origin);
    assert!(matches!(&messages[..], [Down::Batch { changes, .. }] if *changes == [ended]), "{messages:?}");
    acknowledge(&mut origin, 100);

    origin.handle_page(NOW, pass, page, true);
    let (messages, _) = outputs(&mut origin);
    assert!(matches!(messages[..], [Down::WalkEnd { .. }]), "{messages:?}");
}

#[test]
fn i5_what_waits_when_a_walk_begins_is_mentioned_in_it() {
    let mut origin = walked();
    acknowledge(&mut origin, 0);
    let flow = record(&mut Table::default(), 0);
    origin.handle_change(NOW, FlowChange::Upsert(flow.clone()), EPOCH);
    origin.handle_lost(NOW, 1 << stream().shard);
    let (messages, pass) = outputs(&mut origin);
    assert_eq!(messages, vec![], "there is no credit");
    origin.handle_page(NOW, pass.expect("a page is asked for"), vec![flow.clone()], true);

    acknowledge(&mut origin, 100);
    let (messages, _) = outputs(&mut origin);
    let begin = messages.iter().position(|m| matches!(m, Down::WalkBegin { .. })).expect("the walk begins");
    let end = messages.iter().position(|m| matches!(m, Down::WalkEnd { .. })).expect("the walk ends");
    assert!(messages[begin..end].iter().any(|message| mentions(message, &flow)), "{messages:?}");
}

#[test]
fn i5_a_live_change_made_after_a_walk_began_is_sent_after_its_begin_marker() {
    let mut origin = walked();
    acknowledge(&mut origin, 0);
    origin.handle_lost(NOW, 1 << stream().shard);
    let (_, pass) = outputs(&mut origin);
    let flow = record(&mut Table::default(), 0);
    origin.handle_change(NOW, FlowChange::Upsert(flow.clone()), EPOCH);
    // The pass was past its bucket already.
    origin.handle_page(NOW, pass.expect("a page is asked for"), Vec::new(), true);
    acknowledge(&mut origin, 100);
    let (messages, _) = outputs(&mut origin);
    let begin = messages.iter().position(|m| matches!(m, Down::WalkBegin { .. })).expect("the walk begins");
    assert!(messages[begin..].iter().any(|message| mentions(message, &flow)), "{messages:?}");
}

#[test]
fn i5_a_newer_version_keeps_its_place_in_the_walk() {
    let (mut origin, pass) = walking();
    acknowledge(&mut origin, 0);
    let mut table = Table::default();
    let old = record(&mut table, 0);
    origin.handle_page(NOW, pass, vec![old], true);
    let new = record(&mut table, 0);
    origin.handle_change(NOW, FlowChange::Upsert(new.clone()), EPOCH);
    acknowledge(&mut origin, 100);
    let (messages, _) = outputs(&mut origin);
    assert!(mentions(&messages[0], &new) && matches!(messages[1], Down::WalkEnd { .. }), "{messages:?}");
}

#[test]
fn i5_a_loss_during_a_pass_is_walked_by_the_next_one() {
    let (mut origin, first) = walking();
    origin.handle_lost(NOW, 1 << stream().shard);
    assert_eq!(outputs(&mut origin), (vec![], None));
    origin.handle_page(NOW, first, Vec::new(), true);
    let (messages, page) = outputs(&mut origin);
    assert!(matches!(messages[..], [Down::WalkEnd { .. }]) && page.is_none(), "{messages:?}");
    acknowledge(&mut origin, 100);
    let (messages, page) = outputs(&mut origin);
    assert!(matches!(messages[..], [Down::WalkBegin { .. }]), "{messages:?}");
    assert!(page.is_some_and(|second| second > first));
}

#[test]
fn groups_that_are_taken_over_one_after_the_other_are_served_by_one_reading() {
    let mut origin = Origin::new(SESSION);
    origin.set_peers([NodeId(2)]);
    let to_peer = |index| [(NodeId(2), LogIndex(index))].into();
    let groups = [7, 8, 9].map(GroupId);
    origin.set_replicas(EARLIER, LogIndex(1), groups.map(|group| (group, to_peer(1))).into());
    for shard in 0..SHARDS {
        let hello = Up::Hello { session: None, position: 0, credit: 100, audits: false, removes: true };
        origin.handle_up(EARLIER, StreamId { peer: NodeId(2), shard }, CONNECTION, hello);
    }
    let at = |ms: u64| NOW + Duration::from_millis(ms);
    let asked = |origin: &mut Origin, now| {
        std::iter::from_fn(|| origin.poll_output(now))
            .filter(|output| matches!(output, OriginOutput::ReadPage { .. }))
            .count()
    };
    for (ms, group) in groups.into_iter().enumerate() {
        origin.own(at(ms as u64), group, EPOCH);
        assert_eq!(asked(&mut origin, at(ms as u64)), 0, "others may follow");
    }
    assert_eq!(asked(&mut origin, at(19)), 0);
    assert_eq!(asked(&mut origin, at(20)), 1);
    let walks = origin.lag(at(20)).iter().map(|lag| lag.walks).sum::<usize>();
    assert_eq!(walks, groups.len() * usize::from(SHARDS));
}

#[test]
fn streams_that_come_one_after_the_other_are_served_by_one_reading() {
    let mut origin = Origin::new(SESSION);
    origin.set_peers([NodeId(2)]);
    origin.set_replicas(EARLIER, LogIndex(1), [(GROUP, [(NodeId(2), LogIndex(1))].into())].into());
    origin.own(EARLIER, GROUP, EPOCH);
    let at = |ms: u64| Time::from_nanos(ms * 1_000_000);
    let asked = |origin: &mut Origin, now| {
        std::iter::from_fn(|| origin.poll_output(now))
            .filter(|output| matches!(output, OriginOutput::ReadPage { .. }))
            .count()
    };
    for shard in 0..SHARDS {
        let hello = Up::Hello { session: None, position: 0, credit: 100, audits: false, removes: true };
        origin.handle_up(at(4 * u64::from(shard)), StreamId { peer: NodeId(2), shard }, CONNECTION, hello);
        assert_eq!(asked(&mut origin, at(4 * u64::from(shard))), 0, "others may come");
    }
    assert_eq!(origin.next_deadline(), Some(at(20)), "who comes later does not make the first wait longer");
    assert_eq!(asked(&mut origin, at(20)), 1);
    assert_eq!(origin.lag(at(20)).iter().map(|lag| lag.walks).sum::<usize>(), usize::from(SHARDS));
    assert_eq!(origin.counters().passes, 1);
}

#[test]
fn i5_a_stream_cut_in_a_walk_walks_again_when_it_resumes() {
    let (mut origin, pass) = walking();
    acknowledge(&mut origin, 100);
    origin.disconnected(stream(), CONNECTION);
    origin.handle_page(NOW, pass, Vec::new(), true);
    let hello = Up::Hello { session: Some(SESSION), position: 1, credit: 100, audits: false, removes: true };
    origin.handle_up(EARLIER, stream(), Connection(2), hello);
    let (messages, page) = outputs(&mut origin);
    assert!(
        matches!(messages[..], [Down::Welcome { resumed: true, .. }, Down::WalkBegin { .. }]),
        "{messages:?}"
    );
    assert!(page.is_some());
}

#[test]
fn i5_a_position_below_what_was_acknowledged_is_walked() {
    let mut origin = walked();
    origin.disconnected(stream(), CONNECTION);
    let hello = Up::Hello { session: Some(SESSION), position: 1, credit: 100, audits: false, removes: true };
    origin.handle_up(EARLIER, stream(), Connection(2), hello);
    let (messages, page) = outputs(&mut origin);
    assert!(
        matches!(messages[..], [Down::Welcome { resumed: false, .. }, Down::WalkBegin { .. }]),
        "{messages:?}"
    );
    assert!(page.is_some());
}

/// A standby that has received one record, and the ops of its write.
fn received() -> (Receiver, lockstep_sync_core::WorkId, Vec<lockstep_model::flow::FlowOp>) {
    let mut receiver = Receiver::new(0);
    receiver.connected(stream(), CONNECTION);
    let welcome = Down::Welcome { session: SESSION, resumed: false, position: 0 };
    receiver.handle_down(NOW, stream(), CONNECTION, welcome);
    while receiver.poll_output().is_some() {}
    let changes = vec![FlowChange::Upsert(record(&mut Table::default(), 0))];
    let batch = Down::Batch { group: GROUP, epoch: EPOCH, position: 1, changes };
    receiver.handle_down(NOW, stream(), CONNECTION, batch);
    let output = receiver.poll_output();
    let Some(ReceiverOutput::Write { work, ops }) = output else { panic!("no write: {output:?}") };
    assert_eq!(receiver.poll_output(), None, "nothing is acknowledged before it is written");
    (receiver, work, ops)
}

fn hello_after_reconnect(receiver: &mut Receiver) -> Up {
    receiver.disconnected(stream(), CONNECTION);
    receiver.connected(stream(), Connection(2));
    match receiver.poll_output() {
        Some(ReceiverOutput::Send { message, .. }) => message,
        other => panic!("no Hello: {other:?}"),
    }
}

#[test]
fn i5_a_standby_resumes_behind_what_its_kernel_holds() {
    let (mut receiver, work, ops) = received();
    receiver.handle_written(work, ops, &[WriteOutcome::Applied]);
    let ack = receiver.poll_output();
    assert!(
        matches!(ack, Some(ReceiverOutput::Send { message: Up::Ack { position: 1, .. }, .. })),
        "{ack:?}"
    );
    let hello = hello_after_reconnect(&mut receiver);
    assert!(matches!(hello, Up::Hello { session: Some(SESSION), position: 1, .. }), "{hello:?}");
}

#[test]
fn an_acknowledgement_may_wait_for_the_next() {
    let (mut receiver, work, ops) = received();
    assert!(!receiver.owes_acknowledgement());
    receiver.handle_written(work, ops, &[WriteOutcome::Applied]);
    assert_eq!(receiver.poll_unacknowledged(), None);
    assert!(receiver.owes_acknowledgement());

    let changes = vec![FlowChange::Upsert(record(&mut Table::default(), 0))];
    let batch = Down::Batch { group: GROUP, epoch: EPOCH, position: 2, changes };
    receiver.handle_down(NOW, stream(), CONNECTION, batch);
    let Some(ReceiverOutput::Write { work, ops }) = receiver.poll_unacknowledged() else {
        panic!("no write")
    };
    receiver.handle_written(work, ops, &[WriteOutcome::Stale]);
    let ack = receiver.poll_output();
    assert!(
        matches!(ack, Some(ReceiverOutput::Send { message: Up::Ack { position: 2, .. }, .. })),
        "{ack:?}"
    );
    assert!(!receiver.owes_acknowledgement());
    assert_eq!(receiver.poll_output(), None, "once for both");
}

#[test]
fn i5_a_standby_does_not_resume_behind_a_write_that_is_not_done() {
    let (mut receiver, ..) = received();
    let hello = hello_after_reconnect(&mut receiver);
    assert!(matches!(hello, Up::Hello { session: Some(SESSION), position: 0, .. }), "{hello:?}");
}

#[test]
fn i5_a_refusal_that_may_have_been_lost_is_walked() {
    let (mut receiver, work, ops) = received();
    receiver.handle_written(work, ops, &[WriteOutcome::Full]);
    let ack = receiver.poll_output();
    let refused =
        matches!(&ack, Some(ReceiverOutput::Send { message: Up::Ack { nacks, .. }, .. }) if nacks.len() == 1);
    assert!(refused, "{ack:?}");
    let hello = hello_after_reconnect(&mut receiver);
    assert!(matches!(hello, Up::Hello { session: None, .. }), "{hello:?}");
}

#[test]
fn i5_the_next_owners_walk_counts_before_the_former_one_gives_up() {
    let next = Epoch(EPOCH.get() + 1);
    let (mut receiver, work, ops) = received();
    receiver.handle_written(work, ops, &[WriteOutcome::Applied]);
    receiver.own(NOW, GROUP, EPOCH);
    let walk = WalkId(1);
    for message in [
        Down::WalkBegin { group: GROUP, epoch: next, walk, purpose: Purpose::Hold(LogIndex(1)), position: 2 },
        Down::WalkEnd { group: GROUP, epoch: next, walk, position: 3 },
    ] {
        receiver.handle_down(NOW, stream(), CONNECTION, message);
    }
    let mut outputs = std::iter::from_fn(|| receiver.poll_output());
    assert!(outputs.any(|o| matches!(o, ReceiverOutput::Sweep { epoch, .. } if epoch == next)));
    assert_eq!(receiver.counters().walks_refused, 0);
}

/// Gives a receiver a whole walk of one epoch on every shard, in one session of the origin.
fn whole_walk(receiver: &mut Receiver, now: Time, connection: Connection, session: Session) {
    for shard in 0..SHARDS {
        let stream = StreamId { peer: NodeId(2), shard };
        begun(receiver, now, stream, connection, session);
        let walk = WalkId(1);
        let begin = Down::WalkBegin {
            group: GROUP,
            epoch: EPOCH,
            walk,
            purpose: Purpose::Hold(LogIndex(1)),
            position: 1,
        };
        receiver.handle_down(now, stream, connection, begin);
        receiver.handle_down(
            now,
            stream,
            connection,
            Down::WalkEnd { group: GROUP, epoch: EPOCH, walk, position: 2 },
        );
        while let Some(output) = receiver.poll_output() {
            if let ReceiverOutput::Sweep { work, .. } = output {
                receiver.handle_swept(now, work, 0);
            }
        }
    }
}

fn begun(receiver: &mut Receiver, now: Time, stream: StreamId, connection: Connection, session: Session) {
    receiver.connected(stream, connection);
    let welcome = Down::Welcome { session, resumed: false, position: 0 };
    receiver.handle_down(now, stream, connection, welcome);
}

#[test]
fn i5_what_an_earlier_session_gave_is_remembered_until_a_walk_of_the_next() {
    let at = |s: u64| Time::from_nanos(s * 1_000_000_000);
    let mut receiver = Receiver::new(1);
    receiver.set_memberships([(GROUP, LogIndex(1))].into());
    receiver.learn_epoch(GROUP, EPOCH);
    whole_walk(&mut receiver, at(1), CONNECTION, SESSION);
    assert_eq!(receiver.group_sync(at(1), GROUP).state, SyncState::CaughtUp);
    // The origin returns with nothing, and not as the owner: there is no walk of the group.
    for shard in 0..SHARDS {
        let stream = StreamId { peer: NodeId(2), shard };
        receiver.disconnected(stream, CONNECTION);
        begun(&mut receiver, at(5), stream, Connection(2), Session([2; 16]));
    }
    let sync = receiver.group_sync(at(6), GROUP);
    assert_eq!((sync.state, sync.epoch, sync.origin), (SyncState::Syncing, EPOCH, Some(NodeId(2))));
    assert_eq!(sync.age, std::time::Duration::from_secs(5), "since it was last heard as the owner");
    // It lasts over further sessions, and ends with a walk.
    begun(&mut receiver, at(7), stream(), Connection(3), Session([3; 16]));
    assert_eq!(receiver.group_sync(at(7), GROUP).age, std::time::Duration::from_secs(6));
    whole_walk(&mut receiver, at(8), Connection(4), Session([4; 16]));
    assert_eq!(receiver.group_sync(at(8), GROUP).state, SyncState::CaughtUp);
}

#[test]
fn i5_a_former_owner_is_behind_since_it_closed_until_the_next_ones_walk() {
    let at = |s: u64| Time::from_nanos(s * 1_000_000_000);
    let next = Epoch(EPOCH.get() + 1);
    let mut receiver = Receiver::new(1);
    receiver.set_memberships([(GROUP, LogIndex(1))].into());
    receiver.own(at(1), GROUP, EPOCH);
    receiver.learn_epoch(GROUP, next);
    receiver.disown(at(2), GROUP);
    let sync = receiver.group_sync(at(5), GROUP);
    assert_eq!((sync.state, sync.epoch, sync.origin), (SyncState::Syncing, EPOCH, None));
    assert_eq!(sync.age, std::time::Duration::from_secs(3), "since it made flows itself");
    // A walk of an older epoch gives less.
    whole_walk(&mut receiver, at(6), CONNECTION, SESSION);
    assert_eq!(receiver.group_sync(at(6), GROUP).age, std::time::Duration::from_secs(4));
    receiver.forget(GROUP);
    assert_eq!(receiver.group_sync(at(6), GROUP).state, SyncState::Never);
}

#[test]
fn i5_an_owner_that_has_not_heard_of_a_standby_has_nothing_removed_there() {
    let mut receiver = Receiver::new(1);
    receiver.set_memberships([(GROUP, LogIndex(5))].into());
    receiver.learn_epoch(GROUP, EPOCH);
    begun(&mut receiver, NOW, stream(), CONNECTION, SESSION);
    for (position, as_of, removed) in [(1, 4, false), (3, 5, true)] {
        let (walk, purpose) = (WalkId(position), Purpose::Remove(LogIndex(as_of)));
        let begin = Down::WalkBegin { group: GROUP, epoch: EPOCH, walk, purpose, position };
        let end = Down::WalkEnd { group: GROUP, epoch: EPOCH, walk, position: position + 1 };
        [begin, end].into_iter().for_each(|message| receiver.handle_down(NOW, stream(), CONNECTION, message));
        let (mut swept, mut nacks) = (false, Vec::new());
        while let Some(output) = receiver.poll_output() {
            match output {
                ReceiverOutput::Sweep { .. } => swept = true,
                ReceiverOutput::Send { message: Up::Ack { nacks: more, .. }, .. } => nacks.extend(more),
                _ => {}
            }
        }
        let refused = Nack { position, reason: NackReason::Outdated };
        let expected = if removed { Vec::new() } else { vec![refused] };
        assert_eq!((swept, nacks), (removed, expected), "as of {as_of}");
    }
}
