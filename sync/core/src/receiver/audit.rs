//! Rounds of digests, as a subscriber takes part in them; see [`crate::audit`].

use std::collections::BTreeMap;
use std::sync::Arc;

use lockstep_model::flow::{FlowOp, SHARDS};
use lockstep_model::ids::NodeId;

use super::groups::Standing;
use super::inbound::Work;
use super::{Receiver, ReceiverOutput};
use crate::audit::{CompareJob, Comparison, Difference, Listing, RoundId};
use crate::limits::MAX_BATCH_RECORDS;
use crate::message::{Down, StreamId, Up};
use crate::time::Time;

/// The reading of this node's table that the streams of one origin share.
#[derive(Debug)]
pub(super) struct Reading {
    round: RoundId,
    listing: Option<Arc<Listing>>,
}

pub(super) type Readings = BTreeMap<NodeId, Reading>;

impl Receiver {
    pub(super) fn handle_audit(&mut self, stream: StreamId, message: Down) -> Result<(), &'static str> {
        let inbound = self.streams.get_mut(&stream).expect("looked up by the caller");
        match message {
            Down::AuditBegin { round, shards, position } => {
                if inbound.advance(position, 1, &mut self.counters)? {
                    inbound.push_done(position, Vec::new());
                    inbound.begin_audit(round, shards, position);
                }
                Ok(())
            }
            Down::AuditEnd { round, position } => {
                if inbound.advance(position, 1, &mut self.counters)? {
                    inbound.push_done(position, Vec::new());
                    inbound.end_audit(round);
                }
                Ok(())
            }
            Down::AuditSums { round, sums } => inbound.audit_sums(round, sums),
            Down::AuditRecords { round, changes, .. } => inbound.audit_records(round, changes),
            Down::AuditSaid { round, suspects } => {
                let Some((round, digest, changed)) = inbound.audit_said(round, suspects)? else {
                    return Ok(());
                };
                let reading = self.readings.get(&stream.peer).filter(|reading| reading.round == round);
                if let Some(listing) = reading.and_then(|reading| reading.listing.clone()) {
                    self.outputs.push_back(ReceiverOutput::Compare(CompareJob {
                        stream,
                        round,
                        listing,
                        digest,
                        changed,
                    }));
                }
                Ok(())
            }
            _ => unreachable!("the caller has the others"),
        }
    }

    /// The reading that an origin's round needs, once all of its streams that are up have come to the begin marker.
    pub(super) fn next_reading(&mut self) -> Option<ReceiverOutput> {
        let begun = self.streams.iter().find_map(|(stream, inbound)| {
            let (round, shards) = inbound.unread_round()?;
            (inbound.audit_settled(round) && self.all_settled(stream.peer, round, shards)).then_some((
                stream.peer,
                round,
                inbound.seed()?,
            ))
        });
        let (peer, round, seed) = begun?;
        let of_peer = self.streams.iter_mut().filter(|(stream, _)| stream.peer == peer);
        of_peer.for_each(|(_, inbound)| inbound.ask_once(round));
        self.readings.insert(peer, Reading { round, listing: None });
        let of_peer = self.streams.iter().filter(|(stream, _)| stream.peer == peer);
        let suspects = of_peer.flat_map(|(_, inbound)| inbound.suspects().iter().copied()).collect();
        Some(ReceiverOutput::List { peer, round, seed, suspects })
    }

    fn all_settled(&self, peer: NodeId, round: RoundId, shards: u32) -> bool {
        let part = (0..SHARDS).filter(|shard| shards & (1 << shard) != 0);
        part.filter_map(|shard| self.streams.get(&StreamId { peer, shard }))
            .filter(|inbound| inbound.connection.is_some())
            .all(|inbound| inbound.audit_settled(round))
    }

    /// This node's table was read for `peer`'s round.
    pub fn handle_listed(&mut self, peer: NodeId, round: RoundId, listing: Listing) {
        let Some(reading) = self.readings.get_mut(&peer).filter(|reading| reading.round == round) else {
            return;
        };
        reading.listing = Some(Arc::new(listing));
        for (&stream, inbound) in self.streams.iter_mut().filter(|(stream, _)| stream.peer == peer) {
            if inbound.audit_listed(round)
                && let Some(connection) = inbound.connection
            {
                let message = Up::AuditReady { round };
                self.outputs.push_back(ReceiverOutput::Send { stream, connection, message });
            }
        }
    }

    /// What came of [`ReceiverOutput::Compare`]. What has diverged is written as the owner has it.
    pub fn handle_compared(
        &mut self,
        now: Time,
        stream: StreamId,
        round: RoundId,
        mut comparison: Comparison,
    ) {
        let Some(inbound) = self.streams.get_mut(&stream) else { return };
        let Some(diverged) = inbound.compared(round, &mut comparison) else { return };
        self.counters.audits += 1;
        self.counters.audit_suspects += comparison.differing;
        if let Some(connection) = inbound.connection {
            let message = Up::AuditResult { round, suspects: comparison.suspects };
            self.outputs.push_back(ReceiverOutput::Send { stream, connection, message });
        }
        let mut ops: BTreeMap<_, Vec<FlowOp>> = BTreeMap::new();
        for found in diverged {
            let (group, epoch) = (found.repair.group(), found.epoch);
            let inbound = self.streams.get(&stream).expect("looked up above");
            // Until the origin's walk of this epoch has ended, more is held or less; and what is ours nobody repairs.
            let whole = inbound.complete(group).is_some_and(|known| known.epoch == epoch)
                && !inbound.is_walking(group)
                && self.groups.highest(group) == epoch
                && self.groups.owned(group).is_none()
                && self.groups.standing(now, group, epoch) == Standing::Current;
            if !whole {
                continue;
            }
            match found.difference {
                Difference::Missing => self.counters.divergences_missing += 1,
                Difference::Extra => self.counters.divergences_extra += 1,
                Difference::Changed => self.counters.divergences_changed += 1,
            }
            let mark = self.groups.mark(group, stream.shard);
            let difference = found.difference;
            self.outputs.push_back(ReceiverOutput::Diverged {
                stream,
                group,
                key: *found.repair.key(),
                difference,
            });
            let op = FlowOp { change: found.repair, epoch, mark, only_if_absent: false, repair: true };
            ops.entry(group).or_default().push(op);
        }
        for (group, mut ops) in ops {
            let mark = self.groups.mark(group, stream.shard);
            while !ops.is_empty() {
                let rest = ops.split_off(ops.len().min(MAX_BATCH_RECORDS));
                let work = self.next_work(stream);
                self.groups.fill(group, stream.shard);
                let inbound = self.streams.get_mut(&stream).expect("looked up above");
                inbound.push(work, Work::Write { first: 0, last: 0, group, mark });
                self.outputs.push_back(ReceiverOutput::Write { work, ops });
                ops = rest;
            }
        }
    }
}
