//! One stream of one origin: what was received, what is in the kernel, and what was refused.

mod audits;

use std::collections::{BTreeMap, VecDeque};

use lockstep_model::flow::{FlowKey, FlowOp, WriteOutcome};
use lockstep_model::ids::{Epoch, GroupId, LogIndex};

use audits::{Audit, Differed};

use super::WorkId;
use super::counters::ReceiverCounters;
use crate::limits::WINDOW;
use crate::message::{Connection, Nack, NackReason, Purpose, Session, WalkId};
use crate::time::Time;

/// A walk between its markers.
#[derive(Debug, Clone, Copy)]
pub(super) struct OpenWalk {
    pub(super) walk: WalkId,
    pub(super) epoch: Epoch,
    pub(super) purpose: Purpose,
    pub(super) mark: u32,
}

/// What the shell is asked to do for a stream.
#[derive(Debug)]
pub(super) enum Work {
    /// Positions `first..=last`.
    Write { first: u64, last: u64, group: GroupId, mark: u32 },
    /// The end marker at `position`.
    Sweep { position: u64, group: GroupId, epoch: Epoch, mark: u32, purpose: Purpose },
    /// Nothing, but it may be acknowledged only after what came before it.
    Nothing { position: u64, nacks: Vec<Nack> },
}

#[derive(Debug)]
struct Pending {
    id: Option<WorkId>,
    work: Work,
    done: bool,
    nacks: Vec<Nack>,
}

/// What this node had of a group and shard.
#[derive(Debug, Clone, Copy)]
pub(super) struct Complete {
    /// Everything of this epoch …
    pub(super) epoch: Epoch,
    /// … as a replica since then …
    pub(super) since: LogIndex,
    /// … when its walk ended, or the origin was last heard.
    pub(super) at: Time,
}

#[derive(Debug, Default)]
pub(super) struct Inbound {
    pub(super) connection: Option<Connection>,
    /// The session `received` and `handled` belong to.
    session: Option<Session>,
    welcomed: bool,
    /// The last position received.
    received: u64,
    /// Everything up to here is in the kernel or was refused.
    handled: u64,
    acknowledged: Option<u64>,
    pending: VecDeque<Pending>,
    nacks: Vec<Nack>,
    /// Flows whose last write was refused, with their group and the mark of that time.
    refused: BTreeMap<FlowKey, (GroupId, u32)>,
    walks: BTreeMap<GroupId, OpenWalk>,
    /// The last walk that ended, by group.
    complete: BTreeMap<GroupId, Complete>,
    /// What was complete in an earlier session, and when the origin was last heard in it; until a walk of this one ends.
    former: BTreeMap<GroupId, Complete>,
    audit: Option<Audit>,
    /// Of the last round of digests.
    differed: Differed,
    /// When the origin was last heard.
    pub(super) alive: Time,
    /// When it was last heard before this life of the stream.
    alive_before: Time,
}

impl Inbound {
    /// A new life of the stream. What Hello says.
    pub(super) fn connect(&mut self, connection: Connection) -> (Option<Session>, u64) {
        if let Some(old) = self.connection {
            self.disconnect(old);
        }
        self.connection = Some(connection);
        self.alive_before = self.alive;
        self.welcomed = false;
        // A refusal may not have reached the origin, which would then never send the record again.
        if !self.refused.is_empty() || !self.nacks.is_empty() {
            self.forget_session();
        }
        // Writes still under way stay under way: they are sent again, behind this position.
        (self.session, self.handled)
    }

    pub(super) fn disconnect(&mut self, connection: Connection) {
        if self.connection == Some(connection) {
            self.connection = None;
            self.walks.clear();
            self.audit = None;
        }
    }

    /// The stream will begin with a walk.
    pub(super) fn forget_session(&mut self) {
        self.session = None;
        self.nacks.clear();
    }

    pub(super) fn welcome(
        &mut self,
        session: Session,
        resumed: bool,
        position: u64,
    ) -> Result<(), &'static str> {
        if self.welcomed {
            return Err("a second Welcome");
        }
        if resumed && self.session != Some(session) {
            return Err("resumed a session that was not asked for");
        }
        if !resumed {
            self.differed = Differed::default();
            // Until its walk ends, nobody knows what is missing here since then.
            let before = self.alive_before;
            let complete = std::mem::take(&mut self.complete).into_iter();
            self.former.extend(complete.map(|(group, known)| (group, Complete { at: before, ..known })));
        }
        self.welcomed = true;
        self.session = Some(session);
        self.received = position;
        self.handled = position;
        self.acknowledged = None;
        // What is under way was received before, under positions that no longer count.
        for pending in &mut self.pending {
            pending.work.forget_positions(resumed);
            pending.nacks.clear();
        }
        Ok(())
    }

    /// Whether the message that ends at `position` is the next one; a duplicate is not, a gap is an error.
    pub(super) fn advance(
        &mut self,
        position: u64,
        count: u64,
        counters: &mut ReceiverCounters,
    ) -> Result<bool, &'static str> {
        if !self.welcomed {
            return Err("a message before Welcome");
        }
        if position <= self.received {
            counters.duplicates += 1;
            return Ok(false);
        }
        if position - self.received != count {
            return Err("a gap in the positions");
        }
        if position - self.handled > 2 * WINDOW {
            return Err("more than the credit allows");
        }
        self.received = position;
        Ok(true)
    }

    pub(super) fn push(&mut self, id: WorkId, work: Work) {
        self.pending.push_back(Pending { id: Some(id), work, done: false, nacks: Vec::new() });
    }

    pub(super) fn push_done(&mut self, position: u64, nacks: Vec<Nack>) {
        let work = Work::Nothing { position, nacks };
        self.pending.push_back(Pending { id: None, work, done: true, nacks: Vec::new() });
    }

    /// A write of `ops` has finished.
    pub(super) fn written(&mut self, id: WorkId, ops: &[FlowOp], outcomes: &[WriteOutcome]) {
        let Some(pending) = self.pending.iter_mut().find(|p| p.id == Some(id)) else { return };
        pending.done = true;
        let Work::Write { first, group, mark, .. } = &pending.work else { return };
        let keys = ops.iter().map(|op| op.change.key());
        for (index, (key, outcome)) in keys.zip(outcomes).enumerate() {
            let reason = match outcome {
                WriteOutcome::Applied | WriteOutcome::Stale => {
                    self.refused.remove(key);
                    continue;
                }
                WriteOutcome::Full => NackReason::Full,
                WriteOutcome::UnknownGroup => NackReason::UnknownGroup,
                WriteOutcome::Failed(_) => NackReason::Failed,
            };
            self.refused.insert(*key, (*group, *mark));
            if *first > 0 {
                pending.nacks.push(Nack { position: first + index as u64, reason });
            }
        }
    }

    /// A sweep has finished: so has its walk. What it was of, unless the walk says nothing any more.
    pub(super) fn swept(&mut self, now: Time, id: WorkId) -> Option<(GroupId, Purpose)> {
        let pending = self.pending.iter_mut().find(|p| p.id == Some(id))?;
        pending.done = true;
        let Work::Sweep { group, epoch, mark, purpose, .. } = pending.work else { return None };
        self.former.remove(&group);
        match purpose {
            Purpose::Hold(since) => drop(self.complete.insert(group, Complete { epoch, since, at: now })),
            Purpose::Remove(_) => drop(self.complete.remove(&group)),
        }
        // Refused before the walk and not again during it: written since, or gone.
        self.refused.retain(|_, (held, at)| *held != group || *at == mark);
        Some((group, purpose))
    }

    /// A sweep could not be done: its walk never ended, and the stream begins anew.
    pub(super) fn sweep_failed(&mut self, id: WorkId) {
        if let Some(pending) = self.pending.iter_mut().find(|p| p.id == Some(id)) {
            pending.done = true;
            pending.work = Work::Nothing { position: 0, nacks: Vec::new() };
        }
        self.forget_session();
    }

    /// What can be acknowledged now and was not yet. Several batches make one acknowledgement.
    pub(super) fn acknowledgement(&mut self) -> Option<(u64, Vec<Nack>)> {
        while self.pending.front().is_some_and(|p| p.done) {
            let mut pending = self.pending.pop_front().expect("looked at above");
            self.nacks.append(&mut pending.nacks);
            match pending.work {
                Work::Write { last, .. } => self.handled = self.handled.max(last),
                Work::Sweep { position, .. } => self.handled = self.handled.max(position),
                Work::Nothing { position, mut nacks } => {
                    self.handled = self.handled.max(position);
                    self.nacks.append(&mut nacks);
                }
            }
        }
        let due = self.connection.is_some() && self.welcomed && self.acknowledged < Some(self.handled);
        due.then(|| {
            self.acknowledged = Some(self.handled);
            (self.handled, std::mem::take(&mut self.nacks))
        })
    }

    /// Whether [`Self::acknowledgement`] has one.
    pub(super) fn owes_acknowledgement(&self) -> bool {
        let written = self.pending.front().is_some_and(|p| p.done) || self.acknowledged < Some(self.handled);
        self.connection.is_some() && self.welcomed && written
    }

    pub(super) fn begin_walk(&mut self, group: GroupId, walk: OpenWalk) {
        self.walks.insert(group, walk);
    }

    pub(super) fn take_walk(&mut self, group: GroupId) -> Option<OpenWalk> {
        self.walks.remove(&group)
    }

    pub(super) fn abandon_walk(&mut self, group: GroupId) {
        self.walks.remove(&group);
    }

    pub(super) fn forget_group(&mut self, group: GroupId) {
        self.walks.remove(&group);
        self.complete.remove(&group);
        self.former.remove(&group);
        self.refused.retain(|_, (held, _)| *held != group);
    }

    pub(super) fn is_walking(&self, group: GroupId) -> bool {
        self.walks.contains_key(&group)
    }

    pub(super) fn refused_len(&self) -> usize {
        self.refused.len()
    }

    pub(super) fn positions(&self) -> (u64, u64) {
        (self.received, self.handled)
    }

    pub(super) fn open_walks(&self) -> usize {
        self.walks.len()
    }

    pub(super) fn has_refused(&self, group: GroupId) -> bool {
        self.refused.values().any(|(held, _)| *held == group)
    }

    pub(super) fn complete(&self, group: GroupId) -> Option<Complete> {
        self.complete.get(&group).copied()
    }

    /// What was complete, and until when: now, if it still is.
    pub(super) fn once_complete(&self, group: GroupId) -> Option<Complete> {
        let complete = self.complete.get(&group).map(|known| Complete { at: self.alive, ..*known });
        complete.or_else(|| self.former.get(&group).copied())
    }
}

impl Work {
    fn forget_positions(&mut self, resumed: bool) {
        match self {
            Work::Write { first, last, .. } => (*first, *last) = (0, 0),
            // A walk of the same session did end; one of another session says nothing any more.
            Work::Sweep { position, .. } if resumed => *position = 0,
            Work::Sweep { .. } | Work::Nothing { .. } => {
                *self = Work::Nothing { position: 0, nacks: Vec::new() }
            }
        }
    }
}
