//! The kernel's flow table as the rest of the daemon sees it: records in, records out.

use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;

use lockstep_abi::flow::{FlowKey4, FlowValue4, NO_SYNC, ORIGINAL, PATH_DEAD};
use lockstep_abi::{age as outcome, map as names};
use lockstep_model::flow::{FlowOp, FlowRecord, WriteOutcome};
use lockstep_model::ids::{Epoch, GroupId};

use crate::age;
use crate::clock::KernelInstant;
use crate::directory::Directory;
use crate::error::DataplaneError;
use crate::map::{HashCursor, Page};
use crate::maps::Maps;
use crate::record;
use crate::write::Writer;

/// Entries of a page of a walk that nobody else sees.
const PAGE: usize = 4096;

/// The flow table. Cheap to clone.
#[derive(Clone)]
pub struct FlowTable {
    maps: Arc<Maps>,
    age: Option<Arc<OwnedFd>>,
}

/// A flow as a walk found it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WalkedFlow {
    /// The flow.
    pub record: FlowRecord,
    /// The epoch it was made in or learnt under.
    pub epoch: Epoch,
    /// Its service's policy is to copy it to the standbys.
    pub replicated: bool,
}

/// A page of a walk.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct WalkPage {
    /// Live flows.
    pub flows: Vec<WalkedFlow>,
    /// Where to go on; `None`: that was all.
    pub next: Option<WalkCursor>,
}

/// Where a walk stands. Good for the table it came from, as long as that exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WalkCursor(HashCursor);

impl FlowTable {
    pub(crate) fn new(maps: Arc<Maps>, age: Option<Arc<OwnedFd>>) -> Self {
        Self { maps, age }
    }

    /// The table of a node that may not be running, for looking only: what changes flows in place needs the
    /// programs loaded and answers `Load`.
    pub fn open_pinned(pin_dir: &Path) -> Result<Self, DataplaneError> {
        Ok(Self::new(Arc::new(Maps::open_pinned(pin_dir)?), None))
    }

    /// Applies `ops` in order (I6 decides which change something); an outcome for each. Only for groups whose
    /// lease this node does not hold, except for `only_if_absent`: entries are replaced as a whole.
    pub fn write(&self, ops: &[FlowOp]) -> Vec<WriteOutcome> {
        Writer::new(&self.maps).write(ops)
    }

    /// A page of about `max` entries (half of which are replies, and not shown) from `cursor` on. A flow that
    /// exists during the whole walk is seen exactly once.
    pub fn walk(&self, cursor: Option<WalkCursor>, max: usize) -> Result<WalkPage, DataplaneError> {
        let now = KernelInstant::now();
        let mut directory = Directory::new(&self.maps);
        let mut flows = Vec::new();
        let next = self.page(cursor.map(|cursor| cursor.0), max.max(1), &mut Page::new(), |value| {
            let Some(group) = directory.group_of(value.address_index)? else { return Ok(()) };
            if let Some(record) = record::of_entry(value, group, now) {
                let replicated = value.flags & NO_SYNC == 0;
                flows.push(WalkedFlow { record, epoch: Epoch(value.epoch), replicated });
            }
            Ok(())
        })?;
        Ok(WalkPage { flows, next: next.map(WalkCursor) })
    }

    /// How many live flows there are. Walks the table.
    pub fn count(&self) -> Result<u64, DataplaneError> {
        let mut count = 0;
        self.each(|_| {
            count += 1;
            Ok(())
        })?;
        Ok(count)
    }

    /// Deletes the flows of one shard of a group that the walk `mark`, made under `epoch`, did not mention;
    /// answers how many. Flows of a later epoch stay: should this node have taken the group over meanwhile, they
    /// are its own.
    pub fn sweep_unmarked(
        &self,
        group: GroupId,
        shard: u8,
        mark: u32,
        epoch: Epoch,
    ) -> Result<u64, DataplaneError> {
        self.remove_where(group, |value| {
            value.mark != mark && value.key.shard() == u32::from(shard) && value.epoch <= epoch.get()
        })
    }

    /// Deletes all flows of a group; answers how many. Only for a group whose lease this node does not hold.
    pub fn purge(&self, group: GroupId) -> Result<u64, DataplaneError> {
        self.remove_where(group, |_| true)
    }

    fn remove_where(
        &self,
        group: GroupId,
        mut unwanted: impl FnMut(&FlowValue4) -> bool,
    ) -> Result<u64, DataplaneError> {
        let mut directory = Directory::new(&self.maps);
        let mut doomed = Vec::new();
        self.each(|value| {
            if directory.group_of(value.address_index)? == Some(group) && unwanted(value) {
                doomed.push(*value);
            }
            Ok(())
        })?;
        for value in &doomed {
            self.delete(value)?;
        }
        Ok(doomed.len() as u64)
    }

    /// Deletes both entries, the original first: without it the other is not used.
    pub(crate) fn delete(&self, original: &FlowValue4) -> Result<(), DataplaneError> {
        let failed = DataplaneError::map(names::FLOWS);
        self.maps.flows.remove(&original.key).map_err(&failed)?;
        // The endpoint's tuple may have been taken by another flow.
        let reply = self.maps.flows.get(&original.twin).map_err(&failed)?;
        if reply.is_some_and(|reply| reply.twin == original.key) {
            self.maps.flows.remove(&original.twin).map_err(&failed)?;
        }
        Ok(())
    }

    /// Marks dead, whoever holds the lease, what `unwanted` says; answers how many flows that ended. Their
    /// entries are freed by the sweeper.
    pub(crate) fn end_where(
        &self,
        mut unwanted: impl FnMut(&FlowValue4) -> Result<bool, DataplaneError>,
    ) -> Result<u64, DataplaneError> {
        let mut doomed = Vec::new();
        self.each(|value| {
            if unwanted(value)? {
                doomed.push(value.key);
            }
            Ok(())
        })?;
        let outcomes = self.age(&doomed, outcome::FORCE)?;
        Ok(outcomes.iter().filter(|entry| entry.outcome == outcome::MARKED).count() as u64)
    }

    pub(crate) fn age(
        &self,
        keys: &[FlowKey4],
        flags: u32,
    ) -> Result<Vec<outcome::AgeEntry>, DataplaneError> {
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        let program =
            self.age.as_ref().ok_or_else(|| DataplaneError::Load("opened for looking only".into()))?;
        age::run(program, keys, flags).map_err(DataplaneError::map(names::FLOWS))
    }

    /// Every live original entry.
    pub(crate) fn each(
        &self,
        mut each: impl FnMut(&FlowValue4) -> Result<(), DataplaneError>,
    ) -> Result<(), DataplaneError> {
        let mut page = Page::new();
        let mut cursor = None;
        loop {
            cursor = self.page(cursor, PAGE, &mut page, &mut each)?;
            if cursor.is_none() {
                return Ok(());
            }
        }
    }

    fn page(
        &self,
        cursor: Option<HashCursor>,
        count: usize,
        page: &mut Page<FlowKey4, FlowValue4>,
        mut each: impl FnMut(&FlowValue4) -> Result<(), DataplaneError>,
    ) -> Result<Option<HashCursor>, DataplaneError> {
        let next = self.maps.flows.page(cursor, count, page).map_err(DataplaneError::map(names::FLOWS))?;
        for (_, value) in page.iter() {
            if value.kind == ORIGINAL && value.path & PATH_DEAD == 0 {
                each(value)?;
            }
        }
        Ok(next)
    }

    pub(crate) fn maps(&self) -> &Maps {
        &self.maps
    }
}
