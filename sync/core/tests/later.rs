//! That a flow ends waits for others of its kind, and no longer than it may. Nothing else waits.

#[path = "replication/table.rs"]
#[expect(dead_code, reason = "shared with the replication test, which uses all of it")]
mod table;

use std::time::Duration;

use lockstep_model::flow::{FlowChange, FlowRecord, FlowState, SHARDS};
use lockstep_model::ids::{Epoch, LogIndex, NodeId};
use lockstep_sync_core::limits::LATER;
use lockstep_sync_core::{Connection, Down, Origin, OriginOutput, Session, StreamId, Time, Up};

use table::{GROUP, Table, key};

const EPOCH: Epoch = Epoch(5);
const START: Time = Time::from_nanos(1_000_000_000);
/// When the subscriber came.
const EARLIER: Time = Time::from_nanos(0);
const LAG: Duration = Duration::from_millis(1);

struct World {
    origin: Origin,
    now: Time,
    table: Table,
}

impl World {
    /// An owner whose subscriber has finished its walks of an empty table.
    fn new() -> Self {
        let mut origin = Origin::new(Session([1; 16]));
        origin.set_peers([NodeId(2)]);
        origin.set_replicas(START, LogIndex(1), [(GROUP, [(NodeId(2), LogIndex(1))].into())].into());
        origin.own(START, GROUP, EPOCH);
        for shard in 0..SHARDS {
            let hello = Up::Hello { session: None, position: 0, credit: 100, audits: false, removes: true };
            origin.handle_up(EARLIER, StreamId { peer: NodeId(2), shard }, Connection(1), hello);
        }
        let mut world = Self { origin, now: START, table: Table::default() };
        assert_eq!(world.told(), []);
        world.acknowledge();
        assert!(world.origin.is_flushed());
        world
    }

    /// The same, which was told of a flow and holds it.
    fn with_a_flow() -> Self {
        let mut world = Self::new();
        world.change(FlowState::New);
        world.told();
        world.acknowledge();
        world
    }

    /// The flow's next change, in this state.
    fn change(&mut self, state: FlowState) -> FlowRecord {
        let FlowChange::Upsert(record) = self.table.packet(key(0), EPOCH, self.now.as_nanos(), 0) else {
            unreachable!("a packet ends no flow")
        };
        let record = FlowRecord { state, ..record };
        self.origin.handle_change(self.now, FlowChange::Upsert(record.clone()), EPOCH);
        record
    }

    fn told(&mut self) -> Vec<FlowChange> {
        let mut told = Vec::new();
        while let Some(output) = self.origin.poll_output(self.now) {
            match output {
                OriginOutput::ReadPage { pass, .. } => {
                    self.origin.handle_page(self.now, pass, Vec::new(), true);
                }
                OriginOutput::Send { message: Down::Batch { changes, .. }, .. } => told.extend(changes),
                OriginOutput::Send { .. } => {}
                output => panic!("{output:?}"),
            }
        }
        told
    }

    fn acknowledge(&mut self) {
        for lag in self.origin.lag(self.now) {
            let ack = Up::Ack { position: lag.position, nacks: Vec::new(), credit: 100 };
            self.origin.handle_up(self.now, lag.stream, Connection(1), ack);
        }
    }

    fn wait(&mut self, time: Duration) {
        self.now = self.now + time;
        self.origin.handle_timeout(self.now);
    }

    fn samples(&mut self) -> Vec<(u64, Duration)> {
        self.origin.lags(self.now).into_iter().map(|(.., lag)| (lag.samples, lag.max)).collect()
    }
}

#[test]
fn i5_the_end_of_a_connection_is_one_record_which_leaves_in_time() {
    let mut world = World::new();
    let new = world.change(FlowState::New);
    assert_eq!(world.told(), [FlowChange::Upsert(new)], "a new flow does not wait");
    world.acknowledge();

    world.change(FlowState::Closing);
    let due = world.now + LATER;
    assert_eq!(world.told(), []);
    world.wait(LAG);
    let closed = world.change(FlowState::Closed);
    assert_eq!(world.told(), []);
    assert!(!world.origin.is_flushed(), "the peer lacks something");
    assert!(world.origin.next_deadline().is_some_and(|at| at <= due), "{:?}", world.origin.next_deadline());
    world.wait(LATER - LAG);
    assert_eq!(world.told(), [FlowChange::Upsert(closed)]);
    world.acknowledge();
    assert!(world.origin.is_flushed());
}

#[test]
fn i5_a_flow_that_follows_one_that_ended_does_not_wait() {
    let mut world = World::with_a_flow();
    world.change(FlowState::Closed);
    assert_eq!(world.told(), []);
    world.wait(LAG);
    world.table.expire(key(0)).expect("it is there");
    let next = world.change(FlowState::New);
    assert_eq!(world.told(), [FlowChange::Upsert(next)]);
}

#[test]
fn i5_nothing_waits_when_somebody_waits_for_it() {
    let mut world = World::with_a_flow();
    let ended = world.table.expire(key(0)).expect("it is there");
    world.origin.handle_change(world.now, ended.clone(), EPOCH);
    assert_eq!(world.told(), []);
    world.origin.release_later();
    assert_eq!(world.told(), [ended]);
}

/// With what it was told before, a standby would end a connection in its handshake's timeout.
#[test]
fn i5_a_connection_that_is_established_does_not_wait() {
    let mut world = World::new();
    world.change(FlowState::New);
    world.told();
    let established = world.change(FlowState::Established);
    assert_eq!(world.told(), [FlowChange::Upsert(established)]);
    world.change(FlowState::ResetPending);
    assert_eq!(world.told(), []);
    let lives = world.change(FlowState::Established);
    assert_eq!(world.told(), [FlowChange::Upsert(lives)], "the reset was not the peer's");
}

#[test]
fn what_waited_by_intention_is_no_lag_of_replication() {
    let mut world = World::new();
    world.change(FlowState::New);
    world.told();
    let closed = world.change(FlowState::Closed);
    assert_eq!(world.told(), [], "the peer was told of the flow");
    world.wait(LAG);
    // Of the new flow; that it is closed has not left.
    world.acknowledge();
    assert_eq!(world.samples(), [(1, LAG)]);
    world.wait(LATER);
    assert_eq!(world.told(), [FlowChange::Upsert(closed)]);
    world.acknowledge();
    assert_eq!(world.samples(), [(1, LAG)]);
}
