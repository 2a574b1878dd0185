//! Ageing: looks at a bounded number of entries at a time, and lets the kernel decide about those that look idle.
//!
//! ```text
//! live ──idle too long, lease held here──► dead (version n+1, Remove is told) ──a second later──► freed
//!   └──claimed by a SYN that could not make its own flow──► dead (version n+1) ──► freed (Remove is told)
//! ```
//!
//! A flow may also have been marked by somebody else: by a packet that wanted its place and then found no
//! endpoint or no room, or by a daemon that ended before it told. Nobody else tells of it, so freeing does.
//!
//! A standby ages nothing: its origin tells it. After a takeover age counts from the takeover at the earliest.

use std::collections::HashMap;

use lockstep_abi::age::AgeEntry;
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
    /// Passes completed.
    passes: u64,
    /// Ends that this sweeper saw when it marked, as long as their entries wait to be freed.
    marked: HashMap<FlowKey4, Marked>,
}

/// A flow's end that has been dealt with, by the removal's version.
struct Marked {
    birth_ns: u64,
    n: u32,
    /// The pass that last met the entry. Who finds it gone is not told, so it is forgotten after a whole pass.
    pass: u64,
}

/// An entry that is handed to the kernel half.
struct Candidate {
    key: FlowKey4,
    address_index: u32,
    /// Its end is the standbys' business, and this node's to tell.
    told: bool,
}

impl Candidate {
    fn new(value: &FlowValue4, held: bool) -> Self {
        let told = held && value.flags & NO_SYNC == 0;
        Self { key: value.key, address_index: value.address_index, told }
    }
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
        Self { flows, page: Page::new(), cursor: None, live: 0, passes: 0, marked: HashMap::new() }
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
                if let Some(marked) = self.marked.get_mut(key) {
                    marked.pass = self.passes;
                }
                if now.0.saturating_sub(value.last_seen_ns) >= timeout::DEAD_NS {
                    dead.push(Candidate::new(value, self.held_since(value, now)?.is_some()));
                }
            } else {
                self.live += 1;
                let since = self.held_since(value, now)?;
                let limit = timeout::idle_ns(key.protocol, state::bits(value.state));
                if since.is_some_and(|since| now.0.saturating_sub(value.last_seen_ns.max(since)) > limit) {
                    idle.push(Candidate::new(value, true));
                }
            }
        }
        self.end(&idle, &mut swept)?;
        self.free(&dead, &mut swept)?;
        self.free_orphans(&replies, &mut swept)?;
        if self.cursor.is_none() {
            swept.live = Some(std::mem::take(&mut self.live));
            let pass = self.passes;
            self.marked.retain(|_, marked| marked.pass + 1 >= pass);
            self.passes += 1;
        }
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

    fn end(&mut self, idle: &[Candidate], swept: &mut Swept) -> Result<(), DataplaneError> {
        let keys: Vec<FlowKey4> = idle.iter().map(|flow| flow.key).collect();
        for (entry, flow) in self.flows.age(&keys, 0)?.iter().zip(idle) {
            if entry.outcome != age::MARKED {
                continue;
            }
            swept.ended += 1;
            let marked = Marked { birth_ns: entry.birth_ns, n: entry.n, pass: self.passes };
            self.marked.insert(flow.key, marked);
            self.tell(flow, entry, swept)?;
        }
        Ok(())
    }

    fn free(&mut self, dead: &[Candidate], swept: &mut Swept) -> Result<(), DataplaneError> {
        let keys: Vec<FlowKey4> = dead.iter().map(|flow| flow.key).collect();
        for (entry, flow) in self.flows.age(&keys, age::FORCE)?.iter().zip(dead) {
            if entry.outcome != age::FREED {
                continue;
            }
            swept.freed += 1;
            let marked = self.marked.remove(&flow.key);
            if marked.is_none_or(|marked| (marked.birth_ns, marked.n) != (entry.birth_ns, entry.n)) {
                self.tell(flow, entry, swept)?;
            }
        }
        Ok(())
    }

    fn tell(&self, flow: &Candidate, entry: &AgeEntry, swept: &mut Swept) -> Result<(), DataplaneError> {
        if !flow.told {
            return Ok(());
        }
        let group = self.flows.maps().group_of(flow.address_index)?;
        if let (Some(group), Some(key)) = (group, record::model_key(&flow.key)) {
            let version = record::version(entry.birth_ns, entry.n);
            swept.removed.push(FlowChange::Remove { key, group: GroupId(group), version });
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
                // It may have gone with its original, in this very step.
                let was_there = flows.remove(key).map_err(DataplaneError::map(names::FLOWS))?;
                swept.freed += u64::from(was_there);
            }
        }
        Ok(())
    }
}
