//! The sending side of a node.
//!
//! State-based: for every stream (peer and shard) it keeps the newest version of each flow that the peer may
//! lack, and forgets it when the peer acknowledges the position it was last sent at. Whatever cannot be told
//! by single changes (a new owner, a new peer, a lost event, an overflow) becomes a walk: one pass over the
//! kernel's table that serves every stream that needs it.
//!
//! Not here: the wire format, reading the kernel's table, and who owns what.

mod audit;
pub(crate) mod counters;
mod lags;
mod outbound;
mod pass;
mod passes;
mod replicas;
mod young;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use lockstep_model::flow::{FlowChange, FlowKey, SHARDS};
use lockstep_model::ids::{Epoch, GroupId, LogIndex, NodeId, ServiceId};

use crate::audit::{DigestJob, RoundId, Seed, Suspect};
use crate::limits::{DISOWNED_KEPT, WALK_TOGETHER};
use crate::message::{Connection, Down, Session, StreamId, Up};
use crate::time::Time;

pub use counters::OriginCounters;
pub use lags::Lag;
pub use pass::PassId;
pub use replicas::Replicas;

use audit::Audits;
use lags::Lags;
use outbound::{Outbound, Resume};
use pass::Pass;
use replicas::{since, tell};
use young::Young;

/// Work for the shell.
#[derive(Debug, PartialEq, Eq)]
pub enum OriginOutput {
    /// Send on the stream.
    Send {
        /// The stream.
        stream: StreamId,
        /// Its life.
        connection: Connection,
        /// The message.
        message: Down,
    },
    /// Close the stream; answer with [`Origin::disconnected`].
    Close {
        /// The stream.
        stream: StreamId,
        /// Its life.
        connection: Connection,
        /// Why.
        reason: CloseReason,
    },
    /// Read a page of the kernel's table (the first one if `restart`); answer with [`Origin::handle_page`] or
    /// [`Origin::handle_page_failed`].
    ReadPage {
        /// The pass it is for.
        pass: PassId,
        /// From the beginning.
        restart: bool,
    },
    /// Read the kernel's whole table for a round of digests, hand over every change that was made before that ended, and
    /// answer with [`Origin::handle_listed`] or [`Origin::handle_list_failed`].
    List {
        /// The round.
        round: RoundId,
        /// For the lister.
        seed: Seed,
        /// For the lister.
        suspects: Vec<Suspect>,
    },
    /// Compute it, wherever that holds nothing up; answer with [`Origin::handle_digest`].
    Digest(DigestJob),
}

/// Why an origin closes a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CloseReason {
    /// Nothing acknowledged for [`crate::limits::STALL`].
    Stalled,
    /// The subscriber broke the protocol.
    Protocol(&'static str),
}

/// How far a peer's stream is behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamLag {
    /// The stream.
    pub stream: StreamId,
    /// Whether it is up.
    pub connected: bool,
    /// The last position given.
    pub position: u64,
    /// The last position acknowledged.
    pub acknowledged: u64,
    /// Records refused by the peer.
    pub nacks: u64,
    /// Flows whose newest version is not acknowledged.
    pub unacknowledged: usize,
    /// How long the oldest of them has waited.
    pub oldest: Duration,
    /// Groups with a walk needed or under way.
    pub walks: usize,
    /// Since when the first of those is needed.
    pub walking: Duration,
    /// Records of walks sent since there was no walk the last time, and how many of them were confirmed.
    pub walk_records: u64,
    /// See `walk_records`; those that wait to be sent are in neither.
    pub walk_confirmed: u64,
    /// Records of walks that wait to be sent.
    pub walk_backlog: usize,
    /// Records sent since the start.
    pub records: u64,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Ownership {
    pub(crate) epoch: Epoch,
    /// When it ended.
    disowned: Option<Time>,
}

/// The sending side of a node; see the module.
#[derive(Debug)]
pub struct Origin {
    session: Session,
    /// Of the tables that clients' keys go into.
    seed: u64,
    groups: BTreeMap<GroupId, Ownership>,
    peers: BTreeSet<NodeId>,
    replicas: Replicas,
    /// The index of the log that `replicas` is of.
    as_of: LogIndex,
    streams: BTreeMap<StreamId, Outbound>,
    young: Young,
    lags: BTreeMap<(NodeId, GroupId), Lags>,
    pass: Option<Pass>,
    passes: u64,
    /// No pass begins earlier.
    pass_not_before: Time,
    walks: u64,
    audits: Audits,
    outputs: VecDeque<OriginOutput>,
    counters: OriginCounters,
}

impl Origin {
    /// An origin that owns nothing. `session` must differ from that of every other start of this node.
    pub fn new(session: Session) -> Self {
        let [low, high] =
            [0, 8].map(|at| session.0[at..at + 8].iter().fold(0, |n, byte| n << 8 | u64::from(*byte)));
        Self {
            session,
            seed: low ^ high,
            groups: BTreeMap::new(),
            peers: BTreeSet::new(),
            replicas: Replicas::new(),
            as_of: LogIndex(0),
            streams: BTreeMap::new(),
            young: Young::new(low ^ high),
            lags: BTreeMap::new(),
            pass: None,
            passes: 0,
            pass_not_before: Time::default(),
            walks: 0,
            audits: Audits::default(),
            outputs: VecDeque::new(),
            counters: OriginCounters::default(),
        }
    }

    /// The set of peers that may subscribe. What is kept for others is dropped.
    pub fn set_peers(&mut self, peers: impl IntoIterator<Item = NodeId>) {
        self.peers = peers.into_iter().collect();
        let peers = &self.peers;
        self.streams.retain(|stream, _| peers.contains(&stream.peer));
        self.lags.retain(|(peer, _), _| peers.contains(peer));
        for &peer in &self.peers {
            for shard in 0..SHARDS {
                let seed = self.seed;
                self.streams.entry(StreamId { peer, shard }).or_insert_with(|| Outbound::new(seed));
            }
        }
    }

    /// This node now owns `group`: its changes are sent from here on, and every replica gets a walk, because what
    /// it holds was learnt under another epoch.
    pub fn own(&mut self, now: Time, group: GroupId, epoch: Epoch) {
        if self.groups.get(&group).is_some_and(|g| g.epoch == epoch && g.disowned.is_none()) {
            return;
        }
        let first = self.reads_for_nobody();
        self.groups.insert(group, Ownership { epoch, disowned: None });
        self.young.forget_group(group);
        for (id, stream) in &mut self.streams {
            stream.forget_group(group);
            tell(stream, now, &self.replicas, self.as_of, group, id.peer);
        }
        self.wait_for_others(now, first);
    }

    /// How long the flows of these services live before they are sent. Their births, and every [`Time`], are of one clock.
    pub fn set_ages(&mut self, now: Time, ages: BTreeMap<ServiceId, Duration>) {
        for record in self.young.set_ages(ages) {
            self.admit(now, FlowChange::Upsert(record));
        }
    }

    /// Somebody waits for everything to be sent: nothing waits for others of its kind any more.
    pub fn release_later(&mut self) {
        self.streams.values_mut().for_each(Outbound::release_later);
    }

    /// Somebody else is about to take the groups over: young flows are sent as well.
    pub fn release_young(&mut self, now: Time) {
        for (group, _) in self.owned() {
            for record in self.young.release_group(group) {
                self.record(now, FlowChange::Upsert(record));
            }
        }
    }

    /// Whether no peer has heard of the flow, because it is too young for its service's policy or has closed before.
    pub fn is_held_back(&self, key: &FlowKey) -> bool {
        self.young.holds(key)
    }

    /// Flows that wait to be old enough.
    pub fn young(&self) -> usize {
        self.young.waiting()
    }

    /// This node lost `group`. What it had not sent yet is still sent for a while: the new owner may lack it.
    pub fn disown(&mut self, now: Time, group: GroupId) {
        if let Some(ownership) = self.groups.get_mut(&group)
            && ownership.disowned.is_none()
        {
            ownership.disowned = Some(now);
            self.young.forget_group(group);
            for stream in self.streams.values_mut() {
                stream.cancel_walk(group);
            }
        }
    }

    /// A change of this node's flow table that happened under `epoch`.
    pub fn handle_change(&mut self, now: Time, change: FlowChange, epoch: Epoch) {
        let Some(ownership) = self.groups.get(&change.group()) else {
            self.counters.changes_not_owned += 1;
            return;
        };
        if epoch != ownership.epoch {
            // Of a later epoch: the walk that `own` will start mentions it. Of an earlier one of ours: somebody
            // else may have owned the group meanwhile, and the walk says what came of it.
            self.counters.changes_of_other_epochs += 1;
            return;
        }
        self.admit(now, change);
    }

    fn admit(&mut self, now: Time, change: FlowChange) {
        if self.young.admits(now, &change, &mut self.counters) {
            self.record(now, change);
        }
    }

    /// A record of the former owner that was written after this node took over, where nothing was held. (Nothing
    /// is removed that early: a flow's age counts from the takeover at the earliest.)
    pub fn handle_inherited(&mut self, now: Time, change: FlowChange) {
        if self.groups.contains_key(&change.group()) {
            self.record(now, change);
        } else {
            self.counters.changes_not_owned += 1;
        }
    }

    fn record(&mut self, now: Time, change: FlowChange) {
        self.counters.changes += 1;
        if let (Some(pass), FlowChange::Remove { key, version, .. }) = (&mut self.pass, &change) {
            pass.remember_removed(*key, *version);
        }
        let shard = change.key().shard();
        let Some(told) = self.replicas.get(&change.group()) else { return };
        for &peer in told.keys() {
            let Some(stream) = self.streams.get_mut(&StreamId { peer, shard }) else { continue };
            if stream.offer(now, &change, &mut self.counters) {
                let owned = self.groups.iter().filter(|(_, g)| g.disowned.is_none()).map(|(id, _)| *id);
                stream.overflow(
                    now,
                    owned.filter_map(|group| Some((group, since(&self.replicas, group, peer)?))),
                );
                self.counters.overflows += 1;
            }
        }
    }

    /// The kernel could not report changes of these shards (bit by shard): what is there must be read.
    pub fn handle_lost(&mut self, now: Time, shards: u32) {
        if shards == 0 {
            return;
        }
        self.counters.lost += 1;
        let owned: Vec<_> =
            self.groups.iter().filter(|(_, g)| g.disowned.is_none()).map(|(id, _)| *id).collect();
        for (id, stream) in &mut self.streams {
            if shards & (1 << id.shard) != 0 {
                for group in &owned {
                    if let Some(since) = since(&self.replicas, *group, id.peer) {
                        stream.need_walk(now, *group, since);
                    }
                }
            }
        }
    }

    /// A message of a subscriber. A [`Up::Hello`] begins a new life of the stream.
    pub fn handle_up(&mut self, now: Time, stream: StreamId, connection: Connection, message: Up) {
        let first = self.reads_for_nobody();
        let Some(outbound) = self.streams.get_mut(&stream) else {
            let reason = CloseReason::Protocol("not a data-plane node of this cluster");
            self.outputs.push_back(OriginOutput::Close { stream, connection, reason });
            return;
        };
        match message {
            Up::Hello { session, position, credit, audits, removes } => {
                if outbound.connection().is_some_and(|current| current >= connection) {
                    return;
                }
                if first {
                    self.pass_not_before = self.pass_not_before.max(now + WALK_TOGETHER);
                }
                let known = session == Some(self.session);
                let resume =
                    outbound.connect(now, connection, known.then_some(position), credit, (audits, removes));
                let resumed = resume == Resume::Resumed;
                if resumed {
                    self.counters.resumed += 1;
                } else {
                    self.counters.not_resumed += 1;
                    let owned = self.groups.iter().filter(|(_, g)| g.disowned.is_none());
                    owned.for_each(|(group, _)| {
                        tell(outbound, now, &self.replicas, self.as_of, *group, stream.peer)
                    });
                }
                let message = Down::Welcome { session: self.session, resumed, position: outbound.position() };
                self.outputs.push_back(OriginOutput::Send { stream, connection, message });
            }
            Up::Ack { position, nacks, credit } => {
                if outbound.connection() != Some(connection) {
                    self.counters.late_acks += 1;
                    return;
                }
                let lags = &mut self.lags;
                let confirmed = &mut |group, lag| lags.entry((stream.peer, group)).or_default().add(now, lag);
                let acknowledged =
                    outbound.acknowledge(now, position, &nacks, credit, &mut self.counters, confirmed);
                for group in outbound.take_kept() {
                    let owned = self.groups.get(&group).is_some_and(|g| g.disowned.is_none());
                    if owned && since(&self.replicas, group, stream.peer).is_none() {
                        tell(outbound, now, &self.replicas, self.as_of, group, stream.peer);
                    }
                }
                if let Err(what) = acknowledged {
                    let reason = CloseReason::Protocol(what);
                    self.counters.protocol_errors += 1;
                    self.outputs.push_back(OriginOutput::Close { stream, connection, reason });
                }
            }
            Up::AuditReady { .. } | Up::AuditResult { .. } if outbound.connection() != Some(connection) => {}
            Up::AuditReady { round } => self.audit_ready(stream, round),
            Up::AuditResult { round, suspects } => {
                if let Err(what) = self.audit_result(now, stream, round, suspects) {
                    let reason = CloseReason::Protocol(what);
                    self.counters.protocol_errors += 1;
                    self.outputs.push_back(OriginOutput::Close { stream, connection, reason });
                }
            }
        }
    }

    /// The stream is down.
    pub fn disconnected(&mut self, stream: StreamId, connection: Connection) {
        if let Some(outbound) = self.streams.get_mut(&stream)
            && outbound.connection() == Some(connection)
        {
            outbound.disconnect();
        }
    }

    /// Does what is due: refused records again, heartbeats, stalled streams, groups disowned long ago.
    pub fn handle_timeout(&mut self, now: Time) {
        while let Some(record) = self.young.pop_due(now, &mut self.counters) {
            self.record(now, FlowChange::Upsert(record));
        }
        let owned = self.owned();
        for (&stream, outbound) in &mut self.streams {
            outbound.queue_due(now);
            let Some(connection) = outbound.connection() else { continue };
            if outbound.stalled(now) {
                outbound.disconnect();
                self.counters.stalls += 1;
                let reason = CloseReason::Stalled;
                self.outputs.push_back(OriginOutput::Close { stream, connection, reason });
            } else if outbound.heartbeat_due(now) {
                let message = Down::Heartbeat { position: outbound.position(), owned: owned.clone() };
                self.outputs.push_back(OriginOutput::Send { stream, connection, message });
            }
        }
        let gone = |g: &Ownership| g.disowned.is_some_and(|at| now >= at + DISOWNED_KEPT);
        let purged: Vec<_> = self.groups.iter().filter(|(_, g)| gone(g)).map(|(id, _)| *id).collect();
        for group in purged {
            self.groups.remove(&group);
            self.lags.retain(|(_, of), _| *of != group);
            self.streams.values_mut().for_each(|stream| stream.forget_group(group));
        }
    }

    /// The next piece of work.
    pub fn poll_output(&mut self, now: Time) -> Option<OriginOutput> {
        if let Some(output) = self.outputs.pop_front() {
            return Some(output);
        }
        self.begin_pass(now);
        self.audit(now);
        if let Some(output) = self.outputs.pop_front() {
            return Some(output);
        }
        for (&stream, outbound) in &mut self.streams {
            let Some(connection) = outbound.connection() else { continue };
            if let Some(message) = outbound.next_message(now, &self.groups, &mut self.counters) {
                return Some(OriginOutput::Send { stream, connection, message });
            }
        }
        self.next_page()
    }

    /// When [`Self::handle_timeout`] is due.
    pub fn next_deadline(&self) -> Option<Time> {
        let streams = self.streams.values().filter_map(Outbound::next_deadline);
        let purge = self.groups.values().filter_map(|g| g.disowned).map(|at| at + DISOWNED_KEPT);
        let retry = self.streams.values().any(Outbound::needs_pass).then_some(self.pass_not_before);
        streams.chain(purge).chain(self.young.next_due()).chain(retry.filter(|_| self.pass.is_none())).min()
    }

    /// Groups owned now.
    pub fn owned(&self) -> Vec<(GroupId, Epoch)> {
        let owned = self.groups.iter().filter(|(_, g)| g.disowned.is_none());
        owned.map(|(id, g)| (*id, g.epoch)).collect()
    }

    /// How far every stream is behind.
    pub fn lag(&self, now: Time) -> Vec<StreamLag> {
        self.streams.iter().map(|(stream, outbound)| outbound.lag(now, *stream)).collect()
    }

    /// How long changes took lately until a peer confirmed them.
    pub fn lags(&mut self, now: Time) -> Vec<(NodeId, GroupId, Lag)> {
        self.lags.iter_mut().map(|((peer, group), lags)| (*peer, *group, lags.read(now))).collect()
    }

    /// Whether every connected peer has everything.
    pub fn is_flushed(&self) -> bool {
        self.streams.values().all(|s| s.connection().is_none() || s.is_flushed())
    }

    /// What was counted.
    pub fn counters(&self) -> &OriginCounters {
        &self.counters
    }
}
