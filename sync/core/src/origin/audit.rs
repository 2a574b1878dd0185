//! Rounds of digests, as the origin holds them; see [`crate::audit`].
//!
//! ```text
//! begin markers queued ─► all sent: read the table ─► read, and a subscriber is ready: its end marker queued
//!                              ─► sent: digest ─► said ─► result
//! ```

use std::collections::BTreeMap;
use std::sync::Arc;

use lockstep_model::flow::FlowChange;
use lockstep_model::ids::{Epoch, GroupId, NodeId};

use super::outbound::AuditStage;
use super::replicas::{Replicas, since};
use super::{Origin, OriginOutput};
use crate::audit::{Digest, DigestJob, Listing, RoundId, Seed, Suspect};
use crate::limits::{AUDIT_AGAIN, AUDIT_LIMIT, AUDIT_PAUSE, AUDIT_RETRY, MAX_BATCH_RECORDS, MAX_SUSPECTS};
use crate::message::{Down, StreamId};
use crate::time::Time;

/// All rounds.
#[derive(Debug, Default)]
pub(super) struct Audits {
    round: Option<Round>,
    rounds: u64,
    not_before: Time,
    /// What differed in the last round.
    suspects: BTreeMap<StreamId, Vec<Suspect>>,
}

#[derive(Debug)]
struct Round {
    id: RoundId,
    begun: Time,
    /// Owned when it began; what changes hands meanwhile gets a walk, which ends the round for its streams.
    owned: Vec<(GroupId, Epoch)>,
    parts: BTreeMap<StreamId, Part>,
    reading: Reading,
}

/// A stream that takes part.
#[derive(Debug, Default)]
struct Part {
    /// The subscriber has read its table.
    ready: bool,
    /// The digest was asked for.
    asked: bool,
    suspects: Vec<Suspect>,
}

#[derive(Debug)]
enum Reading {
    NotYet,
    Asked,
    Done(Arc<Listing>),
}

impl Origin {
    /// Does what is due of a round. (A connected stream has a heartbeat, so this is called often enough.)
    pub(super) fn audit(&mut self, now: Time) {
        let Some(mut round) = self.audits.round.take() else {
            self.begin_round(now);
            return;
        };
        let before = round.parts.len();
        let stage = |streams: &BTreeMap<_, super::Outbound>, stream: &StreamId| {
            streams.get(stream).and_then(|outbound| outbound.audit_stage(round.id))
        };
        round.parts.retain(|stream, _| stage(&self.streams, stream).is_some());
        let lost = before - round.parts.len();
        self.counters.audits_abandoned += lost as u64;
        // A subscriber waits for the begin markers of all its streams.
        let broken = lost > 0 && matches!(round.reading, Reading::NotYet);
        if broken || round.parts.is_empty() || now >= round.begun + AUDIT_LIMIT {
            self.counters.audits_abandoned += round.parts.len() as u64;
            self.end_round(now, &round);
            return;
        }
        let all_open = round.parts.keys().all(|s| stage(&self.streams, s) != Some(AuditStage::Beginning));
        match &round.reading {
            Reading::NotYet if all_open => {
                let suspects = round.parts.values().flat_map(|part| part.suspects.iter().copied()).collect();
                let seed = Seed::new(self.session);
                self.outputs.push_back(OriginOutput::List { round: round.id, seed, suspects });
                round.reading = Reading::Asked;
            }
            Reading::NotYet | Reading::Asked => {}
            Reading::Done(listing) => {
                for (&stream, part) in &mut round.parts {
                    let Some(outbound) = self.streams.get_mut(&stream) else { continue };
                    match outbound.audit_stage(round.id) {
                        Some(AuditStage::Open) if part.ready => outbound.end_audit(round.id),
                        Some(AuditStage::Closed) if !part.asked => {
                            part.asked = true;
                            // What waits to be old enough is in this kernel only.
                            let young = self.young.of_shard(stream.shard);
                            let young = young.map(|(_, key)| Seed::new(self.session).key(key));
                            let mut changed = outbound.take_changed();
                            changed.extend(young);
                            self.outputs.push_back(OriginOutput::Digest(DigestJob {
                                stream,
                                round: round.id,
                                listing: listing.clone(),
                                owned: told(&round.owned, &self.replicas, stream.peer),
                                changed,
                                suspects: part.suspects.clone(),
                            }));
                        }
                        _ => {}
                    }
                }
            }
        }
        self.audits.round = Some(round);
    }

    fn begin_round(&mut self, now: Time) {
        if now < self.audits.not_before {
            return;
        }
        let owned = self.owned();
        let holds_some = |peer| owned.iter().any(|(group, _)| since(&self.replicas, *group, peer).is_some());
        let fit = self.streams.iter().filter(|(id, stream)| stream.can_audit() && holds_some(id.peer));
        let fit: Vec<StreamId> = fit.map(|(stream, _)| *stream).collect();
        if owned.is_empty() || fit.is_empty() {
            return;
        }
        self.audits.rounds += 1;
        self.counters.audits += 1;
        let (id, seed) = (RoundId(self.audits.rounds), Seed::new(self.session));
        let mut parts = BTreeMap::new();
        for &stream in &fit {
            let same = fit.iter().filter(|other| other.peer == stream.peer);
            let shards = same.fold(0, |shards, other| shards | 1 << other.shard);
            let outbound = self.streams.get_mut(&stream).expect("it was found there");
            outbound.begin_audit(id, seed, shards);
            let suspects = self.audits.suspects.remove(&stream).unwrap_or_default();
            parts.insert(stream, Part { suspects, ..Part::default() });
        }
        self.audits.round = Some(Round { id, begun: now, owned, parts, reading: Reading::NotYet });
    }

    fn end_round(&mut self, now: Time, round: &Round) {
        for (stream, part) in &round.parts {
            if let Some(outbound) = self.streams.get_mut(stream) {
                outbound.cancel_audit();
            }
            // They are still to be said.
            if !part.suspects.is_empty() {
                self.audits.suspects.insert(*stream, part.suspects.clone());
            }
        }
        let pause = match self.audits.suspects.is_empty() {
            _ if !round.parts.is_empty() => AUDIT_RETRY,
            true => AUDIT_PAUSE,
            false => AUDIT_AGAIN,
        };
        self.audits.not_before = now + pause;
    }

    /// This node's table was read for the round, and every change that the kernel made before that was handed over.
    pub fn handle_listed(&mut self, id: RoundId, listing: Listing) {
        if let Some(round) = self.audits.round.as_mut().filter(|round| round.id == id) {
            round.reading = Reading::Done(Arc::new(listing));
        }
    }

    /// This node's table could not be read for the round.
    pub fn handle_list_failed(&mut self, now: Time, id: RoundId) {
        if let Some(round) = self.audits.round.take_if(|round| round.id == id) {
            self.counters.audits_abandoned += round.parts.len() as u64;
            self.end_round(now, &round);
        }
    }

    /// The digest that was asked for.
    pub fn handle_digest(&mut self, stream: StreamId, round: RoundId, digest: Digest) {
        let Some(outbound) = self.streams.get(&stream) else { return };
        let Some(connection) = outbound.connection().filter(|_| outbound.audit_stage(round).is_some()) else {
            return;
        };
        let mut say = |message| {
            self.outputs.push_back(OriginOutput::Send { stream, connection, message });
        };
        digest.sums.into_iter().for_each(|sums| say(Down::AuditSums { round, sums }));
        let mut changes: BTreeMap<GroupId, Vec<FlowChange>> = BTreeMap::new();
        for record in digest.records {
            changes.entry(record.group).or_default().push(FlowChange::Upsert(record));
        }
        // A peer may hold an earlier flow of the same key.
        let seed = Seed::new(self.session);
        let young = self.young.of_shard(stream.shard);
        let young = young.filter(|(group, key)| {
            digest.suspects.iter().any(|suspect| suspect.holds(*group, seed.key(key)))
        });
        let young: Vec<_> = young.map(|(group, key)| (group, *key)).collect();
        for (group, key) in digest.unsure.into_iter().chain(young) {
            let version = Default::default();
            changes.entry(group).or_default().push(FlowChange::Remove { key, group, version });
        }
        for (group, mut changes) in changes {
            while !changes.is_empty() {
                let rest = changes.split_off(changes.len().min(MAX_BATCH_RECORDS));
                say(Down::AuditRecords { round, group, changes });
                changes = rest;
            }
        }
        say(Down::AuditSaid { round, suspects: digest.suspects });
    }

    pub(super) fn audit_ready(&mut self, stream: StreamId, id: RoundId) {
        let round = self.audits.round.as_mut().filter(|round| round.id == id);
        if let Some(part) = round.and_then(|round| round.parts.get_mut(&stream)) {
            part.ready = true;
        }
    }

    pub(super) fn audit_result(
        &mut self,
        now: Time,
        stream: StreamId,
        id: RoundId,
        suspects: Vec<Suspect>,
    ) -> Result<(), &'static str> {
        if suspects.len() > MAX_SUSPECTS {
            return Err("more suspects than a round may have");
        }
        let Some(round) = self.audits.round.as_mut().filter(|round| round.id == id) else { return Ok(()) };
        if round.parts.remove(&stream).is_none() {
            return Ok(());
        }
        if let Some(outbound) = self.streams.get_mut(&stream) {
            outbound.cancel_audit();
        }
        self.counters.audits_done += 1;
        self.counters.audit_suspects += suspects.len() as u64;
        if !suspects.is_empty() {
            self.audits.suspects.insert(stream, suspects);
        }
        if round.parts.is_empty() {
            let round = self.audits.round.take().expect("found above");
            self.end_round(now, &round);
        }
        Ok(())
    }
}

/// Of what is owned, what a peer holds.
fn told(owned: &[(GroupId, Epoch)], replicas: &Replicas, peer: NodeId) -> Vec<(GroupId, Epoch)> {
    owned.iter().copied().filter(|(group, _)| since(replicas, *group, peer).is_some()).collect()
}
