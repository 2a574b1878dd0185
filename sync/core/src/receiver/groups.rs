//! What this node knows of each group: its newest epoch, whether it is ours, and the marks of walks.

use std::collections::BTreeMap;

use lockstep_model::ids::{Epoch, GroupId, LogIndex};
use lockstep_model::limits::MAX_GROUPS;

use crate::limits::TAKEOVER_GRACE;
use crate::time::Time;

/// How a record of some epoch is treated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    /// Of the newest epoch in which an owner has spoken, or of a later one: written if newer than what is held.
    Current,
    /// Of an older epoch, shortly after this node took over: written where nothing is held.
    Grace,
    /// Of an older epoch.
    Refused,
}

#[derive(Debug, Default)]
struct Known {
    /// The newest that is known, from the log as well.
    highest: Epoch,
    /// The newest in which an owner has said anything, or this node. Between a group's next assignment and the next owner's
    /// first word the former one still forwards, and is right.
    spoken: Epoch,
    /// The epoch this node owns it in, and since when.
    owned: Option<(Epoch, Time)>,
    /// The epoch this node owned it in last, until when, and as a replica since when.
    formerly: Option<(Epoch, Time, LogIndex)>,
}

#[derive(Debug)]
pub(super) struct Groups {
    known: BTreeMap<GroupId, Known>,
    marks: BTreeMap<(GroupId, u8), u32>,
    next_mark: u32,
    /// Since when this node is to hold groups.
    memberships: BTreeMap<GroupId, LogIndex>,
    /// Groups and shards that this node was told to remove, and has written nothing of since; whether that is done.
    empty: BTreeMap<(GroupId, u8), bool>,
}

impl Groups {
    pub(super) fn new(first_mark: u32) -> Self {
        Self {
            known: BTreeMap::new(),
            marks: BTreeMap::new(),
            next_mark: first_mark,
            memberships: BTreeMap::new(),
            empty: BTreeMap::new(),
        }
    }

    pub(super) fn learn(&mut self, group: GroupId, epoch: Epoch) -> Result<(), &'static str> {
        if self.known.len() >= MAX_GROUPS && !self.known.contains_key(&group) {
            return Err("more groups than a cluster can have");
        }
        let known = self.known.entry(group).or_default();
        known.highest = known.highest.max(epoch);
        Ok(())
    }

    /// An owner has spoken, in this epoch.
    pub(super) fn hear(&mut self, group: GroupId, epoch: Epoch) -> Result<(), &'static str> {
        self.learn(group, epoch)?;
        let known = self.known.entry(group).or_default();
        known.spoken = known.spoken.max(epoch);
        Ok(())
    }

    pub(super) fn own(&mut self, now: Time, group: GroupId, epoch: Epoch) {
        let known = self.known.entry(group).or_default();
        known.highest = known.highest.max(epoch);
        known.spoken = known.spoken.max(epoch);
        if known.owned.is_none_or(|(held, _)| held != epoch) {
            known.owned = Some((epoch, now));
        }
        self.empty.retain(|(held, _), _| *held != group);
    }

    pub(super) fn disown(&mut self, now: Time, group: GroupId) {
        let since = self.memberships.get(&group).copied();
        if let Some(known) = self.known.get_mut(&group)
            && let Some((epoch, _)) = known.owned.take()
        {
            known.formerly = since.map(|since| (epoch, now, since));
        }
    }

    pub(super) fn forget(&mut self, group: GroupId) {
        self.known.remove(&group);
        self.marks.retain(|(held, _), _| *held != group);
        self.empty.retain(|(held, _), _| *held != group);
    }

    /// A flow of it is written.
    pub(super) fn fill(&mut self, group: GroupId, shard: u8) {
        self.empty.remove(&(group, shard));
    }

    /// Its flows are about to be removed.
    pub(super) fn emptying(&mut self, group: GroupId, shard: u8) {
        self.empty.insert((group, shard), false);
    }

    /// They are.
    pub(super) fn emptied(&mut self, group: GroupId, shard: u8) {
        if let Some(done) = self.empty.get_mut(&(group, shard)) {
            *done = true;
        }
    }

    pub(super) fn is_empty(&self, group: GroupId, shard: u8) -> bool {
        self.empty.get(&(group, shard)) == Some(&true)
    }

    pub(super) fn set_memberships(&mut self, memberships: BTreeMap<GroupId, LogIndex>) {
        self.memberships = memberships;
    }

    pub(super) fn membership(&self, group: GroupId) -> Option<LogIndex> {
        self.memberships.get(&group).copied()
    }

    /// Whether what was received, or made, as a replica since then is what this node is to hold now.
    pub(super) fn counts(&self, group: GroupId, since: LogIndex) -> bool {
        self.memberships.get(&group).is_some_and(|now| since == LogIndex(0) || since == *now)
    }

    /// Whether this node is not to hold the group, by the word of somebody who knows as much of the log.
    pub(super) fn may_remove(&self, group: GroupId, as_of: LogIndex) -> bool {
        self.memberships.get(&group).is_none_or(|since| *since <= as_of)
    }

    /// The mark of the walk that began last; of none, 0.
    pub(super) fn mark(&self, group: GroupId, shard: u8) -> u32 {
        self.marks.get(&(group, shard)).copied().unwrap_or(0)
    }

    pub(super) fn new_mark(&mut self, group: GroupId, shard: u8) -> u32 {
        // 0 is what flows carry that no walk has mentioned.
        self.next_mark = self.next_mark.checked_add(1).unwrap_or(1);
        self.marks.insert((group, shard), self.next_mark);
        self.next_mark
    }

    pub(super) fn standing(&self, now: Time, group: GroupId, epoch: Epoch) -> Standing {
        let Some(known) = self.known.get(&group) else { return Standing::Current };
        match known.owned {
            Some((own, since)) if epoch < own && own == known.highest => {
                if now < since + TAKEOVER_GRACE {
                    Standing::Grace
                } else {
                    Standing::Refused
                }
            }
            // Nobody else can own it in our epoch.
            Some((own, _)) if epoch == own => Standing::Refused,
            _ if epoch < known.spoken => Standing::Refused,
            _ => Standing::Current,
        }
    }

    /// Whether the end of a walk of `epoch` may remove flows: never those of a group that is ours, never by
    /// the word of a former owner. It is not ours any more once another owns it in a later epoch, whose walk may come
    /// before this node's lease thread has said that it closed.
    pub(super) fn may_sweep(&self, group: GroupId, epoch: Epoch) -> bool {
        self.known
            .get(&group)
            .is_some_and(|known| epoch == known.highest && known.owned.is_none_or(|(own, _)| own < epoch))
    }

    pub(super) fn ids(&self) -> Vec<GroupId> {
        self.known.keys().copied().collect()
    }

    pub(super) fn highest(&self, group: GroupId) -> Epoch {
        self.known.get(&group).map_or(Epoch(0), |known| known.highest)
    }

    pub(super) fn formerly(&self, group: GroupId) -> Option<(Epoch, Time)> {
        let (epoch, until, since) = self.known.get(&group)?.formerly?;
        self.counts(group, since).then_some((epoch, until))
    }

    pub(super) fn owned(&self, group: GroupId) -> Option<Epoch> {
        self.known.get(&group).and_then(|known| known.owned).map(|(epoch, _)| epoch)
    }
}
