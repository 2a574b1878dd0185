//! A stream's part in a round of digests: between its two markers it notes which flows it tells of.

use super::Outbound;
use super::queues::Item;
use crate::audit::{RoundId, Seed};
use crate::limits::MAX_AUDIT_CHANGES;
use crate::message::Down;

/// From the round's beginning until its result, or until something makes the stream unfit for it.
#[derive(Debug)]
pub(super) struct Audit {
    round: RoundId,
    seed: Seed,
    /// For the begin marker.
    shards: u32,
    pub(super) stage: AuditStage,
    /// Hashes of the flows told between the markers.
    changed: Vec<u64>,
}

/// How far it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::origin) enum AuditStage {
    /// The begin marker waits.
    Beginning,
    /// It was sent.
    Open,
    /// The end marker waits.
    Ending,
    /// It was sent.
    Closed,
}

impl Outbound {
    /// Whether the peer holds everything but what is in the live queue or under way.
    pub(in crate::origin) fn can_audit(&self) -> bool {
        self.connection.is_some() && self.audits && self.walks.is_empty() && !self.queues.has_retries()
    }

    pub(in crate::origin) fn begin_audit(&mut self, round: RoundId, seed: Seed, shards: u32) {
        self.release_later();
        self.queues.push_live(Item::AuditBegin(round));
        let stage = AuditStage::Beginning;
        self.audit = Some(Audit { round, seed, shards, stage, changed: Vec::new() });
    }

    pub(in crate::origin) fn end_audit(&mut self, round: RoundId) {
        self.release_later();
        if let Some(audit) = self.audit.as_mut().filter(|audit| audit.round == round) {
            audit.stage = AuditStage::Ending;
            self.queues.push_live(Item::AuditEnd(round));
        }
    }

    /// What this stream tells next is no part of a round any more.
    pub(in crate::origin) fn cancel_audit(&mut self) {
        self.audit = None;
    }

    pub(in crate::origin) fn audit_stage(&self, round: RoundId) -> Option<AuditStage> {
        self.audit.as_ref().filter(|audit| audit.round == round).map(|audit| audit.stage)
    }

    /// What changed between the markers; once.
    pub(in crate::origin) fn take_changed(&mut self) -> Vec<u64> {
        self.audit.as_mut().map(|audit| std::mem::take(&mut audit.changed)).unwrap_or_default()
    }

    /// A record of the flow that is in `slot` leaves.
    pub(super) fn note_change(&mut self, slot: super::store::Slot) {
        let Some(audit) = &mut self.audit else { return };
        if !matches!(audit.stage, AuditStage::Open | AuditStage::Ending) {
            return;
        }
        if let Some(dirty) = self.dirty.get(slot) {
            audit.changed.push(audit.seed.key(dirty.change.key()));
        }
        if audit.changed.len() > MAX_AUDIT_CHANGES {
            self.audit = None;
        }
    }

    /// The message of a marker that takes `position`.
    pub(super) fn audit_marker(&mut self, item: Item, position: u64) -> Option<Down> {
        let audit = self.audit.as_mut()?;
        let round = audit.round;
        if matches!(item, Item::AuditBegin(_)) {
            audit.stage = AuditStage::Open;
            return Some(Down::AuditBegin { round, shards: audit.shards, position });
        }
        audit.stage = AuditStage::Closed;
        Some(Down::AuditEnd { round, position })
    }
}
