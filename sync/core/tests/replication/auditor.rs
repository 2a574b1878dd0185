//! The thread that reads tables for digests: a few flows at a time, while everything else goes on.

use std::collections::VecDeque;

use lockstep_model::flow::FlowKey;
use lockstep_model::ids::NodeId;
use lockstep_sync_core::audit::{Lister, RoundId};
use lockstep_sync_core::{OriginOutput, ReceiverOutput, Time};

use crate::node::Node;
use crate::rng::Rng;

enum Job {
    /// For a peer's round, or one of this node's own.
    List {
        peer: Option<NodeId>,
        round: RoundId,
        lister: Lister,
        cursor: Option<FlowKey>,
    },
    Digest(OriginOutput),
    Compare(ReceiverOutput),
}

#[derive(Default)]
pub(crate) struct Auditor {
    jobs: VecDeque<Job>,
}

impl Auditor {
    pub(crate) fn of_origin(&mut self, output: OriginOutput) {
        self.jobs.push_back(match output {
            OriginOutput::List { round, seed, suspects } => {
                Job::List { peer: None, round, lister: Lister::new(seed, suspects), cursor: None }
            }
            output => Job::Digest(output),
        });
    }

    pub(crate) fn of_receiver(&mut self, output: ReceiverOutput) {
        self.jobs.push_back(match output {
            ReceiverOutput::List { peer, round, seed, suspects } => {
                Job::List { peer: Some(peer), round, lister: Lister::new(seed, suspects), cursor: None }
            }
            output => Job::Compare(output),
        });
    }
}

impl Node {
    /// One job, or one page of a reading.
    pub(crate) fn audit(&mut self, now: Time, rng: &mut Rng) {
        match self.auditor.jobs.pop_front() {
            Some(Job::List { peer, round, mut lister, cursor }) => {
                let (records, last) = self.table.page(cursor, 3);
                records.iter().for_each(|record| lister.meet(record));
                let cursor = records.last().map(|record| record.key).or(cursor);
                match peer {
                    _ if !last => self.auditor.jobs.push_back(Job::List { peer, round, lister, cursor }),
                    Some(peer) => self.receiver.handle_listed(peer, round, lister.finish()),
                    None if rng.one_in(20) => self.origin.handle_list_failed(now, round),
                    None => {
                        self.pump_everything(now);
                        self.origin.handle_listed(round, lister.finish());
                    }
                }
            }
            Some(Job::Digest(OriginOutput::Digest { stream, round, listing, owned, changed, suspects })) => {
                let digest = listing.digest(stream.shard, &owned, &changed, suspects);
                self.origin.handle_digest(stream, round, digest);
            }
            Some(Job::Compare(ReceiverOutput::Compare { stream, round, listing, digest, changed })) => {
                let comparison = listing.compare(stream.shard, &digest, &changed);
                self.receiver.handle_compared(now, stream, round, comparison);
            }
            Some(Job::Digest(_) | Job::Compare(_)) => unreachable!("no other output is a job"),
            None => {}
        }
    }

    fn pump_everything(&mut self, now: Time) {
        let changes: Vec<_> = self.ring.drain(..).chain(self.expired.drain(..)).collect();
        changes.into_iter().for_each(|(change, epoch)| self.origin.handle_change(now, change, epoch));
        self.origin.handle_lost(now, std::mem::take(&mut self.lost_shards));
    }
}
