//! The walks of a stream.

use lockstep_model::flow::{FlowChange, FlowRecord};
use lockstep_model::ids::{GroupId, LogIndex};

use super::queues::{Item, Place};
use super::{Outbound, Walked, rank};
use crate::limits::REMOVE_LATER;
use crate::message::{Purpose, WalkId};
use crate::origin::OriginCounters;
use crate::time::Time;

/// A walk of one group, from the need until its end is acknowledged.
#[derive(Debug)]
pub(super) struct Walk {
    purpose: Purpose,
    phase: Phase,
    /// It is needed once more: something was lost after it began.
    again: Option<Time>,
    /// Since when it is needed.
    pub(super) since: Time,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Waits for a pass.
    Needed,
    /// A pass serves it, or has.
    Open { id: WalkId, begin: Begin },
}

/// Where a walk's begin marker is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Begin {
    /// In the live queue, with this ticket.
    Queued(u64),
    /// Sent at this position.
    Sent(u64),
}

impl Walk {
    /// Whether the table is read for it.
    fn reads(&self) -> bool {
        self.purpose.mentions()
    }

    /// Whether it is to begin. Those that are not for failures have time, and do not hold up those that are.
    fn is_due(&self, now: Time, reads: bool) -> bool {
        let may = if self.reads() { reads } else { now >= self.since + REMOVE_LATER };
        may && self.phase == Phase::Needed
    }

    /// The stream went down in the middle of it.
    pub(super) fn interrupt(&mut self) {
        self.phase = Phase::Needed;
        self.again = None;
    }
}

impl Outbound {
    /// Whatever the peer holds of a group and is on its way counts no more.
    pub(in crate::origin) fn begin_anew(&mut self, now: Time, group: GroupId, purpose: Purpose) {
        self.forget_group(group);
        self.cancel_audit();
        if !purpose.mentions() && !self.removes {
            return;
        }
        if self.walks.is_empty() {
            self.walked = Walked::default();
        }
        let walk = Walk { purpose, phase: Phase::Needed, again: None, since: now };
        self.walks.insert(group, walk);
    }

    /// Something may be missing at a peer that holds the group since then.
    pub(in crate::origin) fn need_walk(&mut self, now: Time, group: GroupId, since: LogIndex) {
        if self.walks.is_empty() {
            self.walked = Walked::default();
        }
        self.cancel_audit();
        let walk = self.walks.entry(group).or_insert(Walk {
            purpose: Purpose::Hold(since),
            phase: Phase::Needed,
            again: None,
            since: now,
        });
        if walk.phase != Phase::Needed {
            walk.again.get_or_insert(now);
        }
    }

    pub(in crate::origin) fn cancel_walk(&mut self, group: GroupId) {
        self.walks.remove(&group);
    }

    /// Begins every walk that is due, if the stream is up. Those that need a pass.
    pub(in crate::origin) fn begin_walks(
        &mut self,
        now: Time,
        ids: &mut u64,
        reads: bool,
    ) -> Vec<(GroupId, WalkId)> {
        if self.connection.is_none() {
            return Vec::new();
        }
        let mut begun = Vec::new();
        for (&group, walk) in self.walks.iter_mut().filter(|(_, walk)| walk.is_due(now, reads)) {
            *ids += 1;
            let id = WalkId(*ids);
            self.queues.push_live(Item::Begin(group, id));
            walk.phase = Phase::Open { id, begin: Begin::Queued(self.queues.last_ticket()) };
            if walk.reads() {
                begun.push((group, id));
            } else {
                self.queues.push_walk(Item::End(group, id));
            }
        }
        begun
    }

    /// What a walk is for.
    pub(super) fn purpose(&self, group: GroupId) -> Option<Purpose> {
        self.walks.get(&group).map(|walk| walk.purpose)
    }

    /// Walks that the peer needs to hold what it should.
    pub(super) fn copying(&self) -> impl Iterator<Item = &Walk> {
        self.walks.values().filter(|walk| walk.reads())
    }

    pub(super) fn walk_begun(&mut self, group: GroupId, position: u64) {
        if let Some(Walk { phase: Phase::Open { begin, .. }, .. }) = self.walks.get_mut(&group) {
            *begin = Begin::Sent(position);
        }
    }

    /// A pass found `record`: it is sent between the walk's markers, in its newest version.
    pub(in crate::origin) fn mention(
        &mut self,
        now: Time,
        walk: WalkId,
        record: &FlowRecord,
        counters: &mut OriginCounters,
    ) {
        let Some(Walk { phase: Phase::Open { id, begin }, .. }) = self.walks.get(&record.group) else {
            return;
        };
        if *id != walk {
            return;
        }
        let begin = *begin;
        let change = FlowChange::Upsert(record.clone());
        let queues = &mut self.queues;
        let Some(slot) = self.dirty.find(&record.key) else {
            self.dirty.insert(now, change, true, |slot| queues.push_walk(Item::Record(slot)));
            return;
        };
        let dirty = self.dirty.get_mut(slot).expect("found above");
        let newer = rank(&change) > rank(&dirty.change);
        if newer {
            dirty.change = change;
        }
        let mentioned = match (dirty.place, begin) {
            (Place::Walk(_), _) | (Place::Live(_), Begin::Sent(_)) => true,
            (Place::Live(ticket), Begin::Queued(begin)) => ticket > begin,
            (Place::Sent(position), Begin::Sent(begin)) => position > begin && !newer,
            (Place::Sent(_), Begin::Queued(_)) | (Place::Later { .. } | Place::Retry(_), _) => false,
        };
        if mentioned {
            counters.superseded += u64::from(newer);
        } else {
            dirty.place = queues.push_walk(Item::Record(slot));
        }
    }

    /// The pass is over: what it mentioned is followed by the end marker.
    pub(in crate::origin) fn end_walk(&mut self, group: GroupId, walk: WalkId) {
        if self.walking(group, walk) {
            self.queues.push_walk(Item::End(group, walk));
        }
    }

    /// The pass failed: another one will serve the walk.
    pub(in crate::origin) fn restart_walk(&mut self, group: GroupId, walk: WalkId) {
        if self.walking(group, walk)
            && let Some(walk) = self.walks.get_mut(&group)
        {
            walk.interrupt();
        }
    }

    /// The end marker was acknowledged. Whether that ended an open walk.
    pub(super) fn walk_acknowledged(&mut self, group: GroupId, id: WalkId) -> bool {
        if !self.walking(group, id) {
            return false;
        }
        if let Some(Walk { purpose, again: Some(since), .. }) = self.walks.remove(&group) {
            self.walks.insert(group, Walk { purpose, phase: Phase::Needed, again: None, since });
        }
        true
    }

    /// Whether this walk of `group` is open.
    pub(in crate::origin) fn walking(&self, group: GroupId, walk: WalkId) -> bool {
        self.walks.get(&group).is_some_and(|w| matches!(w.phase, Phase::Open { id, .. } if id == walk))
    }

    /// Whether a walk waits for a pass that could serve it.
    pub(in crate::origin) fn needs_pass(&self) -> bool {
        self.connection.is_some() && self.copying().any(|walk| walk.phase == Phase::Needed)
    }

    pub(in crate::origin) fn walk_backlog(&self) -> usize {
        self.queues.walk_len()
    }
}
