//! Policy `after:…`: a flow is sent once it is old enough, and one that closes before never is.

use std::collections::BTreeMap;
use std::time::Duration;

use lockstep_model::flow::{FlowChange, FlowKey, FlowKind, FlowRecord, FlowState, FlowVersion, SHARDS};
use lockstep_model::ids::{EndpointId, Epoch, GroupId, LogIndex, NodeId, ServiceId};
use lockstep_model::protocol::Protocol;
use lockstep_sync_core::limits::MAX_YOUNG;
use lockstep_sync_core::{Connection, Down, Origin, OriginOutput, Session, StreamId, Time, Up};

const GROUP: GroupId = GroupId(7);
const PEER: NodeId = NodeId(2);
const LATE: ServiceId = ServiceId(9);
const AT_ONCE: ServiceId = ServiceId(10);
const EPOCH: Epoch = Epoch(3);
const AGE: Duration = Duration::from_secs(5);

struct World {
    origin: Origin,
    now: Time,
}

fn seconds(at: f64) -> Time {
    Time::from_nanos((at * 1e9) as u64)
}

fn key(number: u32) -> FlowKey {
    FlowKey {
        client: ([10, 0, (number >> 16) as u8, 1], number as u16).into(),
        service: ([192, 0, 2, 10], 443).into(),
        protocol: Protocol::Tcp,
    }
}

fn flow(number: u32, service: ServiceId, birth: Time, n: u64, state: FlowState) -> FlowChange {
    FlowChange::Upsert(FlowRecord {
        key: key(number),
        group: GROUP,
        service,
        endpoint: EndpointId(1),
        endpoint_address: ([10, 0, 0, 11], 8443).into(),
        source: None,
        kind: FlowKind::Nat,
        version: FlowVersion { birth: birth.as_nanos(), n },
        state,
        state_bits: 0,
        remaining: Duration::from_secs(60),
    })
}

fn removal(number: u32, birth: Time, n: u64) -> FlowChange {
    FlowChange::Remove { key: key(number), group: GROUP, version: FlowVersion { birth: birth.as_nanos(), n } }
}

impl World {
    /// An owner with a peer that has finished its first walk of an empty table.
    fn new() -> Self {
        let mut origin = Origin::new(Session([1; 16]));
        origin.set_peers([PEER]);
        origin.set_replicas(Time::default(), LogIndex(1), [(GROUP, [(PEER, LogIndex(1))].into())].into());
        origin.set_ages(Time::default(), BTreeMap::from([(LATE, AGE)]));
        origin.own(Time::default(), GROUP, EPOCH);
        let mut world = Self { origin, now: Time::default() };
        for shard in 0..SHARDS {
            let hello =
                Up::Hello { session: None, position: 0, credit: 1 << 20, audits: false, removes: true };
            world.origin.handle_up(world.now, StreamId { peer: PEER, shard }, Connection(1), hello);
        }
        assert_eq!(world.sent(Vec::new()), []);
        world
    }

    fn change(&mut self, change: FlowChange) {
        self.origin.handle_change(self.now, change, EPOCH);
    }

    fn at(&mut self, at: f64) {
        self.now = seconds(at);
        self.origin.handle_timeout(self.now);
    }

    /// Everything sent until there is nothing to do, all of it acknowledged; a walk finds `table`.
    fn sent(&mut self, table: Vec<FlowRecord>) -> Vec<FlowChange> {
        self.origin.release_later();
        let mut sent = Vec::new();
        while let Some(output) = self.origin.poll_output(self.now) {
            let (stream, connection, position) = match output {
                OriginOutput::ReadPage { pass, .. } => {
                    self.origin.handle_page(self.now, pass, table.clone(), true);
                    continue;
                }
                OriginOutput::Send { stream, connection, message: Down::Batch { changes, position, .. } } => {
                    sent.extend(changes);
                    (stream, connection, position)
                }
                OriginOutput::Send { stream, connection, message: Down::WalkBegin { position, .. } }
                | OriginOutput::Send { stream, connection, message: Down::WalkEnd { position, .. } } => {
                    (stream, connection, position)
                }
                OriginOutput::Send { .. } => continue,
                OriginOutput::Close { reason, .. } => panic!("closed: {reason:?}"),
                OriginOutput::List { .. } | OriginOutput::Digest(_) => {
                    panic!("the peer knows no digests")
                }
            };
            let ack = Up::Ack { position, nacks: Vec::new(), credit: 1 << 20 };
            self.origin.handle_up(self.now, stream, connection, ack);
        }
        sent
    }
}

#[test]
fn i5_a_flow_is_sent_when_it_is_old_enough_in_its_newest_version() {
    let mut world = World::new();
    world.at(10.0);
    let born = world.now;
    world.change(flow(1, LATE, born, 0, FlowState::New));
    world.change(flow(2, AT_ONCE, born, 0, FlowState::New));
    world.change(flow(1, LATE, born, 1, FlowState::Established));
    assert_eq!(world.sent(Vec::new()), [flow(2, AT_ONCE, born, 0, FlowState::New)]);
    assert!(world.origin.is_held_back(&key(1)) && world.origin.young() == 1);
    world.at(14.999);
    assert_eq!(world.sent(Vec::new()), []);
    assert_eq!(world.origin.next_deadline().map(|at| at <= seconds(15.0)), Some(true));
    world.at(15.0);
    assert_eq!(world.sent(Vec::new()), [flow(1, LATE, born, 1, FlowState::Established)]);
    // From then on at once, its end as well.
    world.change(flow(1, LATE, born, 2, FlowState::Closing));
    assert_eq!(world.sent(Vec::new()), [flow(1, LATE, born, 2, FlowState::Closing)]);
    world.change(removal(1, born, 2));
    assert_eq!(world.sent(Vec::new()), [removal(1, born, 2)]);
    assert!(!world.origin.is_held_back(&key(1)));
}

#[test]
fn i5_what_ends_or_closes_before_is_never_sent() {
    let mut world = World::new();
    world.at(10.0);
    let born = world.now;
    for number in [1, 2, 3] {
        world.change(flow(number, LATE, born, 0, FlowState::New));
    }
    world.at(12.0);
    world.change(removal(1, born, 0));
    world.change(flow(2, LATE, born, 1, FlowState::Closed));
    world.change(flow(3, LATE, born, 1, FlowState::Closed));
    world.at(20.0);
    assert_eq!(world.sent(Vec::new()), []);
    world.change(removal(2, born, 1));
    assert_eq!(world.sent(Vec::new()), []);
    // One that was closed goes on after all.
    world.change(flow(3, LATE, born, 2, FlowState::Established));
    assert_eq!(world.sent(Vec::new()), [flow(3, LATE, born, 2, FlowState::Established)]);
    assert_eq!((world.origin.counters().young_ended, world.origin.counters().young_closed), (2, 2));
}

#[test]
fn i5_the_end_of_a_young_flow_is_told_where_an_older_one_with_its_key_was_sent() {
    let mut world = World::new();
    world.at(10.0);
    let (born, again) = (seconds(10.0), seconds(20.0));
    world.change(flow(1, LATE, born, 0, FlowState::Established));
    world.at(15.0);
    assert_eq!(world.sent(Vec::new()).len(), 1);
    world.at(20.0);
    world.change(flow(1, LATE, again, 0, FlowState::New));
    assert_eq!(world.sent(Vec::new()), []);
    world.change(removal(1, again, 0));
    assert_eq!(world.sent(Vec::new()), [removal(1, again, 0)]);
}

#[test]
fn i5_a_walk_leaves_young_flows_out_and_they_follow_when_they_are_old_enough() {
    let mut world = World::new();
    world.at(100.0);
    let records = [(1, 90.0), (2, 99.0)].map(|(number, birth)| {
        let FlowChange::Upsert(record) = flow(number, LATE, seconds(birth), 0, FlowState::Established) else {
            unreachable!("it is one")
        };
        record
    });
    world.origin.handle_lost(world.now, (1 << SHARDS) - 1);
    assert_eq!(world.sent(records.to_vec()), [FlowChange::Upsert(records[0].clone())]);
    world.at(104.0);
    assert_eq!(world.sent(Vec::new()), [FlowChange::Upsert(records[1].clone())]);
}

#[test]
fn i13_too_many_young_flows_are_sent_at_once() {
    let mut world = World::new();
    world.at(10.0);
    let born = world.now;
    (0..MAX_YOUNG as u32).for_each(|number| world.change(flow(number, LATE, born, 0, FlowState::New)));
    assert_eq!(world.sent(Vec::new()), []);
    let more = flow(MAX_YOUNG as u32, LATE, born, 0, FlowState::New);
    world.change(more.clone());
    assert_eq!(world.sent(Vec::new()), [more]);
    assert_eq!((world.origin.young(), world.origin.counters().young_overflows), (MAX_YOUNG, 1));
}

#[test]
fn i12_a_hand_over_sends_young_flows_and_a_change_of_policy_as_well() {
    let mut world = World::new();
    world.at(10.0);
    let born = world.now;
    world.change(flow(1, LATE, born, 0, FlowState::Established));
    world.origin.release_young(world.now);
    assert_eq!(world.sent(Vec::new()), [flow(1, LATE, born, 0, FlowState::Established)]);
    world.change(flow(2, LATE, born, 0, FlowState::Established));
    world.origin.set_ages(world.now, BTreeMap::new());
    assert_eq!(world.sent(Vec::new()), [flow(2, LATE, born, 0, FlowState::Established)]);
    assert_eq!(world.origin.young(), 0);
}

#[test]
fn delays_are_measured_from_the_change_to_its_acknowledgement() {
    let mut world = World::new();
    world.at(10.0);
    world.change(flow(1, AT_ONCE, world.now, 0, FlowState::Established));
    world.now = seconds(10.02);
    assert_eq!(world.sent(Vec::new()).len(), 1);
    let [(peer, group, lag)] = world.origin.lags(world.now)[..] else { panic!("of one peer and group") };
    assert_eq!((peer, group, lag.samples, lag.max), (PEER, GROUP, 1, Duration::from_millis(20)));
}
