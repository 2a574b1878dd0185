//! The part of a pass that goes through the flows of one family.

use std::collections::HashMap;

use lockstep_abi::address::AddressValue;
use lockstep_abi::age::AgeEntry;
use lockstep_abi::flow::{FlowKey, FlowValue, NO_SYNC, ORIGINAL, PATH_DEAD};
use lockstep_abi::{age, state, timeout};
use lockstep_model::flow::FlowChange;
use lockstep_model::ids::GroupId;

use super::{Pass, Swept};
use crate::clock::KernelInstant;
use crate::directory::Directory;
use crate::error::DataplaneError;
use crate::family::KernelFamily;
use crate::flows::FlowTable;
use crate::map::{HashCursor, Page};
use crate::port_usage::{PortCount, PortUsage};
use crate::record;

/// A reply entry without an original is left alone for this long: its original may be about to be written.
const ORPHAN_NS: u64 = 60 * 1_000_000_000;

pub(super) struct FamilySweep<A: KernelFamily> {
    page: Page<FlowKey<A>, FlowValue<A>>,
    cursor: Option<HashCursor>,
    ports: PortCount<A>,
    /// Ends that this sweeper saw when it marked, as long as their entries wait to be freed.
    marked: HashMap<FlowKey<A>, Marked>,
}

/// A flow's end that has been dealt with, by the removal's version.
struct Marked {
    birth_ns: u64,
    n: u32,
    /// The pass that last met the entry. Who finds it gone is not told, so it is forgotten after a whole pass.
    pass: u64,
}

/// An entry that is handed to the kernel half.
struct Candidate<A> {
    key: FlowKey<A>,
    group: Option<GroupId>,
    /// Its end is the standbys' business, and this node's to tell.
    told: bool,
}

/// The lease that a flow is under.
struct Owner {
    group: GroupId,
    /// When this node took the group over, if it holds the lease.
    held_since_ns: Option<u64>,
}

impl<A: KernelFamily> Candidate<A> {
    fn new(value: &FlowValue<A>, owner: Option<&Owner>) -> Self {
        let held = owner.is_some_and(|owner| owner.held_since_ns.is_some());
        let told = held && value.flags & NO_SYNC == 0;
        Self { key: value.key, group: owner.map(|owner| owner.group), told }
    }
}

impl<A: KernelFamily> FamilySweep<A> {
    pub(super) fn new() -> Self {
        Self { page: Page::new(), cursor: None, ports: PortCount::new(&[]), marked: HashMap::new() }
    }

    pub(super) fn begin(&mut self, addresses: &[AddressValue]) {
        self.ports = PortCount::new(addresses);
    }

    pub(super) fn port_usage(&self) -> Vec<PortUsage> {
        self.ports.usage()
    }

    /// After pass number `pass`.
    pub(super) fn forget(&mut self, pass: u64) {
        self.marked.retain(|_, marked| marked.pass + 1 >= pass);
    }

    /// Whether that was the end of the table.
    pub(super) fn step(
        &mut self,
        flows: &FlowTable,
        now: KernelInstant,
        budget: usize,
        pass: &mut Pass,
        swept: &mut Swept,
    ) -> Result<bool, DataplaneError> {
        let maps = flows.maps();
        let mut directory = Directory::<A>::new(maps);
        let mut idle = Vec::new();
        let mut dead = Vec::new();
        let mut replies = Vec::new();
        let table = &A::maps(maps).flows;
        self.cursor =
            table.page(self.cursor, budget, &mut self.page).map_err(DataplaneError::map(A::NAMES.flows))?;
        for (key, value) in self.page.iter() {
            swept.examined += 1;
            if value.kind() != ORIGINAL {
                self.ports.meet(key);
                if now.0.saturating_sub(value.last_seen_ns) > ORPHAN_NS {
                    replies.push((*key, value.twin));
                }
            } else if value.path & PATH_DEAD != 0 {
                if let Some(marked) = self.marked.get_mut(key) {
                    marked.pass = pass.number;
                }
                if now.0.saturating_sub(value.last_seen_ns) >= timeout::DEAD_NS {
                    dead.push(Candidate::new(value, owner(flows, &mut directory, value, now)?.as_ref()));
                }
            } else {
                pass.live += 1;
                if state::counts(state::bits(value.state)) {
                    pass.loads.meet(value.target, value.service_slot);
                }
                let owner = owner(flows, &mut directory, value, now)?;
                let since = owner.as_ref().and_then(|owner| owner.held_since_ns);
                let limit = timeout::idle_ns(
                    key.protocol,
                    state::bits(value.state),
                    directory.timeouts(value.service),
                );
                if since.is_some_and(|since| now.0.saturating_sub(value.last_seen_ns.max(since)) > limit) {
                    idle.push(Candidate::new(value, owner.as_ref()));
                }
            }
        }
        self.end(flows, &idle, pass.number, swept)?;
        self.free(flows, &dead, swept)?;
        free_orphans::<A>(flows, &replies, swept)?;
        Ok(self.cursor.is_none())
    }

    fn end(
        &mut self,
        flows: &FlowTable,
        idle: &[Candidate<A>],
        pass: u64,
        swept: &mut Swept,
    ) -> Result<(), DataplaneError> {
        let keys: Vec<FlowKey<A>> = idle.iter().map(|flow| flow.key).collect();
        for (entry, flow) in flows.age(&keys, 0)?.iter().zip(idle) {
            if entry.outcome != age::MARKED {
                continue;
            }
            swept.ended += 1;
            let marked = Marked { birth_ns: entry.birth_ns, n: entry.n, pass };
            self.marked.insert(flow.key, marked);
            tell(flow, entry, swept);
        }
        Ok(())
    }

    fn free(
        &mut self,
        flows: &FlowTable,
        dead: &[Candidate<A>],
        swept: &mut Swept,
    ) -> Result<(), DataplaneError> {
        let keys: Vec<FlowKey<A>> = dead.iter().map(|flow| flow.key).collect();
        for (entry, flow) in flows.age(&keys, age::FORCE)?.iter().zip(dead) {
            if entry.outcome != age::FREED {
                continue;
            }
            swept.freed += 1;
            let marked = self.marked.remove(&flow.key);
            if marked.is_none_or(|marked| (marked.birth_ns, marked.n) != (entry.birth_ns, entry.n)) {
                tell(flow, entry, swept);
            }
        }
        Ok(())
    }
}

/// Whose the flow is, if its address is still the one it was made with.
fn owner<A: KernelFamily>(
    flows: &FlowTable,
    directory: &mut Directory<'_, A>,
    value: &FlowValue<A>,
    now: KernelInstant,
) -> Result<Option<Owner>, DataplaneError> {
    let Some(address) = directory.address_of(value)? else { return Ok(None) };
    let lease = flows.maps().leases.read(address.lease_slot);
    let held_since_ns = lease.filter(|lease| lease.is_held(now.0)).map(|lease| lease.since_ns);
    Ok(Some(Owner { group: GroupId(address.group), held_since_ns }))
}

fn tell<A: KernelFamily>(flow: &Candidate<A>, entry: &AgeEntry<A>, swept: &mut Swept) {
    if !flow.told {
        return;
    }
    if let (Some(group), Some(key)) = (flow.group, record::model_key(&flow.key)) {
        let version = record::version(entry.birth_ns, entry.n);
        swept.removed.push(FlowChange::Remove { key, group, version });
    }
}

/// Replies whose original is gone or is another flow's: left by a writer that died half way.
fn free_orphans<A: KernelFamily>(
    flows: &FlowTable,
    replies: &[(FlowKey<A>, FlowKey<A>)],
    swept: &mut Swept,
) -> Result<(), DataplaneError> {
    let table = &A::maps(flows.maps()).flows;
    for (key, original) in replies {
        let twin = table.get(original).map_err(DataplaneError::map(A::NAMES.flows))?;
        if twin.is_none_or(|twin| twin.twin != *key) {
            // It may have gone with its original, in this very step.
            let was_there = table.remove(key).map_err(DataplaneError::map(A::NAMES.flows))?;
            swept.freed += u64::from(was_there);
        }
    }
    Ok(())
}
