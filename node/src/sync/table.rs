//! What replication needs of the kernel; the tests have a table of their own.

use std::io;
use std::os::fd::OwnedFd;

use lockstep_loader::KernelInstant;
use lockstep_model::flow::{FlowChange, FlowKey, FlowOp, FlowRecord, WriteOutcome};
use lockstep_model::ids::{Epoch, GroupId};

/// A page of the table, for digests.
pub(crate) struct AuditPage<C> {
    /// Flows that live.
    pub(crate) held: Vec<Held>,
    /// Flows that are over and not freed yet.
    pub(crate) dead: Vec<(GroupId, FlowKey)>,
    /// Where to go on.
    pub(crate) next: Option<C>,
}

/// A flow of it.
pub(crate) struct Held {
    pub(crate) record: FlowRecord,
    /// What its service's policy says.
    pub(crate) replicated: bool,
    /// Its policy says so only once it is established, which it is not.
    pub(crate) early: bool,
}

/// Flows of a group and shard that do not carry the mark of a walk, which was made under `epoch`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Unmentioned {
    pub(crate) group: GroupId,
    pub(crate) shard: u8,
    pub(crate) mark: u32,
    pub(crate) epoch: Epoch,
}

/// The flow table.
pub(crate) trait Table: Send + Sync + 'static {
    /// Where a walk stands.
    type Cursor: Copy + Send;

    /// One outcome for each op.
    fn write(&self, ops: &[FlowOp]) -> Vec<WriteOutcome>;

    /// Replicated flows from `cursor` on, about `max` entries, and where to go on.
    fn page(
        &self,
        cursor: Option<Self::Cursor>,
        max: usize,
    ) -> anyhow::Result<(Vec<FlowRecord>, Option<Self::Cursor>)>;

    /// About how much of the table lies before `cursor`, 0 to 1.
    fn share(&self, cursor: Self::Cursor) -> f64;

    /// The same of all flows, whatever their policy. `whole`: without those that would not pass packets in both directions.
    fn audit_page(
        &self,
        cursor: Option<Self::Cursor>,
        max: usize,
        whole: bool,
    ) -> anyhow::Result<AuditPage<Self::Cursor>>;

    /// Removes what walks did not mention, in one reading of the table; how many flows of each.
    fn sweep(&self, of: &[Unmentioned]) -> anyhow::Result<Vec<u64>>;
}

/// Changes as the kernel reports them.
pub(crate) trait Events: Send + 'static {
    /// A descriptor of the caller's own that becomes readable with the first that comes after [`Events::sleep`].
    fn descriptor(&self) -> io::Result<OwnedFd>;

    /// Asks to be told of the next ones, until some were drained. Whether that was not so before: then some may have come
    /// that told nobody.
    fn sleep(&mut self) -> anyhow::Result<bool>;

    /// Hands over at most `max`, each with the kernel's clock when it happened or, where that is not known, was read; how
    /// many there were.
    fn drain(&mut self, max: usize, each: &mut dyn FnMut(FlowChange, Epoch, KernelInstant)) -> usize;

    /// Shards that lost some since this was last asked, bit by shard.
    fn take_lost(&mut self) -> anyhow::Result<u32>;

    /// Lost, and unreadable, since the maps were made.
    fn totals(&self) -> (u64, u64);
}

/// Ends flows that were idle for too long.
pub(crate) trait Ager: Send + 'static {
    /// Looks at about `budget` entries; the flows that ended.
    fn step(&mut self, budget: usize) -> anyhow::Result<Vec<FlowChange>>;
}
