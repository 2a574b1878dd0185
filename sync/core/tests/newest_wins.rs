//! I6: duplicates, reordering and replays of flow records change nothing.

#[path = "replication/table.rs"]
#[expect(dead_code, reason = "shared with the replication test, which uses all of it")]
mod table;

use lockstep_model::flow::{FlowChange, FlowOp, FlowVersion};
use lockstep_model::ids::{Epoch, LogIndex, NodeId};
use lockstep_seeded::Rng;
use lockstep_sync_core::limits::TAKEOVER_GRACE;
use lockstep_sync_core::{
    Connection, Down, NackReason, Purpose, Receiver, ReceiverOutput, Session, StreamId, Time, Up,
};

use table::{GROUP, Table, key};

const CONNECTION: Connection = Connection(1);

fn upsert(number: u64, epoch: u64, clock: u64, n: u64) -> FlowOp {
    let mut table = Table::default();
    let mut change = table.packet(key(number), Epoch(epoch), clock, epoch % 3);
    if let FlowChange::Upsert(record) = &mut change {
        record.version = FlowVersion { birth: clock, n };
    }
    FlowOp { change, epoch: Epoch(epoch), mark: 0, only_if_absent: false, repair: false }
}

#[test]
fn i6_any_order_with_repeats_ends_at_the_newest() {
    for seed in 0..2000 {
        let mut rng = Rng::new(seed);
        let mut ops: Vec<_> =
            (0..8).map(|_| upsert(1, 1 + rng.below(3), 1 + rng.below(3), rng.below(3))).collect();
        for _ in 0..3 {
            let stamp = ops[rng.below(8) as usize].stamp();
            let change = FlowChange::Remove { key: key(1), group: GROUP, version: stamp.version };
            ops.push(FlowOp { change, epoch: stamp.epoch, mark: 0, only_if_absent: false, repair: false });
        }
        let newest = upsert(1, 4, 1, 0);
        ops.push(newest.clone());
        let mut table = Table::default();
        for _ in 0..40 {
            table.write(&ops[rng.below(ops.len() as u64) as usize]);
        }
        table.write(&newest);
        // From here on nothing that was ever said changes anything.
        for _ in 0..40 {
            table.write(&ops[rng.below(ops.len() as u64) as usize]);
        }
        assert_eq!(table.entries[&key(1)].stamp, newest.stamp(), "seed {seed}");
    }
}

#[test]
fn i6_a_flow_made_after_a_takeover_is_newer_than_an_inherited_one() {
    // The former owner's machine had been up for longer.
    let (former, now) = (1_000_000, 5_000);
    let mut table = Table::default();
    let mut inherited = upsert(1, 4, former, 7);
    inherited.limit_birth(now);
    table.write(&inherited);
    let mut ended = FlowOp {
        change: FlowChange::Remove {
            key: key(1),
            group: GROUP,
            version: FlowVersion { birth: former, n: 8 },
        },
        ..inherited.clone()
    };
    ended.limit_birth(now + 1);

    // What the new owner says of the same key, before the end of the old flow was known here.
    let (kept, made) = (upsert(1, 5, now, 7), upsert(1, 5, now + 10, 0));
    table.write(&kept);
    table.write(&made);
    table.write(&ended);
    assert_eq!(table.entries[&key(1)].stamp, made.stamp());
}

fn stream() -> StreamId {
    StreamId { peer: NodeId(2), shard: key(1).shard() }
}

fn welcomed() -> Receiver {
    let mut receiver = Receiver::new(0);
    receiver.connected(stream(), CONNECTION);
    let welcome = Down::Welcome { session: Session([1; 16]), resumed: false, position: 0 };
    receiver.handle_down(Time::default(), stream(), CONNECTION, welcome);
    while receiver.poll_output().is_some() {}
    receiver
}

fn batch(epoch: u64, position: u64) -> Down {
    let changes = vec![upsert(1, epoch, 1, position).change];
    Down::Batch { group: GROUP, epoch: Epoch(epoch), position, changes }
}

fn writes(receiver: &mut Receiver) -> Vec<FlowOp> {
    let outputs = std::iter::from_fn(|| receiver.poll_output());
    let ops =
        outputs.filter_map(|o| if let ReceiverOutput::Write { ops, .. } = o { Some(ops) } else { None });
    ops.flatten().collect()
}

#[test]
fn i6_a_repeated_message_writes_nothing() {
    let mut receiver = welcomed();
    receiver.handle_down(Time::default(), stream(), CONNECTION, batch(1, 1));
    assert_eq!(writes(&mut receiver).len(), 1);
    receiver.handle_down(Time::default(), stream(), CONNECTION, batch(1, 1));
    assert_eq!(writes(&mut receiver), vec![]);
    assert_eq!(receiver.counters().duplicates, 1);
}

#[test]
fn i6_a_message_of_an_earlier_connection_writes_nothing() {
    let mut receiver = welcomed();
    receiver.disconnected(stream(), CONNECTION);
    receiver.connected(stream(), Connection(2));
    receiver.handle_down(Time::default(), stream(), CONNECTION, batch(1, 1));
    assert_eq!(writes(&mut receiver), vec![]);
    assert_eq!(receiver.counters().late_messages, 1);
}

#[test]
fn i6_a_gap_closes_the_stream() {
    let mut receiver = welcomed();
    receiver.handle_down(Time::default(), stream(), CONNECTION, batch(1, 2));
    let closed =
        std::iter::from_fn(|| receiver.poll_output()).any(|o| matches!(o, ReceiverOutput::Close { .. }));
    assert!(closed);
}

#[test]
fn i6_records_of_a_former_owner_are_refused() {
    let mut receiver = welcomed();
    let next = Down::Heartbeat { position: 0, owned: vec![(GROUP, Epoch(5))] };
    receiver.handle_down(Time::default(), stream(), CONNECTION, next);
    receiver.handle_down(Time::default(), stream(), CONNECTION, batch(4, 1));
    let outputs: Vec<_> = std::iter::from_fn(|| receiver.poll_output()).collect();
    let [ReceiverOutput::Send { message: Up::Ack { position: 1, nacks, .. }, .. }] = &outputs[..] else {
        panic!("{outputs:?}")
    };
    assert_eq!(nacks[0].reason, NackReason::OldEpoch);
}

/// While a group is handed over, its owner still forwards and makes flows, under the epoch before the one that was agreed on.
#[test]
fn i5_the_former_owner_counts_until_the_next_one_speaks() {
    let mut receiver = welcomed();
    receiver.learn_epoch(GROUP, Epoch(5));
    receiver.handle_down(Time::default(), stream(), CONNECTION, batch(4, 1));
    let ops = writes(&mut receiver);
    assert!(ops.len() == 1 && !ops[0].only_if_absent, "{ops:?}");
    assert_eq!(receiver.counters().refused_old_epoch, 0);
    receiver.handle_down(Time::default(), stream(), CONNECTION, batch(5, 2));
    assert_eq!(writes(&mut receiver).len(), 1);
    receiver.handle_down(Time::default(), stream(), CONNECTION, batch(4, 3));
    assert_eq!(writes(&mut receiver), vec![]);
    assert_eq!(receiver.counters().refused_old_epoch, 1);
}

#[test]
fn i6_a_new_owner_fills_gaps_for_one_grace_period_only() {
    let mut receiver = welcomed();
    let taken_over = Time::from_nanos(1_000_000);
    receiver.own(taken_over, GROUP, Epoch(5));
    receiver.handle_down(taken_over, stream(), CONNECTION, batch(4, 1));
    let ops = writes(&mut receiver);
    assert!(ops.len() == 1 && ops[0].only_if_absent, "{ops:?}");
    receiver.handle_down(taken_over + TAKEOVER_GRACE, stream(), CONNECTION, batch(4, 2));
    assert_eq!(writes(&mut receiver), vec![]);
    assert_eq!(receiver.counters().refused_old_epoch, 1);
}

#[test]
fn i6_no_walk_of_a_former_owner_and_none_on_the_owner_sweeps() {
    for owned in [false, true] {
        let mut receiver = welcomed();
        let (group, walk) = (GROUP, lockstep_sync_core::WalkId(1));
        receiver.handle_down(
            Time::default(),
            stream(),
            CONNECTION,
            Down::WalkBegin {
                group,
                epoch: Epoch(4),
                walk,
                purpose: Purpose::Hold(LogIndex(1)),
                position: 1,
            },
        );
        if owned {
            receiver.own(Time::default(), GROUP, Epoch(5));
        } else {
            receiver.learn_epoch(GROUP, Epoch(5));
        }
        receiver.handle_down(
            Time::default(),
            stream(),
            CONNECTION,
            Down::WalkEnd { group, epoch: Epoch(4), walk, position: 2 },
        );
        let swept =
            std::iter::from_fn(|| receiver.poll_output()).any(|o| matches!(o, ReceiverOutput::Sweep { .. }));
        assert!(!swept && receiver.counters().walks_refused == 1);
    }
}

/// The new owner's walk is faster than this node's own word that it gave the group back: it counts all the same, or
/// nothing would ever say that this node has caught up.
#[test]
fn i5_a_walk_of_a_later_owner_counts_before_this_node_says_that_it_owns_no_more() {
    for (epoch, swept) in [(4, false), (5, false), (6, true)] {
        let mut receiver = welcomed();
        let (group, walk) = (GROUP, lockstep_sync_core::WalkId(1));
        receiver.own(Time::default(), GROUP, Epoch(5));
        let epoch = Epoch(epoch);
        for message in [
            Down::WalkBegin { group, epoch, walk, purpose: Purpose::Hold(LogIndex(1)), position: 1 },
            Down::WalkEnd { group, epoch, walk, position: 2 },
        ] {
            receiver.handle_down(Time::default(), stream(), CONNECTION, message);
        }
        let mut outputs = std::iter::from_fn(|| receiver.poll_output());
        assert_eq!(outputs.any(|o| matches!(o, ReceiverOutput::Sweep { .. })), swept, "epoch {epoch}");
    }
}
