//! The kernel's table, events and sweeper, as replication uses them.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use lockstep_loader::{FlowEvents, FlowTable, KernelInstant, Sweeper, Unmarked, WalkCursor};
use lockstep_model::flow::{FlowChange, FlowOp, FlowRecord, WriteOutcome};
use lockstep_model::ids::Epoch;

use super::table::{Ager, AuditPage, Events, Held, Table, Unmentioned};

/// The kernel's flow table.
pub(crate) struct KernelTable(pub(crate) FlowTable);

impl Table for KernelTable {
    type Cursor = WalkCursor;

    fn write(&self, ops: &[FlowOp]) -> Vec<WriteOutcome> {
        self.0.write(ops)
    }

    fn page(
        &self,
        cursor: Option<WalkCursor>,
        max: usize,
    ) -> anyhow::Result<(Vec<FlowRecord>, Option<WalkCursor>)> {
        let page = self.0.walk(cursor, max)?;
        let replicated = page.flows.into_iter().filter(|flow| flow.replicated && !flow.early);
        Ok((replicated.map(|flow| flow.record).collect(), page.next))
    }

    fn share(&self, cursor: WalkCursor) -> f64 {
        self.0.share(&cursor)
    }

    fn audit_page(
        &self,
        cursor: Option<WalkCursor>,
        max: usize,
        whole: bool,
    ) -> anyhow::Result<AuditPage<WalkCursor>> {
        let page = if whole { self.0.walk_whole(cursor, max)? } else { self.0.walk(cursor, max)? };
        let held = page.flows.into_iter().map(|flow| Held {
            record: flow.record,
            replicated: flow.replicated,
            early: flow.early,
        });
        Ok(AuditPage { held: held.collect(), dead: page.dead, next: page.next })
    }

    fn sweep(&self, of: &[Unmentioned]) -> anyhow::Result<Vec<u64>> {
        let unmarked =
            |of: &Unmentioned| Unmarked { group: of.group, shard: of.shard, mark: of.mark, epoch: of.epoch };
        Ok(self.0.sweep_unmarked(&of.iter().map(unmarked).collect::<Vec<_>>())?)
    }
}

impl Events for FlowEvents {
    fn descriptor(&self) -> io::Result<OwnedFd> {
        self.as_fd().try_clone_to_owned()
    }

    fn sleep(&mut self) -> anyhow::Result<bool> {
        Ok(FlowEvents::sleep(self)?)
    }

    fn drain(&mut self, max: usize, each: &mut dyn FnMut(FlowChange, Epoch, KernelInstant)) -> usize {
        FlowEvents::drain(self, max, each)
    }

    fn take_lost(&mut self) -> anyhow::Result<u32> {
        Ok(FlowEvents::take_lost(self)?.into())
    }

    fn totals(&self) -> (u64, u64) {
        (self.lost_total(), self.malformed_total())
    }
}

impl Ager for Sweeper {
    fn step(&mut self, budget: usize) -> anyhow::Result<Vec<FlowChange>> {
        Ok(Sweeper::step(self, KernelInstant::now(), budget)?.removed)
    }
}
