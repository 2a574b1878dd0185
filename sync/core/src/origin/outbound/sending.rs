//! Turning what waits into messages.

use std::collections::BTreeMap;

use lockstep_model::flow::FlowChange;
use lockstep_model::ids::{Epoch, GroupId};

use super::Outbound;
use super::queues::{Item, Place};
use crate::limits::{LIVE_BEFORE_WALK, MAX_BATCH_RECORDS};
use crate::message::Down;
use crate::origin::{OriginCounters, Ownership};
use crate::time::Time;

impl Outbound {
    /// The next message, within the peer's credit.
    pub(in crate::origin) fn next_message(
        &mut self,
        now: Time,
        groups: &BTreeMap<GroupId, Ownership>,
        counters: &mut OriginCounters,
    ) -> Option<Down> {
        let mut batch: Option<(GroupId, Epoch, Vec<FlowChange>)> = None;
        while (self.sent.len() as u64) < self.credit {
            if batch.as_ref().is_some_and(|(.., changes)| changes.len() >= MAX_BATCH_RECORDS) {
                break;
            }
            // What ends a batch is taken by the next message.
            let Some((place, item)) = self.peeked.take().or_else(|| self.queues.pop(LIVE_BEFORE_WALK)) else {
                break;
            };
            if let Item::AuditBegin(round) | Item::AuditEnd(round) = item {
                if self.audit_stage(round).is_none() {
                    continue;
                }
                if batch.is_some() {
                    self.peeked = Some((place, item));
                    break;
                }
                let position = self.take_position(now, item);
                return self.audit_marker(item, position);
            }
            let (group, change) = match item {
                Item::Record(slot) => match self.dirty.get(slot) {
                    Some(dirty) if dirty.place == place => (dirty.change.group(), Some(&dirty.change)),
                    _ => continue,
                },
                Item::Begin(group, walk) | Item::End(group, walk) if self.walking(group, walk) => {
                    (group, None)
                }
                Item::Begin(..) | Item::End(..) | Item::AuditBegin(_) | Item::AuditEnd(_) => continue,
            };
            let Some(epoch) = groups.get(&group).map(|g| g.epoch) else { continue };
            let fits = match (&batch, change) {
                (None, _) => true,
                (Some((held, ..)), Some(_)) => *held == group,
                (Some(_), None) => false,
            };
            if !fits {
                self.peeked = Some((place, item));
                break;
            }
            let change = change.cloned();
            let position = self.take_position(now, item);
            match (item, change) {
                (Item::Record(slot), Some(change)) => {
                    let (.., changes) = batch.get_or_insert_with(|| (group, epoch, Vec::new()));
                    changes.push(change);
                    self.note_change(slot);
                    let dirty = self.dirty.get_mut(slot).expect("looked up above");
                    dirty.place = Place::Sent(position);
                    self.walked.sent += u64::from(dirty.walked);
                }
                (Item::Begin(_, walk), _) => {
                    self.walk_begun(group, position);
                    let purpose = self.purpose(group).expect("an open walk's");
                    return Some(Down::WalkBegin { group, epoch, walk, purpose, position });
                }
                (Item::End(_, walk), _) => return Some(Down::WalkEnd { group, epoch, walk, position }),
                _ => unreachable!("a record has a change, and markers of rounds were sent above"),
            }
        }
        let (group, epoch, changes) = batch?;
        counters.records_sent += changes.len() as u64;
        self.records += changes.len() as u64;
        Some(Down::Batch { group, epoch, position: self.position, changes })
    }

    fn take_position(&mut self, now: Time, item: Item) -> u64 {
        if self.sent.is_empty() {
            self.progress = now;
        }
        self.position += 1;
        self.spoke = now;
        self.sent.push(self.position, item);
        self.position
    }
}
