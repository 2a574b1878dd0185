//! One node: table, ring buffer, sweeper, writer, and both sides of the core.

use std::collections::{BTreeMap, VecDeque};

use lockstep_model::flow::{FlowChange, FlowKey, FlowOp, FlowRecord, WriteOutcome};
use lockstep_model::ids::{Epoch, LogIndex, NodeId};
use lockstep_seeded::Rng;
use lockstep_sync_core::audit::Difference;
use lockstep_sync_core::{
    Connection, Down, Origin, OriginOutput, PassId, Receiver, ReceiverOutput, Session, StreamId, Time, Up,
    WorkId, yield_to_owner,
};

use crate::auditor::Auditor;
use crate::table::{GROUP, Table};

/// What the writer thread has to do.
#[derive(Debug)]
pub(crate) enum Job {
    Write(WorkId, Vec<FlowOp>),
    Sweep { work: WorkId, shard: u8, mark: u32, epoch: Epoch },
}

pub(crate) struct Node {
    pub(crate) id: NodeId,
    pub(crate) table: Table,
    pub(crate) ring: VecDeque<(FlowChange, Epoch)>,
    pub(crate) lost_shards: u32,
    pub(crate) expired: VecDeque<(FlowChange, Epoch)>,
    pub(crate) origin: Origin,
    pub(crate) receiver: Receiver,
    pub(crate) jobs: VecDeque<Job>,
    /// A page that was read from the table and not handed over yet.
    pub(crate) page: Option<(PassId, Vec<FlowRecord>, bool)>,
    asked: Option<PassId>,
    cursor: Option<FlowKey>,
    pub(crate) starts: u32,
    pub(crate) auditor: Auditor,
    /// Flows that this node found to differ from their owner's.
    pub(crate) diverged: Vec<(FlowKey, Difference)>,
    /// Who holds the group, as far as it knows.
    pub(crate) replicas: BTreeMap<NodeId, LogIndex>,
    pub(crate) as_of: LogIndex,
}

/// What leaves a node.
pub(crate) enum Sent {
    Down(StreamId, Connection, Down),
    Up(StreamId, Connection, Up),
    Close(StreamId, Connection),
}

impl Node {
    pub(crate) fn new(id: NodeId, peer: NodeId) -> Self {
        let mut node = Self {
            id,
            table: Table::default(),
            ring: VecDeque::new(),
            lost_shards: 0,
            expired: VecDeque::new(),
            origin: Origin::new(session(id, 0)),
            receiver: Receiver::new(0),
            jobs: VecDeque::new(),
            page: None,
            asked: None,
            cursor: None,
            starts: 0,
            auditor: Auditor::default(),
            diverged: Vec::new(),
            replicas: BTreeMap::new(),
            as_of: LogIndex(0),
        };
        node.origin.set_peers([peer]);
        node
    }

    pub(crate) fn learn_replicas(
        &mut self,
        now: Time,
        as_of: LogIndex,
        replicas: BTreeMap<NodeId, LogIndex>,
    ) {
        let mine = replicas.get(&self.id).map(|since| (GROUP, *since));
        self.receiver.set_memberships(mine.into_iter().collect());
        (self.as_of, self.replicas) = (as_of, replicas.clone());
        self.origin.set_replicas(now, as_of, [(GROUP, replicas)].into());
    }

    /// The daemon dies and starts again; the kernel keeps its table.
    pub(crate) fn restart(
        &mut self,
        now: Time,
        peer: NodeId,
        (as_of, replicas): (LogIndex, BTreeMap<NodeId, LogIndex>),
        owned: Option<Epoch>,
    ) {
        self.starts += 1;
        self.origin = Origin::new(session(self.id, self.starts));
        self.origin.set_peers([peer]);
        self.receiver = Receiver::new(self.starts * 1_000_000);
        self.learn_replicas(now, as_of, replicas);
        self.jobs.clear();
        self.ring.clear();
        self.expired.clear();
        self.lost_shards = 0;
        self.auditor = Auditor::default();
        (self.page, self.asked, self.cursor) = (None, None, None);
        if let Some(epoch) = owned {
            self.receiver.own(now, GROUP, epoch);
            self.origin.own(now, GROUP, epoch);
        }
    }

    /// Hands changes to the core; the sweeper's and the kernel's in any order.
    pub(crate) fn pump(&mut self, now: Time, rng: &mut Rng) {
        let first = rng.one_in(2);
        for ring in [first, !first] {
            let queue = if ring { &mut self.ring } else { &mut self.expired };
            let count = rng.below(queue.len() as u64 + 1) as usize;
            for (change, epoch) in queue.drain(..count) {
                self.origin.handle_change(now, change, epoch);
            }
        }
        if rng.one_in(2) {
            self.origin.handle_lost(now, std::mem::take(&mut self.lost_shards));
        }
    }

    pub(crate) fn read_page(&mut self) {
        if let Some(pass) = self.asked.take() {
            let (records, last) = self.table.page(self.cursor, 3);
            self.cursor = records.last().map(|record| record.key).or(self.cursor);
            self.page = Some((pass, records, last));
        }
    }

    pub(crate) fn hand_page_over(&mut self, now: Time, rng: &mut Rng) {
        if let Some((pass, records, last)) = self.page.take() {
            if rng.one_in(20) {
                self.origin.handle_page_failed(now, pass);
            } else {
                self.origin.handle_page(now, pass, records, last);
            }
        }
    }

    /// One job of the writer. A refused write is one that the kernel had no room for.
    pub(crate) fn work(&mut self, now: Time, rng: &mut Rng, refuse: Option<u64>) {
        match self.jobs.pop_front() {
            Some(Job::Write(work, mut ops)) => {
                let owned = self.owned();
                yield_to_owner(&mut ops, |group| owned.filter(|_| group == GROUP));
                let outcomes: Vec<_> = ops
                    .iter()
                    .map(|op| {
                        let upsert = matches!(op.change, FlowChange::Upsert(_));
                        let held = self.table.entries.contains_key(op.change.key());
                        if let Some(refuse) = refuse
                            && upsert
                            && !held
                            && rng.one_in(refuse)
                        {
                            WriteOutcome::Full
                        } else {
                            self.table.write(op)
                        }
                    })
                    .collect();
                self.receiver.handle_written(work, ops, &outcomes);
            }
            Some(Job::Sweep { work, shard, mark, epoch }) => {
                if self.owned().is_some() {
                    self.receiver.handle_swept(now, work, 0);
                } else if rng.one_in(20) {
                    self.receiver.handle_sweep_failed(work);
                } else {
                    let removed = self.table.sweep(shard, mark, epoch);
                    self.receiver.handle_swept(now, work, removed);
                }
            }
            None => {}
        }
    }

    fn owned(&self) -> Option<Epoch> {
        self.origin.owned().first().map(|(_, epoch)| *epoch)
    }

    pub(crate) fn poll(&mut self, now: Time) -> Vec<Sent> {
        let mut sent = Vec::new();
        loop {
            if let Some(output) = self.receiver.poll_output() {
                match output {
                    ReceiverOutput::Write { work, ops } => self.jobs.push_back(Job::Write(work, ops)),
                    ReceiverOutput::Sweep { work, group, shard, mark, epoch } => {
                        assert_eq!(group, GROUP);
                        self.jobs.push_back(Job::Sweep { work, shard, mark, epoch });
                    }
                    ReceiverOutput::Send { stream, connection, message } => {
                        sent.push(Sent::Up(stream, connection, message));
                    }
                    ReceiverOutput::Close { stream, connection, .. } => {
                        sent.push(Sent::Close(stream, connection))
                    }
                    ReceiverOutput::Rewalk { shards } => self.origin.handle_lost(now, shards),
                    ReceiverOutput::Inherited { change } => self.origin.handle_inherited(now, change),
                    ReceiverOutput::Diverged { key, difference, .. } => self.diverged.push((key, difference)),
                    output @ (ReceiverOutput::List { .. } | ReceiverOutput::Compare(_)) => {
                        self.auditor.of_receiver(output);
                    }
                }
            } else if let Some(output) = self.origin.poll_output(now) {
                match output {
                    OriginOutput::Send { stream, connection, message } => {
                        sent.push(Sent::Down(stream, connection, message));
                    }
                    OriginOutput::Close { stream, connection, .. } => {
                        sent.push(Sent::Close(stream, connection))
                    }
                    OriginOutput::ReadPage { pass, restart } => {
                        self.asked = Some(pass);
                        if restart {
                            self.cursor = None;
                        }
                    }
                    output @ (OriginOutput::List { .. } | OriginOutput::Digest(_)) => {
                        self.auditor.of_origin(output);
                    }
                }
            } else {
                return sent;
            }
        }
    }
}

fn session(id: NodeId, start: u32) -> Session {
    let mut bytes = [0; 16];
    bytes[0] = id.get() as u8;
    bytes[1..5].copy_from_slice(&start.to_le_bytes());
    Session(bytes)
}
