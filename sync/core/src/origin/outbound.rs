//! One stream to one peer: what the peer may lack, what is on its way, which walks are open.
//!
//! ```text
//!              offer                    next_message                 acknowledge
//!   (nothing) ───────► live queue ─────────────────────► sent(pos) ─────────────► (nothing)
//!       │ mention                          ▲               │  ▲ nack
//!       └────────────► walk queue ─────────┘        newer version, reconnect: live queue
//!                                                   nack: retry(at), then live queue
//! ```
//!
//! What says only that a flow ends waits a little ([`LATER`]), then stands in the live queue: the end of a connection is
//! one record, and not three.
//!
//! A walk's begin marker stands in the live queue, so that no live record made after it overtakes it; its
//! records and its end marker stand in the walk queue. A record of a walk whose flow gets a newer version
//! keeps its place: it is mentioned before the end marker, or the receiver would sweep a live flow.

mod audits;
mod queues;
mod sending;
mod sent;
mod store;
mod walks;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use lockstep_model::flow::{FlowChange, FlowState, FlowVersion};
use lockstep_model::ids::{GroupId, LogIndex};

use super::{OriginCounters, StreamLag};
use crate::limits::{HEARTBEAT, LATER, MAX_DIRTY, MAX_DIRTY_AWAY, RETRY_FIRST, RETRY_LAST, STALL};
use crate::message::{Connection, Nack, NackReason, StreamId};
use crate::time::Time;

pub(super) use audits::AuditStage;

use audits::Audit;
use queues::{Item, Place, Queues};
use sent::Sent;
use store::{Dirty, Store};
use walks::Walk;

/// How a stream went on after a Hello.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Resume {
    /// Behind the subscriber's position.
    Resumed,
    /// From nothing: every owned group needs a walk.
    Anew,
}

/// What an acknowledgement settled.
#[derive(Debug, Default)]
struct Settled {
    records: u64,
    /// Walks that ended.
    walks: u64,
}

/// Records of walks since there was none.
#[derive(Debug, Default)]
struct Walked {
    sent: u64,
    confirmed: u64,
}

/// Newest wins; a removal names the last version and wins over it.
fn rank(change: &FlowChange) -> (FlowVersion, bool) {
    (change.version(), matches!(change, FlowChange::Remove { .. }))
}

/// Whether a change says only that a flow ends. It was told of before, and lives on until its timeout where nobody heard.
fn only_ends(change: &FlowChange) -> bool {
    match change {
        FlowChange::Remove { .. } => true,
        FlowChange::Upsert(record) => {
            matches!(record.state, FlowState::Closing | FlowState::Closed | FlowState::ResetPending)
        }
    }
}

#[derive(Debug)]
pub(super) struct Outbound {
    connection: Option<Connection>,
    /// The peer has said Hello once: single changes mean something to it.
    tracking: bool,
    credit: u64,
    /// The peer understands digests.
    audits: bool,
    /// It understands that it is to remove a group.
    removes: bool,
    audit: Option<Audit>,
    /// The last position given. Never given twice in a session.
    position: u64,
    /// Everything up to here is acknowledged; what was removed before is forgotten (the tombstone floor).
    acknowledged: u64,
    dirty: Store,
    queues: Queues,
    /// Taken from the queues, but it begins the next message.
    peeked: Option<(Place, Item)>,
    sent: Sent,
    walks: BTreeMap<GroupId, Walk>,
    /// Groups that the peer would not remove.
    kept: BTreeSet<GroupId>,
    /// Records refused by the peer.
    nacks: u64,
    /// Records sent since the start.
    records: u64,
    walked: Walked,
    /// When an acknowledgement last moved, or had to be waited for.
    progress: Time,
    /// When something was last sent.
    spoke: Time,
}

impl Outbound {
    /// Nothing yet. `seed` is nothing that a client can know.
    pub(super) fn new(seed: u64) -> Self {
        Self {
            connection: None,
            tracking: false,
            credit: 0,
            audits: false,
            removes: false,
            audit: None,
            position: 0,
            acknowledged: 0,
            dirty: Store::new(seed),
            queues: Queues::default(),
            peeked: None,
            sent: Sent::default(),
            walks: BTreeMap::new(),
            kept: BTreeSet::new(),
            nacks: 0,
            records: 0,
            walked: Walked::default(),
            progress: Time::default(),
            spoke: Time::default(),
        }
    }

    /// A new life of the stream. `known` is the subscriber's position if it is of this session.
    pub(super) fn connect(
        &mut self,
        now: Time,
        connection: Connection,
        known: Option<u64>,
        credit: u64,
        (audits, removes): (bool, bool),
    ) -> Resume {
        self.disconnect();
        self.connection = Some(connection);
        self.credit = credit;
        (self.audits, self.removes) = (audits, removes);
        self.progress = now;
        self.spoke = now;
        let known = known.filter(|p| self.tracking && (self.acknowledged..=self.position).contains(p));
        self.tracking = true;
        let Some(position) = known else {
            self.forget_everything();
            self.acknowledged = self.position;
            return Resume::Anew;
        };
        self.settle(position, &mut |_| {});
        self.release_later();
        for item in self.sent.take() {
            if let Item::Record(slot) = item
                && let Some(dirty) = self.dirty.get_mut(slot)
                && matches!(dirty.place, Place::Sent(_))
            {
                dirty.place = self.queues.push_live(item);
            }
        }
        Resume::Resumed
    }

    /// The stream is down: walks begin again when it is back, records wait.
    pub(super) fn disconnect(&mut self) {
        self.connection = None;
        self.cancel_audit();
        self.walks.values_mut().for_each(Walk::interrupt);
    }

    /// A change. True: too much is waiting, see [`Self::overflow`].
    pub(super) fn offer(&mut self, now: Time, change: &FlowChange, counters: &mut OriginCounters) -> bool {
        if !self.tracking {
            return false;
        }
        if let Some(slot) = self.dirty.find(change.key()) {
            let dirty = self.dirty.get_mut(slot).expect("found above");
            if rank(change) <= rank(&dirty.change) {
                counters.changes_stale += 1;
                return false;
            }
            let may_wait = change.version().birth == dirty.change.version().birth && only_ends(change);
            dirty.change = change.clone();
            match dirty.place {
                Place::Sent(told) if may_wait => {
                    dirty.place = self.queues.push_later(now + LATER, slot, told);
                    dirty.refusals = 0;
                }
                Place::Sent(_) => {
                    dirty.place = self.queues.push_live(Item::Record(slot));
                    dirty.refusals = 0;
                }
                Place::Later { .. } if !may_wait => {
                    dirty.place = self.queues.push_live(Item::Record(slot));
                    counters.superseded += 1;
                }
                _ => counters.superseded += 1,
            }
            return false;
        }
        let limit = if self.connection.is_some() { MAX_DIRTY } else { MAX_DIRTY_AWAY };
        if self.dirty.len() >= limit {
            return true;
        }
        let (queues, later) = (&mut self.queues, only_ends(change));
        let place = |slot| {
            if later { queues.push_later(now + LATER, slot, 0) } else { queues.push_live(Item::Record(slot)) }
        };
        self.dirty.insert(now, change.clone(), false, place);
        false
    }

    /// Gives up single records for a walk of `groups`.
    pub(super) fn overflow(&mut self, now: Time, groups: impl Iterator<Item = (GroupId, LogIndex)>) {
        self.dirty.clear();
        self.queues = Queues::default();
        self.peeked = None;
        self.cancel_audit();
        self.walks.values_mut().for_each(Walk::interrupt);
        groups.for_each(|(group, since)| self.need_walk(now, group, since));
    }

    /// Drops what is kept of a group.
    pub(super) fn forget_group(&mut self, group: GroupId) {
        self.dirty.remove_group(group);
        self.walks.remove(&group);
    }

    fn forget_everything(&mut self) {
        self.dirty.clear();
        self.queues = Queues::default();
        self.peeked = None;
        self.sent.take();
        self.walks.clear();
        self.kept.clear();
    }

    /// Groups that the peer would not remove, because it has heard later that it is to hold them.
    pub(super) fn take_kept(&mut self) -> BTreeSet<GroupId> {
        std::mem::take(&mut self.kept)
    }

    /// The subscriber has handled everything up to `position`.
    pub(super) fn acknowledge(
        &mut self,
        now: Time,
        position: u64,
        nacks: &[Nack],
        credit: u64,
        counters: &mut OriginCounters,
        confirmed: &mut dyn FnMut(GroupId, Duration),
    ) -> Result<(), &'static str> {
        if position > self.position {
            return Err("acknowledged what was not sent");
        }
        for nack in nacks {
            self.refused(now, *nack, counters);
        }
        self.credit = credit;
        if position > self.acknowledged {
            self.progress = now;
            let settled = self.settle(position, &mut |dirty| {
                if !dirty.walked && !dirty.late {
                    confirmed(dirty.change.group(), now.since(dirty.since));
                }
            });
            counters.walks += settled.walks;
            counters.records_acknowledged += settled.records;
        }
        Ok(())
    }

    fn refused(&mut self, now: Time, nack: Nack, counters: &mut OriginCounters) {
        self.nacks += 1;
        match nack.reason {
            NackReason::Full => counters.nacks_full += 1,
            NackReason::UnknownGroup => counters.nacks_unknown_group += 1,
            NackReason::Failed => counters.nacks_failed += 1,
            NackReason::OldEpoch => counters.nacks_old_epoch += 1,
            NackReason::Outdated => counters.nacks_outdated += 1,
        }
        if let Some(Item::Begin(group, _)) = self.sent.get(nack.position) {
            self.kept.insert(group);
            return;
        }
        let Some(Item::Record(slot)) = self.sent.get(nack.position) else { return };
        let Some(dirty) = self.dirty.get_mut(slot) else { return };
        // A newer version that waits would be refused for the same reason.
        if dirty.place != Place::Sent(nack.position) && dirty.place.told() != Some(nack.position) {
            return;
        }
        if nack.reason == NackReason::OldEpoch {
            self.dirty.remove(slot);
            return;
        }
        let wait = RETRY_FIRST.saturating_mul(1 << dirty.refusals.min(16)).min(RETRY_LAST);
        dirty.refusals += 1;
        dirty.place = self.queues.push_retry(now + wait, slot);
        // The peer lacks something that it was told of: nothing to compare with.
        self.cancel_audit();
    }

    /// Forgets what was sent up to `position`.
    fn settle(&mut self, position: u64, confirmed: &mut dyn FnMut(&Dirty)) -> Settled {
        self.acknowledged = position.max(self.acknowledged);
        let mut settled = Settled::default();
        while let Some((at, item)) = self.sent.pop_until(position) {
            match item {
                Item::Record(slot) => {
                    settled.records += 1;
                    match self.dirty.get_mut(slot) {
                        Some(dirty) if dirty.place == Place::Sent(at) => {
                            self.walked.confirmed += u64::from(dirty.walked);
                            confirmed(dirty);
                            self.dirty.remove(slot);
                        }
                        // The peer holds the flow; what waits is late by intention.
                        Some(dirty) if dirty.place.told() == Some(at) => {
                            confirmed(dirty);
                            dirty.late = true;
                        }
                        _ => {}
                    }
                }
                Item::Begin(..) | Item::AuditBegin(_) | Item::AuditEnd(_) => {}
                Item::End(group, walk) => settled.walks += u64::from(self.walk_acknowledged(group, walk)),
            }
        }
        settled
    }

    /// Queues what waits for others of its kind.
    pub(super) fn release_later(&mut self) {
        self.later_due(Time::from_nanos(u64::MAX));
    }

    fn later_due(&mut self, now: Time) {
        while let Some((ticket, slot)) = self.queues.pop_later(now) {
            if let Some(dirty) = self.dirty.get_mut(slot)
                && matches!(dirty.place, Place::Later { ticket: held, .. } if held == ticket)
            {
                dirty.place = self.queues.push_live(Item::Record(slot));
            }
        }
    }

    /// Queues what waited until now, and refused records whose time has come.
    pub(super) fn queue_due(&mut self, now: Time) {
        self.later_due(now);
        while let Some((at, slot)) = self.queues.pop_retry(now) {
            if let Some(dirty) = self.dirty.get_mut(slot)
                && dirty.place == Place::Retry(at)
            {
                dirty.place = self.queues.push_live(Item::Record(slot));
            }
        }
    }

    pub(super) fn connection(&self) -> Option<Connection> {
        self.connection
    }

    pub(super) fn position(&self) -> u64 {
        self.position
    }

    pub(super) fn stalled(&self, now: Time) -> bool {
        !self.sent.is_empty() && now >= self.progress + STALL
    }

    /// Whether it is time to say something; counts as said.
    pub(super) fn heartbeat_due(&mut self, now: Time) -> bool {
        let due = now >= self.spoke + HEARTBEAT;
        if due {
            self.spoke = now;
        }
        due
    }

    pub(super) fn is_flushed(&self) -> bool {
        self.dirty.is_empty() && self.copying().next().is_none()
    }

    pub(super) fn next_deadline(&self) -> Option<Time> {
        self.connection?;
        let stall = (!self.sent.is_empty()).then(|| self.progress + STALL);
        let (retry, later) = (self.queues.next_retry(), self.queues.next_later());
        [retry, later, stall, Some(self.spoke + HEARTBEAT)].into_iter().flatten().min()
    }

    pub(super) fn lag(&self, now: Time, stream: StreamId) -> StreamLag {
        let walking = self.copying().map(|walk| walk.since).min();
        let oldest = self.dirty.oldest().into_iter().chain(walking).min();
        StreamLag {
            stream,
            connected: self.connection.is_some(),
            position: self.position,
            acknowledged: self.acknowledged,
            nacks: self.nacks,
            unacknowledged: self.dirty.len(),
            oldest: oldest.map_or(Duration::ZERO, |since| now.since(since)),
            walks: self.copying().count(),
            walking: walking.map_or(Duration::ZERO, |at| now.since(at)),
            walk_records: self.walked.sent,
            walk_confirmed: self.walked.confirmed,
            walk_backlog: self.queues.walk_len(),
            records: self.records,
        }
    }
}
