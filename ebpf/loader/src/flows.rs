//! The kernel's flow tables as the rest of the daemon sees them: records in, records out.

use std::path::Path;
use std::sync::Arc;

use lockstep_abi::age as outcome;
use lockstep_abi::flow::{FlowKey, FlowValue, NO_SYNC, ORIGINAL, PATH_DEAD, SYNC_LATE};
use lockstep_abi::state;
use lockstep_model::flow::{FlowKey as ModelKey, FlowOp, FlowRecord, WriteOutcome};
use lockstep_model::ids::{Epoch, GroupId};
use lockstep_model::protocol::Family;

use crate::age;
use crate::clock::KernelInstant;
use crate::directory::Directory;
use crate::error::DataplaneError;
use crate::family::{KernelFamily, V4, V6};
use crate::map::{HashCursor, Page};
use crate::maps::Maps;
use crate::port_usage::PortUsage;
use crate::programs::TableStages;
use crate::record;
use crate::write;

/// Entries of a page of a walk that nobody else sees.
const PAGE: usize = 4096;

/// The flow tables of both families. Cheap to clone.
#[derive(Clone)]
pub struct FlowTable {
    maps: Arc<Maps>,
    stages: Option<Arc<TableStages>>,
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
    /// The policy says so only once it is established, which it is not: nobody is told of it yet.
    pub early: bool,
}

/// A page of a walk.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct WalkPage {
    /// Live flows.
    pub flows: Vec<WalkedFlow>,
    /// Flows that are over and not freed yet, of which nobody may have been told.
    pub dead: Vec<(GroupId, ModelKey)>,
    /// Where to go on; `None`: that was all.
    pub next: Option<WalkCursor>,
}

/// Flows of one shard of a group that the walk `mark`, made under `epoch`, did not mention.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unmarked {
    /// The group.
    pub group: GroupId,
    /// The shard.
    pub shard: u8,
    /// The walk's mark.
    pub mark: u32,
    /// Its epoch.
    pub epoch: Epoch,
}

/// Where a walk stands. Good for the table it came from, as long as that exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WalkCursor {
    family: Family,
    at: Option<HashCursor>,
}

impl FlowTable {
    pub(crate) fn new(maps: Arc<Maps>, stages: Option<Arc<TableStages>>) -> Self {
        Self { maps, stages }
    }

    /// The table of a node that may not be running, for looking only: what changes flows in place needs the
    /// programs loaded and answers `Load`.
    pub fn open_pinned(pin_dir: &Path) -> Result<Self, DataplaneError> {
        Ok(Self::new(Arc::new(Maps::open_pinned(pin_dir)?), None))
    }

    /// The source ports in use of each address that has some, as of the sweeper's last pass; nothing before the
    /// first. Each pass puts another in place.
    pub fn port_usage(&self) -> Arc<Vec<PortUsage>> {
        self.maps.port_usage.get()
    }

    /// Applies `ops` in order (I6 decides which change something); an outcome for each. Only for groups whose
    /// lease this node does not hold, except for `only_if_absent`: entries are replaced as a whole.
    pub fn write(&self, ops: &[FlowOp]) -> Vec<WriteOutcome> {
        write::write(&self.maps, self.stages.as_ref().map(|stages| &stages.learn), ops)
    }

    /// A page of about `max` entries (half of which are replies, and not shown) from `cursor` on: first IPv4,
    /// then IPv6. A flow that exists during the whole walk is seen exactly once.
    pub fn walk(&self, cursor: Option<WalkCursor>, max: usize) -> Result<WalkPage, DataplaneError> {
        self.pages(cursor, max, false)
    }

    /// The same, without flows of which the entry for replies is missing or belongs to another: half a flow is none. It
    /// costs a look-up for each flow.
    pub fn walk_whole(&self, cursor: Option<WalkCursor>, max: usize) -> Result<WalkPage, DataplaneError> {
        self.pages(cursor, max, true)
    }

    fn pages(&self, cursor: Option<WalkCursor>, max: usize, whole: bool) -> Result<WalkPage, DataplaneError> {
        let cursor = cursor.unwrap_or(WalkCursor { family: Family::V4, at: None });
        let mut page = WalkPage::default();
        let at = match cursor.family {
            Family::V4 => self.records::<V4>(cursor.at, max.max(1), whole, &mut page)?,
            Family::V6 => self.records::<V6>(cursor.at, max.max(1), whole, &mut page)?,
        };
        page.next = match (cursor.family, at) {
            (family, Some(at)) => Some(WalkCursor { family, at: Some(at) }),
            (Family::V4, None) => Some(WalkCursor { family: Family::V6, at: None }),
            (Family::V6, None) => None,
        };
        Ok(page)
    }

    /// About how much of the table lies before `cursor`, 0 to 1: of IPv4, and 1 from IPv6 on.
    pub fn share(&self, cursor: &WalkCursor) -> f64 {
        match (cursor.family, cursor.at) {
            (Family::V4, Some(at)) => V4::maps(&self.maps).flows.share(at),
            (Family::V4, None) => 0.0,
            (Family::V6, _) => 1.0,
        }
    }

    fn records<A: KernelFamily>(
        &self,
        at: Option<HashCursor>,
        max: usize,
        whole: bool,
        walked: &mut WalkPage,
    ) -> Result<Option<HashCursor>, DataplaneError> {
        let now = KernelInstant::now();
        let mut directory = Directory::<A>::new(&self.maps);
        self.originals::<A>(at, max, &mut Page::new(), &mut |value| {
            let Some(group) = directory.group_of(value)? else { return Ok(()) };
            if value.path & PATH_DEAD != 0 {
                walked.dead.extend(record::model_key(&value.key).map(|key| (group, key)));
                return Ok(());
            }
            if whole && !self.has_reply(value)? {
                return Ok(());
            }
            let timeouts = directory.timeouts(value.service);
            if let Some(record) = record::of_entry(value, group, timeouts, directory.targets(), now) {
                let replicated = value.flags & NO_SYNC == 0;
                let young = state::phase(state::bits(value.state)) == state::NEW;
                let early = value.flags & SYNC_LATE != 0 && young;
                walked.flows.push(WalkedFlow { record, epoch: Epoch(value.epoch), replicated, early });
            }
            Ok(())
        })
    }

    fn has_reply<A: KernelFamily>(&self, original: &FlowValue<A>) -> Result<bool, DataplaneError> {
        let flows = &A::maps(&self.maps).flows;
        let reply = flows.get(&original.twin).map_err(DataplaneError::map(A::NAMES.flows))?;
        Ok(reply.is_some_and(|reply| reply.twin == original.key))
    }

    /// How many live flows there are. Walks the tables.
    pub fn count(&self) -> Result<u64, DataplaneError> {
        let mut count = 0;
        self.each::<V4>(&mut |_| {
            count += 1;
            Ok(())
        })?;
        self.each::<V6>(&mut |_| {
            count += 1;
            Ok(())
        })?;
        Ok(count)
    }

    /// Deletes these, in one reading of the tables; answers how many of each. Flows of a later epoch stay: should this node
    /// have taken a group over meanwhile, they are its own.
    pub fn sweep_unmarked(&self, of: &[Unmarked]) -> Result<Vec<u64>, DataplaneError> {
        fn unwanted<A: KernelFamily>(value: &FlowValue<A>, group: GroupId, of: &Unmarked) -> bool {
            value.mark != of.mark
                && group == of.group
                && value.key.shard() == u32::from(of.shard)
                && value.epoch <= of.epoch.get()
        }
        let mut counts = vec![0; of.len()];
        self.remove_where::<V4>(
            |value, group| of.iter().position(|of| unwanted(value, group, of)),
            &mut counts,
        )?;
        self.remove_where::<V6>(
            |value, group| of.iter().position(|of| unwanted(value, group, of)),
            &mut counts,
        )?;
        Ok(counts)
    }

    /// Deletes all flows of a group; answers how many. Only for a group whose lease this node does not hold.
    pub fn purge(&self, group: GroupId) -> Result<u64, DataplaneError> {
        let mut counts = [0];
        self.remove_where::<V4>(|_, of| (of == group).then_some(0), &mut counts)?;
        self.remove_where::<V6>(|_, of| (of == group).then_some(0), &mut counts)?;
        Ok(counts[0])
    }

    /// Deletes flows that `unwanted` counts somewhere in `counts`.
    fn remove_where<A: KernelFamily>(
        &self,
        unwanted: impl Fn(&FlowValue<A>, GroupId) -> Option<usize>,
        counts: &mut [u64],
    ) -> Result<(), DataplaneError> {
        let mut directory = Directory::<A>::new(&self.maps);
        let mut doomed = Vec::new();
        self.each::<A>(&mut |value| {
            let Some(group) = directory.group_of(value)? else { return Ok(()) };
            doomed.extend(unwanted(value, group).map(|of| (of, *value)));
            Ok(())
        })?;
        for (of, value) in &doomed {
            self.delete(value)?;
            counts[*of] += 1;
        }
        Ok(())
    }

    /// Deletes both entries, the original first: without it the other is not used.
    fn delete<A: KernelFamily>(&self, original: &FlowValue<A>) -> Result<(), DataplaneError> {
        let flows = &A::maps(&self.maps).flows;
        let failed = DataplaneError::map(A::NAMES.flows);
        flows.remove(&original.key).map_err(&failed)?;
        // The endpoint's tuple may have been taken by another flow.
        let reply = flows.get(&original.twin).map_err(&failed)?;
        if reply.is_some_and(|reply| reply.kind() != ORIGINAL && reply.twin == original.key) {
            flows.remove(&original.twin).map_err(&failed)?;
        }
        Ok(())
    }

    /// Marks dead, whoever holds the lease, flows whose service or rule is gone; answers how many that ended. Their
    /// entries are freed by the sweeper.
    pub(crate) fn end_orphans(&self) -> Result<u64, DataplaneError> {
        Ok(self.end_orphans_of::<V4>()? + self.end_orphans_of::<V6>()?)
    }

    fn end_orphans_of<A: KernelFamily>(&self) -> Result<u64, DataplaneError> {
        let mut directory = Directory::<A>::new(&self.maps);
        let mut doomed = Vec::new();
        self.each::<A>(&mut |value| {
            if directory.is_orphan(value)? {
                doomed.push(value.key);
            }
            Ok(())
        })?;
        let outcomes = self.age(&doomed, outcome::FORCE)?;
        Ok(outcomes.iter().filter(|entry| entry.outcome == outcome::MARKED).count() as u64)
    }

    pub(crate) fn age<A: KernelFamily>(
        &self,
        keys: &[FlowKey<A>],
        flags: u32,
    ) -> Result<Vec<outcome::AgeEntry<A>>, DataplaneError> {
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        let stages =
            self.stages.as_ref().ok_or_else(|| DataplaneError::Load("opened for looking only".into()))?;
        age::run(&stages.age, keys, flags).map_err(DataplaneError::map(A::NAMES.flows))
    }

    /// Every live original entry of a family.
    pub(crate) fn each<A: KernelFamily>(
        &self,
        each: &mut dyn FnMut(&FlowValue<A>) -> Result<(), DataplaneError>,
    ) -> Result<(), DataplaneError> {
        let mut page = Page::new();
        let mut cursor = None;
        loop {
            cursor = self.page(cursor, PAGE, &mut page, each)?;
            if cursor.is_none() {
                return Ok(());
            }
        }
    }

    fn page<A: KernelFamily>(
        &self,
        cursor: Option<HashCursor>,
        count: usize,
        page: &mut Page<FlowKey<A>, FlowValue<A>>,
        each: &mut dyn FnMut(&FlowValue<A>) -> Result<(), DataplaneError>,
    ) -> Result<Option<HashCursor>, DataplaneError> {
        let live = &mut |value: &FlowValue<A>| if value.path & PATH_DEAD == 0 { each(value) } else { Ok(()) };
        self.originals(cursor, count, page, live)
    }

    /// Dead ones as well.
    fn originals<A: KernelFamily>(
        &self,
        cursor: Option<HashCursor>,
        count: usize,
        page: &mut Page<FlowKey<A>, FlowValue<A>>,
        each: &mut dyn FnMut(&FlowValue<A>) -> Result<(), DataplaneError>,
    ) -> Result<Option<HashCursor>, DataplaneError> {
        let flows = &A::maps(&self.maps).flows;
        let next = flows.page(cursor, count, page).map_err(DataplaneError::map(A::NAMES.flows))?;
        for (_, value) in page.iter() {
            if value.kind() == ORIGINAL {
                each(value)?;
            }
        }
        Ok(next)
    }

    pub(crate) fn maps(&self) -> &Maps {
        &self.maps
    }
}
