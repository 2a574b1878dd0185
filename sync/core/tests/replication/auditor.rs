//! The thread that reads tables for digests: a few flows at a time, while everything else goes on.

use std::collections::VecDeque;

use lockstep_model::flow::FlowKey;
use lockstep_model::ids::NodeId;
use lockstep_seeded::Rng;
use lockstep_sync_core::audit::{CompareJob, DigestJob, Lister, RoundId};
use lockstep_sync_core::{OriginOutput, ReceiverOutput, Time};

use crate::node::Node;

enum Job {
    /// For a peer's round, or one of this node's own.
    List {
        peer: Option<NodeId>,
        round: RoundId,
        lister: Lister,
        cursor: Option<FlowKey>,
    },
    Digest(DigestJob),
    Compare(CompareJob),
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
            OriginOutput::Digest(job) => Job::Digest(job),
            other => unreachable!("no job for the auditor: {other:?}"),
        });
    }

    pub(crate) fn of_receiver(&mut self, output: ReceiverOutput) {
        self.jobs.push_back(match output {
            ReceiverOutput::List { peer, round, seed, suspects } => {
                Job::List { peer: Some(peer), round, lister: Lister::new(seed, suspects), cursor: None }
            }
            ReceiverOutput::Compare(job) => Job::Compare(job),
            other => unreachable!("no job for the auditor: {other:?}"),
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
            Some(Job::Digest(job)) => self.origin.handle_digest(job.stream, job.round, job.compute()),
            Some(Job::Compare(job)) => {
                self.receiver.handle_compared(now, job.stream, job.round, job.compute());
            }
            None => {}
        }
    }

    fn pump_everything(&mut self, now: Time) {
        let changes: Vec<_> = self.ring.drain(..).chain(self.expired.drain(..)).collect();
        changes.into_iter().for_each(|(change, epoch)| self.origin.handle_change(now, change, epoch));
        self.origin.handle_lost(now, std::mem::take(&mut self.lost_shards));
    }
}
