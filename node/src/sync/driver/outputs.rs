//! Doing what the core says.

use std::time::Instant;

use lockstep_model::flow::FlowKey;
use lockstep_sync_core::{OriginOutput, ReceiverOutput};

use super::super::auditor::AuditJob;
use super::super::table::{Events, Unmentioned};
use super::super::walker::NextPage;
use super::super::writer::Written;
use super::{ACKNOWLEDGE, Driver};

impl<E: Events> Driver<E> {
    /// Does what the core says, until it has nothing more to say.
    pub(super) fn work(&mut self) {
        loop {
            self.say();
            let written = self.workers.line.write();
            if written.is_empty() {
                return;
            }
            written.into_iter().for_each(|written| self.written(written));
        }
    }

    pub(super) fn written(&mut self, Written { work, ops, outcomes }: Written) {
        self.receiver.handle_written(work, ops, &outcomes);
    }

    fn say(&mut self) {
        let now = Instant::now();
        let acknowledge = now >= self.next_acknowledgement;
        if acknowledge && self.receiver.owes_acknowledgement() {
            self.next_acknowledgement = now + ACKNOWLEDGE;
        }
        loop {
            let output =
                if acknowledge { self.receiver.poll_output() } else { self.receiver.poll_unacknowledged() };
            if let Some(output) = output {
                self.receiver_output(output);
            } else if let Some(output) = self.origin.poll_output(self.now()) {
                self.origin_output(output);
            } else {
                return;
            }
        }
    }

    fn receiver_output(&mut self, output: ReceiverOutput) {
        match output {
            ReceiverOutput::Write { work, ops } => self.workers.line.push(work, ops),
            ReceiverOutput::Sweep { work, group, shard, mark, epoch } => {
                self.workers.line.sweep(work, Unmentioned { group, shard, mark, epoch });
            }
            ReceiverOutput::Send { stream, connection, message } => {
                if let Some((current, sender)) = self.up.get(&stream)
                    && *current == connection
                {
                    sender.send(message);
                }
            }
            ReceiverOutput::Close { stream, connection, reason } => {
                tracing::warn!(peer = %stream.peer, shard = stream.shard, reason, "replication stream closed");
                self.drop_up(stream, connection);
            }
            ReceiverOutput::Inherited { change } => self.origin.handle_inherited(self.now(), change),
            ReceiverOutput::List { peer, round, seed, suspects } => {
                self.audit(AuditJob::List { peer: Some(peer), round, seed, suspects });
            }
            ReceiverOutput::Compare(job) => self.audit(AuditJob::Compare(job)),
            ReceiverOutput::Diverged { stream, group, key, difference } => {
                let FlowKey { client, service, protocol } = key;
                tracing::warn!(
                    origin = %stream.peer, group = %group, ?difference, ?protocol, %client, %service,
                    "a flow differed from its owner's, and is repaired"
                );
            }
            ReceiverOutput::Rewalk { shards } => self.origin.handle_lost(self.now(), shards),
        }
    }

    fn origin_output(&mut self, output: OriginOutput) {
        match output {
            OriginOutput::Send { stream, connection, message } => {
                if let Some((current, sender)) = self.down.get(&stream)
                    && *current == connection
                {
                    sender.send(message);
                }
            }
            OriginOutput::Close { stream, connection, reason } => {
                tracing::info!(peer = %stream.peer, shard = stream.shard, ?reason, "subscriber closed");
                self.drop_down(stream, connection);
            }
            OriginOutput::List { round, seed, suspects } => {
                self.audit(AuditJob::List { peer: None, round, seed, suspects });
            }
            OriginOutput::Digest(job) => self.audit(AuditJob::Digest(job)),
            OriginOutput::ReadPage { pass, restart } => {
                if restart {
                    self.walked = 0.0;
                }
                self.workers
                    .pages
                    .send(NextPage { pass, restart })
                    .expect("the walker ends after this thread");
            }
        }
    }

    fn audit(&self, job: AuditJob) {
        self.workers.audits.send(job).expect("the auditor ends after this thread");
    }
}
