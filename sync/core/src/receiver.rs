//! The receiving side of a node: what other nodes say of the flows of the groups they own becomes writes of
//! this node's table, in the order it was said.
//!
//! Not here: the table itself, which compares stamps ([`lockstep_model::flow::FlowOp::supersedes`]) and so
//! makes every write idempotent, and the decision who owns a group.

mod audit;
mod counters;
mod groups;
mod inbound;
mod status;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use lockstep_model::flow::{FlowChange, FlowKey, FlowOp, WriteOutcome};
use lockstep_model::ids::{Epoch, GroupId, LogIndex, NodeId};

use crate::audit::{CompareJob, Difference, RoundId, Seed, Suspect};
use crate::limits::{MAX_BATCH_RECORDS, MAX_REFUSED, WINDOW};
use crate::message::{Connection, Down, Nack, NackReason, Purpose, StreamId, Up, WalkId};
use crate::time::Time;

pub use counters::ReceiverCounters;
pub use status::{GroupSync, InboundStatus, SyncState};

use audit::Readings;
use groups::{Groups, Standing};
use inbound::{Inbound, OpenWalk, Work};

/// A piece of work that the shell finishes, in the order it was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WorkId(pub u64);

/// Work for the shell.
#[derive(Debug, PartialEq, Eq)]
pub enum ReceiverOutput {
    /// Write to the table; answer with [`Receiver::handle_written`].
    Write {
        /// Names it in the answer.
        work: WorkId,
        /// What to write.
        ops: Vec<FlowOp>,
    },
    /// Remove every flow of the group and shard that does not carry `mark` and was not learnt or made under a
    /// later epoch than `epoch`; answer with [`Receiver::handle_swept`].
    Sweep {
        /// Names it in the answer.
        work: WorkId,
        /// The group.
        group: GroupId,
        /// The shard.
        shard: u8,
        /// The mark of the walk that ended.
        mark: u32,
        /// The walk's epoch.
        epoch: Epoch,
    },
    /// Send on the stream.
    Send {
        /// The stream.
        stream: StreamId,
        /// Its life.
        connection: Connection,
        /// The message.
        message: Up,
    },
    /// Close the stream and open it again.
    Close {
        /// The stream.
        stream: StreamId,
        /// Its life.
        connection: Connection,
        /// Why.
        reason: &'static str,
    },
    /// A record of the former owner was written after this node took over: now this node's to replicate:
    /// hand it to [`crate::Origin::handle_inherited`].
    Inherited {
        /// The record.
        change: FlowChange,
    },
    /// A sweep removed flows of a group that became this node's meanwhile; its own walk may have mentioned them
    /// already. Hand the shards to [`crate::Origin::handle_lost`].
    Rewalk {
        /// Bit by shard.
        shards: u32,
    },
    /// Read the whole table for a round of digests; answer with [`Receiver::handle_listed`], or not at all.
    List {
        /// The origin whose round it is.
        peer: NodeId,
        /// The round.
        round: RoundId,
        /// For the lister.
        seed: Seed,
        /// For the lister.
        suspects: Vec<Suspect>,
    },
    /// Compute it, wherever that holds nothing up; answer with [`Receiver::handle_compared`].
    Compare(CompareJob),
    /// A flow differs from the owner's; its repair follows. For the log.
    Diverged {
        /// The stream.
        stream: StreamId,
        /// The group.
        group: GroupId,
        /// The flow.
        key: FlowKey,
        /// How.
        difference: Difference,
    },
}

/// For the writer, just before it writes: what is still queued when this node takes a group over may fill
/// gaps, but no longer replace what the node now answers for. `owned` is the epoch a group is owned in.
pub fn yield_to_owner(ops: &mut [FlowOp], owned: impl Fn(GroupId) -> Option<Epoch>) {
    for op in ops {
        op.only_if_absent |= owned(op.change.group()).is_some_and(|own| op.epoch < own);
    }
}

/// The receiving side of a node; see the module.
#[derive(Debug)]
pub struct Receiver {
    groups: Groups,
    streams: BTreeMap<StreamId, Inbound>,
    working: BTreeMap<WorkId, StreamId>,
    works: u64,
    readings: Readings,
    outputs: VecDeque<ReceiverOutput>,
    counters: ReceiverCounters,
}

impl Receiver {
    /// A receiver that knows nothing. Entries in the table carry marks of earlier starts: `first_mark` must be
    /// later than all of those, e.g. the milliseconds since the machine booted.
    pub fn new(first_mark: u32) -> Self {
        Self {
            groups: Groups::new(first_mark),
            streams: BTreeMap::new(),
            working: BTreeMap::new(),
            works: 0,
            readings: Readings::new(),
            outputs: VecDeque::new(),
            counters: ReceiverCounters::default(),
        }
    }

    /// An epoch of a group that this node knows to exist. Walks of lower ones remove nothing from here on; records of lower
    /// ones count until an owner speaks in this one.
    pub fn learn_epoch(&mut self, group: GroupId, epoch: Epoch) {
        if self.groups.learn(group, epoch).is_err() {
            self.counters.groups_over_limit += 1;
        }
    }

    /// This node is about to open its lease. What was read before this call is written by the old rules.
    pub fn own(&mut self, now: Time, group: GroupId, epoch: Epoch) {
        self.groups.own(now, group, epoch);
        self.streams.values_mut().for_each(|inbound| inbound.abandon_walk(group));
    }

    /// This node no longer owns the group.
    pub fn disown(&mut self, now: Time, group: GroupId) {
        self.groups.disown(now, group);
    }

    /// Since when in the log this node is to hold the flows of each group; of others it holds nothing that counts.
    pub fn set_memberships(&mut self, memberships: BTreeMap<GroupId, LogIndex>) {
        self.groups.set_memberships(memberships);
    }

    /// The group is gone from the intent.
    pub fn forget(&mut self, group: GroupId) {
        self.groups.forget(group);
        self.streams.values_mut().for_each(|inbound| inbound.forget_group(group));
    }

    /// The nodes whose flows are received. What is kept for others is dropped.
    pub fn set_peers(&mut self, peers: &BTreeSet<NodeId>) {
        self.streams.retain(|stream, _| peers.contains(&stream.peer));
        self.readings.retain(|peer, _| peers.contains(peer));
    }

    /// The stream is up; says Hello.
    pub fn connected(&mut self, stream: StreamId, connection: Connection) {
        let inbound = self.streams.entry(stream).or_default();
        let (session, position) = inbound.connect(connection);
        let message = Up::Hello { session, position, credit: WINDOW, audits: true, removes: true };
        self.outputs.push_back(ReceiverOutput::Send { stream, connection, message });
    }

    /// The stream is down.
    pub fn disconnected(&mut self, stream: StreamId, connection: Connection) {
        if let Some(inbound) = self.streams.get_mut(&stream) {
            inbound.disconnect(connection);
        }
    }

    /// A message of an origin.
    pub fn handle_down(&mut self, now: Time, stream: StreamId, connection: Connection, message: Down) {
        let Some(inbound) = self.streams.get_mut(&stream).filter(|i| i.connection == Some(connection)) else {
            self.counters.late_messages += 1;
            return;
        };
        inbound.alive = now;
        let result = match message {
            Down::Welcome { session, resumed, position } => inbound.welcome(session, resumed, position),
            Down::Heartbeat { owned, .. } => {
                owned.into_iter().try_for_each(|(group, epoch)| self.groups.hear(group, epoch))
            }
            Down::Batch { group, epoch, position, changes } => {
                self.handle_batch(now, stream, group, epoch, position, changes)
            }
            Down::WalkBegin { group, epoch, walk, purpose, position } => {
                self.walk_begin(stream, group, epoch, (walk, purpose), position)
            }
            Down::WalkEnd { group, epoch, walk, position } => {
                self.walk_end(stream, group, epoch, walk, position)
            }
            Down::AuditBegin { .. }
            | Down::AuditEnd { .. }
            | Down::AuditSums { .. }
            | Down::AuditRecords { .. }
            | Down::AuditSaid { .. } => self.handle_audit(stream, message),
        };
        if let Err(reason) = result {
            self.counters.protocol_errors += 1;
            self.close(stream, connection, reason);
        }
    }

    fn handle_batch(
        &mut self,
        now: Time,
        stream: StreamId,
        group: GroupId,
        epoch: Epoch,
        position: u64,
        changes: Vec<FlowChange>,
    ) -> Result<(), &'static str> {
        let count = changes.len() as u64;
        if changes.is_empty() || changes.len() > MAX_BATCH_RECORDS {
            return Err("a batch without records, or with too many");
        }
        let misplaced = |c: &FlowChange| c.group() != group || c.key().shard() != stream.shard;
        if changes.iter().any(misplaced) {
            return Err("a record of another group or shard");
        }
        let inbound = self.streams.get_mut(&stream).expect("looked up by the caller");
        if !inbound.advance(position, count, &mut self.counters)? {
            return Ok(());
        }
        self.counters.records_received += count;
        inbound.note_changes(&changes);
        self.groups.hear(group, epoch)?;
        let first = position - count + 1;
        let standing = self.groups.standing(now, group, epoch);
        if standing == Standing::Refused {
            self.counters.refused_old_epoch += count;
            let nacks = (first..=position).map(|position| Nack { position, reason: NackReason::OldEpoch });
            inbound.push_done(position, nacks.collect());
            return Ok(());
        }
        let mark = self.groups.mark(group, stream.shard);
        let only_if_absent = standing == Standing::Grace;
        let ops: Vec<_> = changes
            .into_iter()
            .map(|change| FlowOp { change, epoch, mark, only_if_absent, repair: false })
            .collect();
        let work = self.next_work(stream);
        self.groups.fill(group, stream.shard);
        self.inbound(stream).push(work, Work::Write { first, last: position, group, mark });
        self.outputs.push_back(ReceiverOutput::Write { work, ops });
        Ok(())
    }

    fn walk_begin(
        &mut self,
        stream: StreamId,
        group: GroupId,
        epoch: Epoch,
        (walk, purpose): (WalkId, Purpose),
        position: u64,
    ) -> Result<(), &'static str> {
        let inbound = self.streams.get_mut(&stream).expect("looked up by the caller");
        if !inbound.advance(position, 1, &mut self.counters)? {
            return Ok(());
        }
        self.groups.hear(group, epoch)?;
        // An owner that has yet to hear that this node is to hold the group would have it removed.
        let outdated = matches!(purpose, Purpose::Remove(as_of) if !self.groups.may_remove(group, as_of));
        if outdated || !self.groups.may_sweep(group, epoch) {
            self.counters.walks_refused += 1;
        } else {
            let mark = self.groups.new_mark(group, stream.shard);
            inbound.begin_walk(group, OpenWalk { walk, epoch, purpose, mark });
        }
        let nack = outdated.then_some(Nack { position, reason: NackReason::Outdated });
        self.inbound(stream).push_done(position, nack.into_iter().collect());
        Ok(())
    }

    fn walk_end(
        &mut self,
        stream: StreamId,
        group: GroupId,
        epoch: Epoch,
        walk: WalkId,
        position: u64,
    ) -> Result<(), &'static str> {
        let inbound = self.streams.get_mut(&stream).expect("looked up by the caller");
        if !inbound.advance(position, 1, &mut self.counters)? {
            return Ok(());
        }
        let open = inbound.take_walk(group).filter(|open| open.walk == walk && open.epoch == epoch);
        let current = |open: &OpenWalk| self.groups.mark(group, stream.shard) == open.mark;
        let Some(open) = open.filter(current).filter(|_| self.groups.may_sweep(group, epoch)) else {
            self.counters.walks_refused += 1;
            inbound.push_done(position, Vec::new());
            return Ok(());
        };
        if !open.purpose.mentions() {
            if self.groups.is_empty(group, stream.shard) {
                inbound.push_done(position, Vec::new());
                return Ok(());
            }
            self.groups.emptying(group, stream.shard);
        }
        let work = self.next_work(stream);
        let (shard, mark, purpose) = (stream.shard, open.mark, open.purpose);
        self.inbound(stream).push(work, Work::Sweep { position, group, epoch, mark, purpose });
        self.outputs.push_back(ReceiverOutput::Sweep { work, group, shard, mark, epoch });
        Ok(())
    }

    /// A write is in the kernel, or was refused by it: one outcome for each op.
    pub fn handle_written(&mut self, work: WorkId, ops: Vec<FlowOp>, outcomes: &[WriteOutcome]) {
        assert_eq!(ops.len(), outcomes.len(), "one outcome for each op");
        for outcome in outcomes {
            match outcome {
                WriteOutcome::Applied => self.counters.applied += 1,
                WriteOutcome::Stale => self.counters.stale += 1,
                WriteOutcome::Full => self.counters.failed_full += 1,
                WriteOutcome::UnknownGroup => self.counters.failed_unknown_group += 1,
                WriteOutcome::Failed(_) => self.counters.failed_kernel += 1,
            }
        }
        if let Some(stream) = self.working.remove(&work)
            && let Some(inbound) = self.streams.get_mut(&stream)
        {
            inbound.written(work, &ops, outcomes);
            self.limit_refused(stream);
        }
        for (op, outcome) in ops.into_iter().zip(outcomes) {
            if op.only_if_absent && *outcome == WriteOutcome::Applied {
                self.counters.inherited += 1;
                self.outputs.push_back(ReceiverOutput::Inherited { change: op.change });
            }
        }
    }

    fn limit_refused(&mut self, stream: StreamId) {
        let Some(inbound) = self.streams.get_mut(&stream) else { return };
        if inbound.refused_len() > MAX_REFUSED
            && let Some(connection) = inbound.connection
        {
            self.counters.refused_overflows += 1;
            inbound.forget_session();
            self.close(stream, connection, "too many records refused");
        }
    }

    /// A sweep has finished.
    pub fn handle_swept(&mut self, now: Time, work: WorkId, removed: u64) {
        self.counters.walks += 1;
        self.counters.swept += removed;
        let Some(stream) = self.working.remove(&work) else { return };
        let Some(inbound) = self.streams.get_mut(&stream) else { return };
        let Some((group, purpose)) = inbound.swept(now, work) else { return };
        if !purpose.mentions() {
            self.groups.emptied(group, stream.shard);
        }
        if removed > 0 && self.groups.owned(group).is_some() {
            self.outputs.push_back(ReceiverOutput::Rewalk { shards: 1 << stream.shard });
        }
    }

    /// A sweep could not be done: the stream begins again with a walk.
    pub fn handle_sweep_failed(&mut self, work: WorkId) {
        self.counters.sweeps_failed += 1;
        let Some(stream) = self.working.remove(&work) else { return };
        let Some(inbound) = self.streams.get_mut(&stream) else { return };
        inbound.sweep_failed(work);
        if let Some(connection) = inbound.connection {
            inbound.disconnect(connection);
            self.close(stream, connection, "the sweep after a walk failed");
        }
    }

    /// The next piece of work.
    pub fn poll_output(&mut self) -> Option<ReceiverOutput> {
        let waiting = self.outputs.pop_front();
        waiting.or_else(|| self.next_acknowledgement()).or_else(|| self.next_reading())
    }

    /// The same without acknowledgements: those that wait a little go as one.
    pub fn poll_unacknowledged(&mut self) -> Option<ReceiverOutput> {
        let waiting = self.outputs.pop_front();
        waiting.or_else(|| self.next_reading())
    }

    /// Whether an acknowledgement waits.
    pub fn owes_acknowledgement(&self) -> bool {
        self.streams.values().any(Inbound::owes_acknowledgement)
    }

    fn next_acknowledgement(&mut self) -> Option<ReceiverOutput> {
        self.streams.iter_mut().find_map(|(&stream, inbound)| {
            let (position, nacks) = inbound.acknowledgement()?;
            let connection = inbound.connection?;
            self.counters.nacks += nacks.len() as u64;
            let message = Up::Ack { position, nacks, credit: WINDOW };
            Some(ReceiverOutput::Send { stream, connection, message })
        })
    }

    /// The groups whose epoch this node knows.
    pub fn known_groups(&self) -> Vec<GroupId> {
        self.groups.ids()
    }

    /// Whether writes or sweeps are with the shell.
    pub fn is_idle(&self) -> bool {
        self.working.is_empty()
    }

    /// What was counted.
    pub fn counters(&self) -> &ReceiverCounters {
        &self.counters
    }

    /// Of a message that is being handled.
    fn inbound(&mut self, stream: StreamId) -> &mut Inbound {
        self.streams.get_mut(&stream).expect("its message was looked up there")
    }

    fn next_work(&mut self, stream: StreamId) -> WorkId {
        self.works += 1;
        let work = WorkId(self.works);
        self.working.insert(work, stream);
        work
    }

    fn close(&mut self, stream: StreamId, connection: Connection, reason: &'static str) {
        self.outputs.push_back(ReceiverOutput::Close { stream, connection, reason });
    }
}
