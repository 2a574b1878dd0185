//! Sweeps that wait for one another. Each reads the whole table; the walks of all shards end at nearly the same time, so
//! one reading serves them.
//!
//! What is written meanwhile carries the mark of the walk that ended, and stays. Only what a *later* walk mentions carries
//! another: before that is written, the sweep is done.

use std::time::{Duration, Instant};

use lockstep_model::flow::{FlowOp, SHARDS};
use lockstep_sync_core::WorkId;

use crate::sync::table::Unmentioned;

/// How long a sweep waits for those of the other shards.
const PATIENCE: Duration = Duration::from_millis(50);

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Sweeps {
    waiting: Vec<(WorkId, Unmentioned)>,
    due: Option<Instant>,
}

impl Sweeps {
    pub(super) fn add(&mut self, now: Instant, work: WorkId, of: Unmentioned) {
        self.due.get_or_insert(now + PATIENCE);
        self.waiting.push((work, of));
    }

    /// When they are to be done; `None`: there are none.
    pub(super) fn due(&self) -> Option<Instant> {
        self.due
    }

    /// Whether they are to be done now: nobody is left to wait for, or the time has come.
    pub(super) fn are_due(&self, now: Instant) -> bool {
        self.waiting.len() >= usize::from(SHARDS) || self.due.is_some_and(|due| due <= now)
    }

    /// Whether they are to be done before these are written.
    pub(super) fn precede(&self, ops: &[FlowOp]) -> bool {
        let later = |op: &FlowOp| {
            let (group, shard) = (op.change.group(), op.change.key().shard());
            self.waiting.iter().any(|(_, of)| of.group == group && of.shard == shard && of.mark != op.mark)
        };
        !self.waiting.is_empty() && ops.iter().any(later)
    }

    pub(super) fn take(&mut self) -> Vec<(WorkId, Unmentioned)> {
        self.due = None;
        std::mem::take(&mut self.waiting)
    }
}

#[cfg(test)]
mod tests {
    use lockstep_model::flow::{FlowChange, FlowKey, FlowVersion};
    use lockstep_model::ids::{Epoch, GroupId};
    use lockstep_model::protocol::Protocol;

    use super::*;

    fn op(port: u16, mark: u32) -> FlowOp {
        let key = FlowKey {
            client: ([10, 0, 0, 1], port).into(),
            service: ([192, 0, 2, 10], 443).into(),
            protocol: Protocol::Tcp,
        };
        let change = FlowChange::Remove { key, group: GroupId(7), version: FlowVersion::default() };
        FlowOp { change, epoch: Epoch(40), mark, only_if_absent: false, repair: false }
    }

    fn of(shard: u8, mark: u32) -> Unmentioned {
        Unmentioned { group: GroupId(7), shard, mark, epoch: Epoch(40) }
    }

    #[test]
    fn all_shards_go_together_and_one_waits_for_so_long() {
        let (now, mut sweeps) = (Instant::now(), Sweeps::default());
        assert_eq!((sweeps.due(), sweeps.are_due(now)), (None, false));
        for shard in 0..SHARDS {
            assert!(!sweeps.are_due(now), "{shard} sweeps");
            sweeps.add(now, WorkId(shard.into()), of(shard, 5));
        }
        assert!(sweeps.are_due(now));
        assert_eq!(sweeps.take().len(), usize::from(SHARDS));
        assert_eq!((sweeps.due(), sweeps.are_due(now)), (None, false));

        sweeps.add(now, WorkId(9), of(1, 6));
        assert!(!sweeps.are_due(now) && sweeps.are_due(now + PATIENCE));
    }

    #[test]
    fn i5_what_a_later_walk_mentions_is_written_behind_the_sweep() {
        let mut sweeps = Sweeps::default();
        let (told, shard) = (op(1024, 5), op(1024, 5).change.key().shard());
        assert!(!sweeps.precede(std::slice::from_ref(&told)));
        sweeps.add(Instant::now(), WorkId(1), of(shard, 5));
        assert!(!sweeps.precede(std::slice::from_ref(&told)), "of the walk itself");
        assert!(sweeps.precede(&[told, op(1024, 6)]), "of the next one");
        let elsewhere = (1025..).map(|port| op(port, 6)).find(|op| op.change.key().shard() != shard).unwrap();
        assert!(!sweeps.precede(&[elsewhere]), "of another shard");
    }
}
