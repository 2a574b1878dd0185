//! Reading the table for all walks that are needed at the same time.

use lockstep_model::flow::{FlowChange, FlowRecord};

use super::outbound::Outbound;
use super::pass::{Pass, PassId};
use super::{Origin, OriginOutput};
use crate::limits::{WALK_BACKLOG, WALK_RETRY, WALK_TOGETHER};
use crate::message::StreamId;
use crate::time::Time;

impl Origin {
    /// A page of the table, and whether it was the last.
    pub fn handle_page(&mut self, now: Time, id: PassId, records: Vec<FlowRecord>, last: bool) {
        let Some(pass) = self.pass.as_mut().filter(|pass| pass.id == id) else { return };
        pass.reading = false;
        for record in &records {
            if pass.was_removed(record) {
                self.counters.walk_records_removed += 1;
                continue;
            }
            let change = FlowChange::Upsert(record.clone());
            if !self.young.admits(now, &change, &mut self.counters) {
                continue;
            }
            let shard = record.key.shard();
            for &peer in &self.peers {
                let stream = StreamId { peer, shard };
                let Some(walk) = pass.walk(stream, record.group) else { continue };
                if let Some(outbound) = self.streams.get_mut(&stream) {
                    outbound.mention(now, walk, record, &mut self.counters);
                }
            }
        }
        if last {
            let pass = self.pass.take().expect("matched above");
            for (stream, group, walk) in pass.walks() {
                if let Some(outbound) = self.streams.get_mut(&stream) {
                    outbound.end_walk(group, walk);
                }
            }
        }
    }

    /// The table could not be read: the pass begins again a little later.
    pub fn handle_page_failed(&mut self, now: Time, id: PassId) {
        let Some(pass) = self.pass.take_if(|pass| pass.id == id) else { return };
        self.counters.pages_failed += 1;
        self.pass_not_before = now + WALK_RETRY;
        for (stream, group, walk) in pass.walks() {
            if let Some(outbound) = self.streams.get_mut(&stream) {
                outbound.restart_walk(group, walk);
            }
        }
    }

    pub(super) fn reads_for_nobody(&self) -> bool {
        self.pass.is_none() && !self.streams.values().any(Outbound::needs_pass)
    }

    /// The `first` that needs the table read waits for whoever comes with it.
    pub(super) fn wait_for_others(&mut self, now: Time, first: bool) {
        if first && self.streams.values().any(Outbound::needs_pass) {
            self.pass_not_before = self.pass_not_before.max(now + WALK_TOGETHER);
        }
    }

    pub(super) fn begin_pass(&mut self, now: Time) {
        let reads = self.pass.is_none() && now >= self.pass_not_before;
        let mut pass = Pass::new(PassId(self.passes + 1));
        for (&stream, outbound) in &mut self.streams {
            for group in outbound.begin_walks(now, &mut self.walks, reads) {
                pass.add(stream, group.0, group.1);
            }
        }
        if !pass.is_empty() {
            self.passes += 1;
            self.counters.passes += 1;
            self.pass = Some(pass);
        }
    }

    pub(super) fn next_page(&mut self) -> Option<OriginOutput> {
        let pass = self.pass.as_mut()?;
        let streams = &self.streams;
        pass.retain(|stream, group, walk| streams.get(&stream).is_some_and(|s| s.walking(group, walk)));
        if pass.reading {
            return None;
        }
        if pass.is_empty() {
            // Nobody is left that it would be for.
            self.pass = None;
            return None;
        }
        let full =
            |stream: StreamId| self.streams.get(&stream).is_some_and(|s| s.walk_backlog() >= WALK_BACKLOG);
        if pass.walks().any(|(stream, _, _)| full(stream)) {
            return None;
        }
        pass.reading = true;
        let restart = !std::mem::replace(&mut pass.started, true);
        Some(OriginOutput::ReadPage { pass: pass.id, restart })
    }
}
