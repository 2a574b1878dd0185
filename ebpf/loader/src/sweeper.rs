//! Ageing: looks at a bounded number of entries at a time, and lets the kernel decide about those that look idle.
//!
//! ```text
//! live ──idle too long, lease held here──► dead (version n+1, Remove is told) ──a second later──► freed
//! ```
//!
//! A standby ages nothing: its origin tells it. After a takeover age counts from the takeover at the earliest.

use lockstep_abi::flow::{FlowKey4, FlowValue4, NO_SYNC, ORIGINAL, PATH_DEAD};
use lockstep_abi::{age, map as names, state, timeout};
use lockstep_model::flow::FlowChange;
use lockstep_model::ids::GroupId;

use crate::clock::KernelInstant;
use crate::error::DataplaneError;
use crate::flows::FlowTable;
use crate::map::{HashCursor, Page};
use crate::record;

/// A reply entry without an original is left alone for this long: its original may be about to be written.
const ORPHAN_NS: u64 = 60 * 1_000_000_000;

/// Ages flows, a step at a time.
pub struct Sweeper {
    flows: FlowTable,
    page: Page<FlowKey4, FlowValue4>,
    cursor: Option<HashCursor>,
    live: u64,
}

/// What a step did.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Swept {
    /// Flows that ended and whose service is replicated: to be told to the standbys.
    pub removed: Vec<FlowChange>,
    /// Flows marked dead.
    pub ended: u64,
    /// Flows whose entries were freed, and replies without an original.
    pub freed: u64,
    /// Entries looked at.
    pub examined: u64,
    /// Set by the step that reaches the end of the table: live flows seen by the whole pass.
    pub live: Option<u64>,
}

impl Sweeper {
    pub(crate) fn new(flows: FlowTable) -> Self {
        Self { flows, page: Page::new(), cursor: None, live: 0 }
    }

    /// Looks at about `budget` entries, from where the last step ended.
    pub fn step(&mut self, now: KernelInstant, budget: usize) -> Result<Swept, DataplaneError> {
        let mut swept = Swept::default();
        let mut idle = Vec::new();
        let mut dead = Vec::new();
        let mut replies = Vec::new();
        let maps = self.flows.maps();
        self.cursor = maps
            .flows
            .page(self.cursor, budget.max(1), &mut self.page)
            .map_err(DataplaneError::map(names::FLOWS))?;
        for (key, value) in self.page.iter() {
            swept.examined += 1;
            if value.kind != ORIGINAL {
                if now.0.saturating_sub(value.last_seen_ns) > ORPHAN_NS {
                    replies.push((*key, value.twin));
                }
            } else if value.path & PATH_DEAD != 0 {
                if now.0.saturating_sub(value.last_seen_ns) >= timeout::DEAD_NS {
                    dead.push(*key);
                }
            } else {
                self.live += 1;
                let since = self.held_since(value, now)?;
                let limit = timeout::idle_ns(key.protocol, state::bits(value.state));
                if since.is_some_and(|since| now.0.saturating_sub(value.last_seen_ns.max(since)) > limit) {
                    idle.push((*key, value.address_index, value.flags));
                }
            }
        }
        if self.cursor.is_none() {
            swept.live = Some(std::mem::take(&mut self.live));
        }
        self.end(&idle, &mut swept)?;
        let outcomes = self.flows.age(&dead, age::FORCE)?;
        swept.freed += outcomes.iter().filter(|entry| entry.outcome == age::FREED).count() as u64;
        self.free_orphans(&replies, &mut swept)?;
        Ok(swept)
    }

    /// When this node took the flow's group over, if it holds its lease.
    fn held_since(&self, value: &FlowValue4, now: KernelInstant) -> Result<Option<u64>, DataplaneError> {
        let maps = self.flows.maps();
        let address =
            maps.addresses.get(&value.address_index).map_err(DataplaneError::map(names::ADDRESSES))?;
        let Some(address) = address.filter(|address| address.address_be != 0) else { return Ok(None) };
        let Some(lease) = maps.leases.read(address.lease_slot) else { return Ok(None) };
        Ok(lease.is_held(now.0).then_some(lease.since_ns))
    }

    fn end(&self, idle: &[(FlowKey4, u32, u32)], swept: &mut Swept) -> Result<(), DataplaneError> {
        let keys: Vec<FlowKey4> = idle.iter().map(|(key, ..)| *key).collect();
        for (entry, (key, address_index, flags)) in self.flows.age(&keys, 0)?.iter().zip(idle) {
            if entry.outcome != age::MARKED {
                continue;
            }
            swept.ended += 1;
            if flags & NO_SYNC != 0 {
                continue;
            }
            let group = self.flows.maps().group_of(*address_index)?;
            if let (Some(group), Some(key)) = (group, record::model_key(key)) {
                let version = record::version(entry.birth_ns, entry.n);
                swept.removed.push(FlowChange::Remove { key, group: GroupId(group), version });
            }
        }
        Ok(())
    }

    /// Replies whose original is gone or is another flow's: left by a writer that died half way.
    fn free_orphans(
        &self,
        replies: &[(FlowKey4, FlowKey4)],
        swept: &mut Swept,
    ) -> Result<(), DataplaneError> {
        let flows = &self.flows.maps().flows;
        for (key, original) in replies {
            let twin = flows.get(original).map_err(DataplaneError::map(names::FLOWS))?;
            if twin.is_none_or(|twin| twin.twin != *key) {
                flows.remove(key).map_err(DataplaneError::map(names::FLOWS))?;
                swept.freed += 1;
            }
        }
        Ok(())
    }
}
