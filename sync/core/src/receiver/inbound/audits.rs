//! A stream's part in a round of digests, as the subscriber holds it.

use std::collections::{BTreeMap, BTreeSet};

use lockstep_model::flow::{FlowChange, FlowKey};
use lockstep_model::limits::MAX_GROUPS;

use super::Inbound;
use crate::audit::{Comparison, Digest, Found, MAX_BITS, RoundId, Seed, Sums, Suspect};
use crate::limits::{MAX_AUDIT_CHANGES, MAX_AUDIT_RECORDS, MAX_SUSPECTS};

/// A round, from its begin marker on.
#[derive(Debug)]
pub(in crate::receiver) struct Audit {
    pub(in crate::receiver) round: RoundId,
    /// The streams of this origin that take part.
    pub(in crate::receiver) shards: u32,
    seed: Seed,
    /// Position of the begin marker.
    begun: u64,
    /// Hashes of flows told between the markers …
    changed: Vec<u64>,
    /// … and since.
    later: BTreeSet<u64>,
    /// This node's table is being read, or was.
    asked: bool,
    /// It was read.
    listed: bool,
    ended: bool,
    digest: Digest,
}

/// What differed in the last round.
#[derive(Debug, Default)]
pub(super) struct Differed {
    suspects: Vec<Suspect>,
    flows: BTreeMap<FlowKey, (u64, u64)>,
}

/// What to compare: the round, what the origin said, what changed meanwhile.
type ToCompare = (RoundId, Digest, Vec<u64>);

impl Inbound {
    pub(in crate::receiver) fn begin_audit(&mut self, round: RoundId, shards: u32, begun: u64) {
        let Some(seed) = self.session.map(Seed::new) else { return };
        self.audit = Some(Audit {
            round,
            shards,
            seed,
            begun,
            changed: Vec::new(),
            later: BTreeSet::new(),
            asked: false,
            listed: false,
            ended: false,
            digest: Digest::default(),
        });
    }

    /// The origin told of these.
    pub(in crate::receiver) fn note_changes(&mut self, changes: &[FlowChange]) {
        let Some(audit) = &mut self.audit else { return };
        let hashes = changes.iter().map(|change| audit.seed.key(change.key()));
        if audit.ended {
            audit.later.extend(hashes);
        } else {
            audit.changed.extend(hashes);
        }
        if audit.changed.len() + audit.later.len() > MAX_AUDIT_CHANGES {
            self.audit = None;
        }
    }

    /// Whether everything before the round's begin marker is in the kernel.
    pub(in crate::receiver) fn audit_settled(&self, round: RoundId) -> bool {
        self.auditing(round).is_some_and(|audit| !audit.listed && self.handled >= audit.begun)
    }

    /// This node's table is read for the round: once, or two streams whose rounds differ would take turns for ever.
    pub(in crate::receiver) fn ask_once(&mut self, round: RoundId) {
        if let Some(audit) = self.audit.as_mut().filter(|audit| audit.round == round) {
            audit.asked = true;
        }
    }

    /// A round that waits for a reading of this node's table, and the streams that take part.
    pub(in crate::receiver) fn unread_round(&self) -> Option<(RoundId, u32)> {
        self.audit.as_ref().filter(|audit| !audit.asked).map(|audit| (audit.round, audit.shards))
    }

    pub(in crate::receiver) fn audit_listed(&mut self, round: RoundId) -> bool {
        let settled = self.audit_settled(round);
        if let Some(audit) = self.audit.as_mut().filter(|_| settled) {
            audit.listed = true;
        }
        settled
    }

    /// What is behind this is not compared. A round that ends before this node has read its table is none.
    pub(in crate::receiver) fn end_audit(&mut self, round: RoundId) {
        match self.audit.as_mut().filter(|audit| audit.round == round) {
            Some(audit) if audit.listed => audit.ended = true,
            Some(_) => self.audit = None,
            None => {}
        }
    }

    fn said(&mut self, round: RoundId) -> Option<&mut Digest> {
        let audit = self.audit.as_mut().filter(|audit| audit.round == round && audit.ended)?;
        Some(&mut audit.digest)
    }

    pub(in crate::receiver) fn audit_sums(&mut self, round: RoundId, sums: Sums) -> Result<(), &'static str> {
        if sums.bits > MAX_BITS || sums.sums.len() != 1 << sums.bits {
            return Err("a digest with another number of buckets than it says");
        }
        let Some(digest) = self.said(round) else { return Ok(()) };
        if digest.sums.len() >= MAX_GROUPS {
            return Err("digests of more groups than a cluster can have");
        }
        digest.sums.push(sums);
        Ok(())
    }

    pub(in crate::receiver) fn audit_records(
        &mut self,
        round: RoundId,
        changes: Vec<FlowChange>,
    ) -> Result<(), &'static str> {
        let Some(digest) = self.said(round) else { return Ok(()) };
        if digest.records.len() + digest.unsure.len() > 2 * MAX_AUDIT_RECORDS {
            return Err("more flows of a digest than it may have");
        }
        for change in changes {
            match change {
                FlowChange::Upsert(record) => digest.records.push(record),
                FlowChange::Remove { key, group, .. } => digest.unsure.push((group, key)),
            }
        }
        Ok(())
    }

    pub(in crate::receiver) fn audit_said(
        &mut self,
        round: RoundId,
        suspects: Vec<Suspect>,
    ) -> Result<Option<ToCompare>, &'static str> {
        if suspects.len() > MAX_SUSPECTS {
            return Err("more suspects than a round may have");
        }
        let Some(audit) = self.audit.as_mut().filter(|audit| audit.round == round && audit.ended) else {
            return Ok(None);
        };
        let mut digest = std::mem::take(&mut audit.digest);
        digest.suspects = suspects;
        Ok(Some((round, digest, std::mem::take(&mut audit.changed))))
    }

    /// What has diverged: the same difference was found twice, and nothing was told of the flow since. What differs is kept
    /// for the next round.
    pub(in crate::receiver) fn compared(
        &mut self,
        round: RoundId,
        comparison: &mut Comparison,
    ) -> Option<Vec<Found>> {
        let audit = self.audit.take_if(|audit| audit.round == round)?;
        let before = std::mem::take(&mut self.differed).flows;
        let mut diverged = Vec::new();
        let mut flows = BTreeMap::new();
        for found in comparison.found.drain(..) {
            let key = *found.repair.key();
            if audit.later.contains(&audit.seed.key(&key)) {
                continue;
            }
            if before.get(&key) == Some(&found.contents) {
                diverged.push(found);
            } else {
                flows.insert(key, found.contents);
            }
        }
        self.differed = Differed { suspects: comparison.suspects.clone(), flows };
        Some(diverged)
    }

    pub(in crate::receiver) fn auditing(&self, round: RoundId) -> Option<&Audit> {
        self.audit.as_ref().filter(|audit| audit.round == round)
    }

    /// Buckets that are to be said in full.
    pub(in crate::receiver) fn suspects(&self) -> &[Suspect] {
        &self.differed.suspects
    }

    pub(in crate::receiver) fn seed(&self) -> Option<Seed> {
        self.session.map(Seed::new)
    }
}
