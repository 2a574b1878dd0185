//! The flow table: records in, records out, and which of two wins (I6).

use std::collections::HashSet;
use std::time::{Duration, Instant};

use lockstep_abi::flow::{FlowKey4, FlowValue4, ORIGINAL};
use lockstep_abi::map as names;
use lockstep_loader::{FlowTable, Unmarked, WalkedFlow};
use lockstep_model::flow::{FlowKey, FlowOp, FlowState, WriteOutcome};
use lockstep_model::ids::{EndpointId, Epoch, GroupId, ServiceId};

use crate::bed::{Bed, GROUP, endpoint, record, remove, upsert, version};

fn all(table: &FlowTable) -> Vec<WalkedFlow> {
    let mut flows = Vec::new();
    let mut cursor = None;
    loop {
        let page = table.walk(cursor, 1000).unwrap();
        flows.extend(page.flows);
        cursor = page.next;
        if cursor.is_none() {
            return flows;
        }
    }
}

fn one(table: &FlowTable, op: FlowOp) -> WriteOutcome {
    table.write(&[op])[0]
}

fn raw_entries(bed: &Bed) -> usize {
    bed.hash::<FlowKey4, FlowValue4>(names::FLOWS4).keys().map(Result::unwrap).count()
}

#[test]
fn what_is_written_is_walked() {
    let bed = Bed::new(4096);
    let dataplane = bed.serving();
    let table = dataplane.flows();
    let records: Vec<_> = (0..3000).map(|client| record(client, version(u64::from(client), 3))).collect();
    let ops: Vec<FlowOp> = records.iter().cloned().map(|record| upsert(record, 40)).collect();
    assert!(table.write(&ops).iter().all(|outcome| *outcome == WriteOutcome::Applied));

    let mut walked = all(&table);
    assert_eq!(walked.len(), 3000);
    walked.sort_by_key(|flow| flow.record.version.birth);
    for (flow, written) in walked.iter().zip(&records) {
        assert!(flow.replicated);
        assert_eq!(flow.epoch.get(), 40);
        let found = &flow.record;
        assert!(found.remaining <= written.remaining);
        assert!(found.remaining + Duration::from_secs(60) > written.remaining);
        assert_eq!(
            lockstep_model::flow::FlowRecord { remaining: written.remaining, ..found.clone() },
            *written
        );
    }
    assert_eq!(raw_entries(&bed), 6000, "an entry for each direction");
}

#[test]
fn i6_the_newest_record_wins_whatever_the_order() {
    let bed = Bed::new(1024);
    let dataplane = bed.serving();
    let table = dataplane.flows();
    let at = |birth, n| record(1, version(birth, n));
    assert_eq!(one(&table, upsert(at(100, 1), 40)), WriteOutcome::Applied);
    // Duplicates, older versions, and what an earlier owner says change nothing.
    assert_eq!(one(&table, upsert(at(100, 1), 40)), WriteOutcome::Stale);
    assert_eq!(one(&table, upsert(at(100, 0), 40)), WriteOutcome::Stale);
    assert_eq!(one(&table, upsert(at(99, 7), 40)), WriteOutcome::Stale);
    assert_eq!(one(&table, upsert(at(500, 9), 39)), WriteOutcome::Stale);
    assert_eq!(one(&table, remove(&at(0, 0), version(100, 0), 40)), WriteOutcome::Stale);
    assert_eq!(one(&table, remove(&at(0, 0), version(900, 0), 39)), WriteOutcome::Stale);
    assert_eq!(all(&table)[0].record.version, version(100, 1));

    // A newer version, a reborn flow, and what the next owner says do.
    assert_eq!(one(&table, upsert(at(100, 2), 40)), WriteOutcome::Applied);
    assert_eq!(one(&table, upsert(at(101, 0), 40)), WriteOutcome::Applied);
    assert_eq!(one(&table, upsert(at(3, 0), 41)), WriteOutcome::Applied);
    assert_eq!(all(&table)[0].record.version, version(3, 0));

    assert_eq!(one(&table, remove(&at(0, 0), version(3, 1), 41)), WriteOutcome::Applied);
    assert_eq!(raw_entries(&bed), 0);
    assert!(one(&table, remove(&at(0, 0), version(3, 1), 41)).is_ok());
}

#[test]
fn i6_order_holds_within_one_call() {
    let bed = Bed::new(1024);
    let dataplane = bed.serving();
    let table = dataplane.flows();
    let at = |birth, n| record(1, version(birth, n));
    let outcomes = table.write(&[
        upsert(at(1, 0), 40),
        upsert(at(1, 2), 40),
        upsert(at(1, 1), 40),
        remove(&at(0, 0), version(1, 3), 40),
        upsert(at(9, 0), 40),
    ]);
    use WriteOutcome::{Applied, Stale};
    assert_eq!(outcomes, [Applied, Applied, Stale, Applied, Applied]);
    assert_eq!(all(&table)[0].record.version, version(9, 0));
    assert_eq!(raw_entries(&bed), 2);
}

#[test]
fn i6_a_flow_taken_for_new_is_compared() {
    let bed = Bed::new(4096);
    let dataplane = bed.serving();
    let table = dataplane.flows();
    let new = |client: u32, n| {
        let mut record = record(client, version(100, n));
        record.state = FlowState::New;
        upsert(record, 40)
    };
    // Every third one is there, in a later version.
    let held: Vec<FlowOp> =
        (0..900).step_by(3).map(|client| upsert(record(client, version(100, 5)), 40)).collect();
    table.write(&held);
    let mut ops: Vec<FlowOp> = (0..900).map(|client| new(client, 1)).collect();
    // And one is told twice in the same call.
    ops.push(new(1, 2));
    let outcomes = table.write(&ops);
    for (client, outcome) in (0..900).zip(&outcomes) {
        let expected = if client % 3 == 0 { WriteOutcome::Stale } else { WriteOutcome::Applied };
        assert_eq!(*outcome, expected, "client {client}");
    }
    assert_eq!(outcomes[900], WriteOutcome::Applied);
    let count = |n| all(&table).iter().filter(|flow| flow.record.version == version(100, n)).count();
    assert_eq!([count(5), count(2), count(1)], [300, 1, 599]);
    assert_eq!(raw_entries(&bed), 1800, "an entry for each direction");
}

#[test]
fn a_flow_that_moved_to_another_endpoint_leaves_no_reply_behind() {
    let bed = Bed::new(1024);
    let dataplane = bed.serving();
    let table = dataplane.flows();
    let mut moved = record(1, version(1, 0));
    one(&table, upsert(moved.clone(), 40));
    moved.endpoint = endpoint(77).id;
    moved.endpoint_address = endpoint(77).address;
    moved.version = version(2, 0);
    assert_eq!(one(&table, upsert(moved.clone(), 40)), WriteOutcome::Applied);
    assert_eq!(raw_entries(&bed), 2);
    assert_eq!(all(&table)[0].record.endpoint_address, endpoint(77).address);
}

#[test]
fn i6_a_flow_that_moved_is_compared_with_what_came_with_it() {
    let bed = Bed::new(1024);
    let dataplane = bed.serving();
    let table = dataplane.flows();
    let at = |birth| record(2, version(birth, 0));
    let moved = |birth| {
        let mut record = at(birth);
        record.endpoint = endpoint(77).id;
        record.endpoint_address = endpoint(77).address;
        record
    };
    let others = || [upsert(record(1, version(1, 0)), 40), upsert(record(3, version(1, 0)), 40)];
    one(&table, upsert(at(1), 40));
    let held = || {
        let flow = all(&table).into_iter().find(|flow| flow.record.key == at(1).key).expect("it was written");
        (flow.record.version.birth, flow.record.endpoint_address)
    };
    use WriteOutcome::{Applied, Stale};

    let [first, last] = others();
    let outcomes = table.write(&[first, upsert(moved(3), 40), upsert(at(2), 40), last]);
    assert_eq!(outcomes, [Applied, Applied, Stale, Applied]);
    assert_eq!(held(), (3, endpoint(77).address));
    let outcomes = table.write(&[upsert(at(4), 40), upsert(moved(2), 40)]);
    assert_eq!(outcomes, [Applied, Stale]);
    assert_eq!(held(), (4, at(4).endpoint_address));
    assert_eq!(raw_entries(&bed), 6, "an entry for each direction");

    let [first, last] = others();
    let outcomes = table.write(&[first, upsert(at(5), 40), upsert(moved(6), 40), last]);
    assert_eq!(outcomes, [Stale, Applied, Applied, Stale]);
    assert_eq!(held(), (6, endpoint(77).address));
    assert_eq!(raw_entries(&bed), 6, "no reply is left behind");
}

#[test]
fn a_removal_takes_what_was_told_before_with_it() {
    let bed = Bed::new(4096);
    let dataplane = bed.serving();
    let table = dataplane.flows();
    let made = |client| upsert(record(client, version(100, 0)), 40);
    let gone = |client, n| remove(&record(client, version(0, 0)), version(100, n), 40);
    table.write(&(0..300).map(made).collect::<Vec<_>>());
    // Of each three one is gone, one has changed since, and one was never there.
    table.write(&(1..300).step_by(3).map(|c| upsert(record(c, version(100, 7)), 40)).collect::<Vec<_>>());
    let ops: Vec<_> = (0..300).map(|c| if c % 3 == 2 { gone(1000 + c, 1) } else { gone(c, 1) }).collect();
    for (client, outcome) in (0..).zip(table.write(&ops)) {
        let expected = if client % 3 == 0 { WriteOutcome::Applied } else { WriteOutcome::Stale };
        assert_eq!(outcome, expected, "client {client}");
    }
    assert_eq!(raw_entries(&bed), 400, "an entry for each direction of what is left");
}

#[test]
fn i6_a_removal_waits_for_a_flow_before_it_that_the_programs_left_alone() {
    let bed = Bed::new(1024);
    let dataplane = bed.serving();
    let table = dataplane.flows();
    // The replies of one have the key of the other.
    let mut replied = record(1, version(1, 0));
    replied.key.client = replied.key.service;
    let mut flow = record(2, version(1, 0));
    flow.key.client = replied.endpoint_address;
    assert_eq!(one(&table, upsert(replied, 40)), WriteOutcome::Applied);
    let outcomes = table.write(&[upsert(flow.clone(), 40), remove(&flow, version(1, 1), 40)]);
    assert_eq!(outcomes, [WriteOutcome::Applied; 2]);
    assert!(all(&table).iter().all(|held| held.record.key != flow.key), "removed before it was written");
}

#[test]
fn records_of_the_former_owner_only_fill_gaps() {
    let bed = Bed::new(1024);
    let dataplane = bed.serving();
    let table = dataplane.flows();
    let late = |client, n| FlowOp { only_if_absent: true, ..upsert(record(client, version(5, n)), 41) };
    one(&table, upsert(record(1, version(1, 0)), 40));
    assert_eq!(one(&table, late(1, 9)), WriteOutcome::Stale);
    assert_eq!(one(&table, late(2, 0)), WriteOutcome::Applied);
    assert_eq!(
        one(&table, FlowOp { only_if_absent: true, ..remove(&record(1, version(0, 0)), version(9, 9), 41) }),
        WriteOutcome::Stale
    );
    assert_eq!(table.count().unwrap(), 2);
    assert!(all(&table).iter().any(|flow| flow.record.version == version(1, 0)));
}

#[test]
fn what_is_unknown_here_is_refused() {
    let bed = Bed::new(1024);
    let dataplane = bed.serving();
    let table = dataplane.flows();
    let mut elsewhere = record(1, version(1, 0));
    elsewhere.key.service = "192.0.2.99:80".parse().unwrap();
    let mut port = record(1, version(1, 0));
    port.key.service.set_port(81);
    let mut service = record(1, version(1, 0));
    service.service = ServiceId(99);
    let mut group = record(1, version(1, 0));
    group.group = GroupId(99);
    let mut v6 = record(1, version(1, 0));
    v6.key.client = "[2001:db8::1]:1".parse().unwrap();
    for unknown in [elsewhere, port, service, group, v6] {
        assert_eq!(one(&table, upsert(unknown, 40)), WriteOutcome::UnknownGroup);
    }
    assert_eq!(raw_entries(&bed), 0);
}

#[test]
fn i13_a_full_table_says_so_and_keeps_no_halves() {
    let bed = Bed::new(64);
    let dataplane = bed.serving();
    let table = dataplane.flows();
    let flow = |client| upsert(record(client, version(1, 0)), 40);
    // One entry more than flows take, so that the last of them finds room for its original only.
    assert_eq!(one(&table, flow(999)), WriteOutcome::Applied);
    let mut raw = bed.hash::<FlowKey4, FlowValue4>(names::FLOWS4);
    let reply = raw.iter().map(Result::unwrap).find(|(_, value)| value.kind() != ORIGINAL);
    let (key, value) = reply.expect("it was written");
    table.purge(GROUP).unwrap();
    raw.insert(key, value, 0).unwrap();

    let ops: Vec<FlowOp> = (0..300).map(flow).collect();
    let outcomes = table.write(&ops);
    let applied = outcomes.iter().filter(|outcome| **outcome == WriteOutcome::Applied).count();
    assert!(outcomes.iter().all(|outcome| matches!(outcome, WriteOutcome::Applied | WriteOutcome::Full)));
    assert!((1..300).contains(&applied), "{applied}");
    assert_eq!(table.count().unwrap(), applied as u64);
    assert_eq!(raw_entries(&bed), 2 * applied + 1);

    // Room again, and it goes on.
    table.purge(GROUP).unwrap();
    assert_eq!(one(&table, ops[299].clone()), WriteOutcome::Applied);
}

#[test]
fn i5_a_repair_wins_at_an_equal_stamp() {
    let bed = Bed::new(1024);
    let dataplane = bed.serving();
    let table = dataplane.flows();
    let of = |client: u32| record(client, version(u64::from(100 + client), 3));
    let ops: Vec<FlowOp> = (0..3).map(|client| upsert(of(client), 40)).collect();
    assert_eq!(table.write(&ops), [WriteOutcome::Applied; 3]);

    // Behind the daemon's back: another endpoint for the first flow, and nothing for the second.
    let mut raw = bed.hash::<FlowKey4, FlowValue4>(names::FLOWS4);
    let entries: Vec<_> = raw.iter().map(Result::unwrap).collect();
    let original = |client: u32| {
        let birth = u64::from(100 + client);
        *entries.iter().find(|(_, v)| v.kind() == ORIGINAL && v.birth_ns == birth).expect("it was written")
    };
    let (key, mut changed) = original(0);
    changed.endpoint += 1;
    raw.insert(key, changed, 0).unwrap();
    raw.remove(&original(1).0).unwrap();
    let endpoints = || {
        let mut held: Vec<_> =
            all(&table).iter().map(|f| (f.record.version.birth, f.record.endpoint)).collect();
        held.sort_unstable();
        held
    };
    let told = |client: u32| (u64::from(100 + client), of(client).endpoint);
    assert_eq!(endpoints(), [(100, EndpointId(changed.endpoint)), told(2)]);

    // The same record says nothing new; as a repair it does. The third flow is one that the owner does not have.
    assert_eq!(one(&table, upsert(of(0), 40)), WriteOutcome::Stale);
    let repair = |op: FlowOp| FlowOp { repair: true, ..op };
    let repairs =
        [repair(upsert(of(0), 40)), repair(upsert(of(1), 40)), repair(remove(&of(2), version(0, 0), 40))];
    assert_eq!(table.write(&repairs), [WriteOutcome::Applied; 3]);
    assert_eq!(endpoints(), [told(0), told(1)]);
    assert_eq!(raw_entries(&bed), 4, "an entry for each direction");

    // Replies of the first flow have no entry any more: it is held no longer, until it is repaired.
    raw.remove(&original(0).1.twin).unwrap();
    let whole = || -> Vec<u64> {
        let flows = table.walk_whole(None, 1024).unwrap().flows;
        flows.iter().map(|flow| flow.record.version.birth).collect()
    };
    assert_eq!(endpoints(), [told(0), told(1)]);
    assert_eq!(whole(), [101]);
    assert_eq!(one(&table, repair(upsert(of(0), 40))), WriteOutcome::Applied);
    assert_eq!(raw_entries(&bed), 4);
    assert_eq!(whole().len(), 2);
}

#[test]
fn a_finished_walk_sweeps_what_it_did_not_mention() {
    let bed = Bed::new(4096);
    let dataplane = bed.serving();
    let table = dataplane.flows();
    let ops: Vec<FlowOp> = (0..400).map(|client| upsert(record(client, version(1, 0)), 40)).collect();
    table.write(&ops);

    // The walk mentions every second flow of shard 2, unchanged.
    let key = |op: &FlowOp| -> FlowKey { *op.change.key() };
    let shard: Vec<&FlowOp> = ops.iter().filter(|op| key(op).shard() == 2).collect();
    let mentioned: Vec<FlowOp> =
        shard.iter().step_by(2).map(|op| FlowOp { mark: 2, ..(*op).clone() }).collect();
    assert!(table.write(&mentioned).iter().all(|outcome| *outcome == WriteOutcome::Stale));
    // By the word of an earlier epoch nothing goes.
    let of = |group, shard, mark, epoch| Unmarked { group, shard, mark, epoch: Epoch(epoch) };
    assert_eq!(table.sweep_unmarked(&[of(GROUP, 2, 2, 39)]).unwrap(), [0]);
    // Beside one that removes nothing, and one of another shard, all of which carries that walk's mark.
    let sweeps = [of(GroupId(99), 2, 3, 40), of(GROUP, 3, ops[0].mark, 40), of(GROUP, 2, 2, 40)];
    let counts = table.sweep_unmarked(&sweeps).unwrap();
    assert_eq!(counts[..2], [0, 0]);
    let swept = counts[2];
    assert_eq!(swept as usize, shard.len() - mentioned.len());

    let left: HashSet<FlowKey> = all(&table).into_iter().map(|flow| flow.record.key).collect();
    assert_eq!(left.len(), 400 - swept as usize);
    assert!(mentioned.iter().all(|op| left.contains(&key(op))));
    assert_eq!(raw_entries(&bed), 2 * left.len());
}

#[test]
fn a_hundred_thousand_flows() {
    const FLOWS: u32 = 100_000;
    let bed = Bed::new(131_072);
    let dataplane = bed.serving();
    let table = dataplane.flows();
    let ops: Vec<FlowOp> = (0..FLOWS).map(|client| upsert(record(client, version(1, 0)), 40)).collect();
    let started = Instant::now();
    for batch in ops.chunks(4096) {
        assert!(table.write(batch).iter().all(|outcome| *outcome == WriteOutcome::Applied));
    }
    let written = started.elapsed();
    let seen: HashSet<FlowKey> = all(&table).into_iter().map(|flow| flow.record.key).collect();
    println!("written in {written:?}, walked in {:?}", started.elapsed() - written);
    assert_eq!(seen.len(), FLOWS as usize);
    assert_eq!(table.purge(GROUP).unwrap(), u64::from(FLOWS));
    assert_eq!(table.count().unwrap(), 0);
}
