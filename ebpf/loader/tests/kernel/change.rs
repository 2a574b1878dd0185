//! What a record changes of a flow that is there: the entries stay, and take over what packets would have changed.

use std::time::Duration;

use aya::maps::{HashMap, MapData};
use lockstep_abi::flow::{FlowKey4, FlowValue4, ORIGINAL, PATH_DEAD, PATH_FAST, REPLY};
use lockstep_abi::{map as names, state};
use lockstep_loader::FlowTable;
use lockstep_model::flow::{FlowKind, FlowOp, FlowRecord, FlowState, WriteOutcome};
use lockstep_model::ids::EndpointId;

use crate::bed::{Bed, record, upsert, version};

/// A flow that no reply was seen of.
fn new() -> FlowOp {
    let bits = state::NEW | state::SYN | state::SEEN;
    let record = record(1, version(100, 0));
    upsert(
        FlowRecord { state: FlowState::New, state_bits: bits, remaining: Duration::from_secs(1), ..record },
        40,
    )
}

/// The next thing that is said of it.
fn established() -> FlowOp {
    FlowOp { mark: 9, ..upsert(record(1, version(100, 2)), 40) }
}

struct Entries(HashMap<MapData, FlowKey4, FlowValue4>);

impl Entries {
    fn of(bed: &Bed) -> Self {
        Self(bed.hash(names::FLOWS4))
    }

    fn get(&self, kind: u32) -> FlowValue4 {
        let all = || self.0.iter().map(Result::unwrap).map(|(_, value)| value);
        assert!(all().count() <= 2, "an entry for each direction");
        all().find(|value| value.kind() == kind).expect("an entry of this direction")
    }

    fn put(&mut self, value: FlowValue4) {
        self.0.insert(value.key, value, 0).unwrap();
    }
}

fn write(table: &FlowTable, op: FlowOp) {
    assert_eq!(table.write(&[op]), [WriteOutcome::Applied]);
}

#[test]
fn i6_a_change_leaves_the_entries_where_they_are() {
    let bed = Bed::new(1024);
    let dataplane = bed.serving();
    let table = dataplane.flows();
    write(&table, new());
    let mut entries = Entries::of(&bed);
    for kind in [ORIGINAL, REPLY] {
        let held = entries.get(kind);
        assert_eq!(held.path, 0);
        // Nobody says this but the node itself.
        entries.put(FlowValue4 { hop: 7, ..held });
    }
    for (op, n, epoch) in
        [(established(), 2, 40), (FlowOp { mark: 9, ..upsert(record(1, version(100, 1)), 41) }, 1, 41)]
    {
        let before = [ORIGINAL, REPLY].map(|kind| entries.get(kind));
        write(&table, op);
        for held in before {
            let now = entries.get(held.kind());
            let word = state::word(record(1, version(0, 0)).state_bits, n);
            let state = if held.kind() == ORIGINAL { word } else { 0 };
            let changed = FlowValue4 { state, epoch, mark: 9, path: PATH_FAST, ..held };
            assert_eq!(now, FlowValue4 { last_seen_ns: now.last_seen_ns, ..changed });
            assert_eq!(now.hop, 7);
        }
        // An age goes with the timeout of the state.
        let seen = [ORIGINAL, REPLY].map(|kind| entries.get(kind).last_seen_ns);
        assert_eq!(seen[0], seen[1]);
        assert_ne!(seen[0], before[0].last_seen_ns);
    }
}

#[test]
fn i6_a_change_of_a_flow_whose_replies_are_not_seen_leaves_its_entry_where_it_is() {
    let bed = Bed::new(1024);
    let dataplane = bed.serving();
    let table = dataplane.flows();
    let direct = |version| FlowRecord { kind: FlowKind::DsrIpip, ..record(1, version) };
    write(&table, upsert(direct(version(100, 0)), 40));
    let entries = Entries::of(&bed);
    let held = entries.get(ORIGINAL);
    write(&table, upsert(direct(version(100, 1)), 40));
    let now = entries.get(ORIGINAL);
    assert_eq!((now.generation, state::n(now.state)), (held.generation, 1));
    assert_eq!(entries.0.keys().count(), 1);
}

/// Puts the flow there, lets `between` do something to its entries, tells the change, and answers whether the entries were put
/// in anew. They are whole in any case.
fn anew(change: FlowOp, between: impl Fn(&mut Entries)) -> bool {
    let bed = Bed::new(1024);
    let dataplane = bed.serving();
    let table = dataplane.flows();
    write(&table, new());
    let mut entries = Entries::of(&bed);
    between(&mut entries);
    let generation = entries.get(ORIGINAL).generation;
    write(&table, change);
    let [original, reply] = [ORIGINAL, REPLY].map(|kind| entries.get(kind));
    assert_eq!([original.path, reply.path], [PATH_FAST; 2]);
    assert_eq!((original.key, original.twin), (reply.twin, reply.key));
    assert_eq!((original.endpoint, original.flags ^ ORIGINAL), (reply.endpoint, reply.flags ^ REPLY));
    assert_eq!(state::bits(original.state) & (state::DEAD | state::CLAIMED), 0);
    assert_eq!(original.generation, original.generation_end);
    original.generation != generation
}

#[test]
fn i5_what_is_held_otherwise_is_put_in_anew() {
    let nothing = |_: &mut Entries| {};
    assert!(!anew(established(), nothing));

    assert!(anew(upsert(record(1, version(101, 0)), 40), nothing), "another flow");
    let endpoint = FlowRecord { endpoint: EndpointId(999), ..record(1, version(100, 1)) };
    assert!(anew(upsert(endpoint, 40), nothing), "another endpoint, at the same address");
    let without_reply = |entries: &mut Entries| {
        let reply = entries.get(REPLY).key;
        entries.0.remove(&reply).unwrap();
    };
    assert!(anew(established(), without_reply), "half a flow");
    let held = |edit: fn(&mut FlowValue4)| {
        anew(established(), |entries| {
            let mut value = entries.get(ORIGINAL);
            edit(&mut value);
            entries.put(value);
        })
    };
    let dead = |value: &mut FlowValue4| {
        (value.state, value.path) = (value.state | u64::from(state::DEAD), PATH_DEAD)
    };
    assert!(held(dead), "it may be freed");
    assert!(held(|value| value.state |= u64::from(state::DEAD | state::CLAIMED)), "it is about to be");
    assert!(held(|value| value.address_stamp ^= 1), "the address was another");
    assert!(held(|value| value.address_index ^= 1), "likewise");
    assert!(held(|value| value.service_slot ^= 1), "the service stood elsewhere");
    assert!(held(|value| value.target ^= 1), "the endpoint did");
    assert!(held(|value| value.service ^= 1), "another service");
    assert!(held(|value| value.flags |= lockstep_abi::flow::SYNC_LATE), "another policy");
}
