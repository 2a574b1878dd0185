//! Writing learnt flows into the kernel, in batches.
//!
//! I6 is decided by [`FlowOp::supersedes`] against what the kernel holds; this file only fetches and stores.

mod batch;
mod fresh;

use std::io;
use std::sync::atomic::{AtomicU32, Ordering};

use lockstep_abi::flow::{FlowKey, FlowValue, NewFlow, ORIGINAL};
use lockstep_abi::service::{AffinityKey, AffinityValue};
use lockstep_abi::state;
use lockstep_model::flow::{FlowChange, FlowOp, FlowRecord, FlowState, WriteOutcome};
use lockstep_model::protocol::Family;

use self::batch::Batch;
use self::fresh::Fresh;
use crate::clock::KernelInstant;
use crate::directory::{Directory, Origin};
use crate::error::DataplaneError;
use crate::family::{KernelFamily, V4, V6};
use crate::maps::Maps;
use crate::record;
use crate::sys;

/// `FlowValue::generation`: differs from one entry to the next.
static GENERATION: AtomicU32 = AtomicU32::new(1);

/// An outcome for each op. Ops of one flow are of one family, so each family may go by itself.
pub(crate) fn write(maps: &Maps, ops: &[FlowOp]) -> Vec<WriteOutcome> {
    let family = |op: &FlowOp| Family::of(op.change.key().client.ip());
    let v6 = ops.iter().any(|op| family(op) == Family::V6);
    let v4 = ops.iter().any(|op| family(op) == Family::V4);
    let mut outcomes = vec![WriteOutcome::Applied; ops.len()];
    if v4 {
        let numbered = (0..).zip(ops).filter(|(_, op)| family(op) == Family::V4);
        Writer::<V4>::new(maps, &mut outcomes).write(numbered);
    }
    if v6 {
        let numbered = (0..).zip(ops).filter(|(_, op)| family(op) == Family::V6);
        Writer::<V6>::new(maps, &mut outcomes).write(numbered);
    }
    outcomes
}

/// One call of `FlowTable::write`, for one family.
struct Writer<'a, A: KernelFamily> {
    maps: &'a Maps,
    directory: Directory<'a, A>,
    now: KernelInstant,
    outcomes: &'a mut [WriteOutcome],
    batch: Batch<A>,
    fresh: Fresh<A>,
    /// The last flow that was looked up was not there: in a walk of an empty table, none is.
    absent: bool,
}

impl<'a, A: KernelFamily> Writer<'a, A> {
    fn new(maps: &'a Maps, outcomes: &'a mut [WriteOutcome]) -> Self {
        Self {
            maps,
            directory: Directory::new(maps),
            now: KernelInstant::now(),
            outcomes,
            batch: Batch::new(),
            fresh: Fresh::new(),
            absent: false,
        }
    }

    fn write<'o>(mut self, ops: impl Iterator<Item = (usize, &'o FlowOp)>) {
        for (index, op) in ops {
            match self.one(index, op) {
                Ok(Some(outcome)) => self.outcomes[index] = outcome,
                // It waits in a batch.
                Ok(None) => {}
                Err(error) => self.outcomes[index] = failed(&error),
            }
        }
        self.flush();
    }

    fn flush(&mut self) {
        let flows = &A::maps(self.maps).flows;
        self.batch.flush(flows, self.outcomes);
        self.fresh.flush(flows, self.outcomes);
    }

    fn holds(&self, key: &FlowKey<A>) -> bool {
        self.batch.holds(key) || self.fresh.holds(key)
    }

    fn one(&mut self, index: usize, op: &FlowOp) -> io::Result<Option<WriteOutcome>> {
        let Some(key) = record::kernel_key::<A>(op.change.key()) else {
            return Ok(Some(WriteOutcome::UnknownGroup));
        };
        if self.holds(&key) {
            self.flush();
        }
        if self.unseen(index, op, &key)? {
            return Ok(None);
        }
        self.compared(index, op, key)
    }

    /// Whether the flow, which is probably new, was. With affinity it is looked up: only of a new flow the choice is
    /// kept.
    fn unseen(&mut self, index: usize, op: &FlowOp, key: &FlowKey<A>) -> io::Result<bool> {
        let FlowChange::Upsert(record) = &op.change else { return Ok(false) };
        if op.only_if_absent || !(self.absent || record.state == FlowState::New) {
            return Ok(false);
        }
        let Some(origin) = self.origin(record, key).map_err(into_io)? else { return Ok(false) };
        if origin.affinity_mask.is_some() {
            return Ok(false);
        }
        let Some(flow) = self.flow(op, record, *key, &origin) else { return Ok(false) };
        if has_reply(&flow) && self.holds(&flow.reply_key) {
            self.flush();
        }
        let new = self.fresh.insert(&A::maps(self.maps).flows, index, &flow)?;
        if self.fresh.is_full() {
            self.flush();
        }
        Ok(new)
    }

    /// By what the table holds.
    fn compared(&mut self, index: usize, op: &FlowOp, key: FlowKey<A>) -> io::Result<Option<WriteOutcome>> {
        // A reply entry can have the same tuple only if an endpoint is also a client; it is not this flow.
        let held = A::maps(self.maps).flows.get(&key)?.filter(|value| value.kind() == ORIGINAL);
        self.absent = held.is_none();
        if !op.supersedes(held.as_ref().map(record::stamp)) {
            return self.mark(op, key, held);
        }
        match &op.change {
            FlowChange::Remove { .. } => {
                if let Some(held) = held {
                    self.remove(&held)?;
                }
                Ok(Some(WriteOutcome::Applied))
            }
            FlowChange::Upsert(record) => {
                let Some(origin) = self.origin(record, &key).map_err(into_io)? else {
                    return Ok(Some(WriteOutcome::UnknownGroup));
                };
                let Some(flow) = self.flow(op, record, key, &origin) else {
                    return Ok(Some(WriteOutcome::UnknownGroup));
                };
                // Once for each flow: what a walk repeats is no newer choice.
                if held.is_none_or(|held| held.birth_ns != flow.birth_ns) {
                    self.keep_choice(op, &flow, &origin)?;
                }
                if op.only_if_absent {
                    return self.insert(&flow).map(Some);
                }
                self.replace(index, flow, held)?;
                Ok(None)
            }
        }
    }

    /// The service or rule of the record, if it is of the record's group here as well.
    fn origin(&mut self, record: &FlowRecord, key: &FlowKey<A>) -> Result<Option<Origin>, DataplaneError> {
        let origin = if record.endpoint.get() == 0 {
            let address = record.source.unwrap_or(record.key.service).ip();
            self.directory.rule(address, record.service.get())?
        } else {
            self.directory.frontend(key)?
        };
        Ok(origin
            .filter(|origin| origin.group == record.group.get() && origin.service == record.service.get()))
    }

    fn flow(&self, op: &FlowOp, record: &FlowRecord, key: FlowKey<A>, origin: &Origin) -> Option<NewFlow<A>> {
        let timeouts = self.directory.timeouts(origin.service);
        Some(NewFlow {
            key,
            reply_key: record::kernel_reply_key(record, &key)?,
            address_index: origin.address_index,
            address_stamp: origin.address_stamp,
            state_bits: record.state_bits & state::REPLICATED,
            // The kernel counts in 32 bits; a flow with more changes than that is not one.
            n: u32::try_from(record.version.n).unwrap_or(u32::MAX),
            now_ns: record::last_seen(&key, record, timeouts, self.now),
            birth_ns: record.version.birth,
            epoch: op.epoch.get(),
            service: origin.service,
            endpoint: record.endpoint.get(),
            mark: op.mark,
            flags: origin.flow_flags | record::forwarding(record.kind),
            service_slot: origin.service_slot,
            target: self.directory.targets().index(record.endpoint.get()),
            generation: GENERATION.fetch_add(1, Ordering::Relaxed) ^ self.now.0 as u32,
        })
    }

    /// The client's next connection, here after a takeover, keeps the endpoint.
    fn keep_choice(&self, op: &FlowOp, flow: &NewFlow<A>, origin: &Origin) -> io::Result<()> {
        let Some(mask) = origin.affinity_mask else { return Ok(()) };
        let client = flow.key.source_be.wide();
        let key = AffinityKey {
            service: origin.service,
            client: std::array::from_fn(|word| client[word] & mask[word]),
        };
        let value = AffinityValue { endpoint: flow.endpoint, seen_ns: self.now.0 };
        // This node may own the group by now, and have kept a choice of its own.
        let flags = if op.only_if_absent { sys::NOEXIST } else { sys::ANY };
        match self.maps.affinity.put(&key, &value, flags) {
            Err(error) if error.raw_os_error() == Some(libc::EEXIST) => Ok(()),
            // A full table keeps no more choices, here as in the kernel; the flow itself goes in.
            Err(error) if matches!(error.raw_os_error(), Some(libc::E2BIG | libc::ENOMEM)) => Ok(()),
            result => result,
        }
    }

    /// An op that says nothing new: the table's own record stays, and the walk has mentioned it.
    fn mark(
        &mut self,
        op: &FlowOp,
        key: FlowKey<A>,
        held: Option<FlowValue<A>>,
    ) -> io::Result<Option<WriteOutcome>> {
        // With `only_if_absent` this node may own the group by now: its entries are the kernel's to change.
        let Some(mut held) = held.filter(|held| held.mark != op.mark && !op.only_if_absent) else {
            return Ok(Some(WriteOutcome::Stale));
        };
        if matches!(op.change, FlowChange::Remove { .. }) {
            return Ok(Some(WriteOutcome::Stale));
        }
        held.mark = op.mark;
        match A::maps(self.maps).flows.put(&key, &held, sys::EXIST) {
            Err(error) if error.raw_os_error() != Some(libc::ENOENT) => Err(error),
            _ => Ok(Some(WriteOutcome::Stale)),
        }
    }

    fn replace(&mut self, index: usize, flow: NewFlow<A>, held: Option<FlowValue<A>>) -> io::Result<()> {
        if has_reply(&flow) && self.holds(&flow.reply_key) {
            self.flush();
        }
        // Another endpoint than before: its tuple is free again.
        if let Some(held) = held.filter(|held| held.twin != flow.reply_key) {
            batch::remove_reply(&A::maps(self.maps).flows, &held)?;
        }
        self.batch.push(index, flow);
        if self.batch.is_full() {
            self.flush();
        }
        Ok(())
    }

    /// As the kernel inserts: the reply reserves, the original completes, and whoever comes second leaves no trace.
    fn insert(&mut self, flow: &NewFlow<A>) -> io::Result<WriteOutcome> {
        let flows = &A::maps(self.maps).flows;
        if has_reply(flow) {
            match flows.put(&flow.reply_key, &flow.reply(), sys::NOEXIST) {
                Ok(()) => {}
                Err(error) if error.raw_os_error() == Some(libc::EEXIST) => return Ok(WriteOutcome::Stale),
                Err(error) => return Ok(failed(&error)),
            }
        }
        match flows.put(&flow.key, &flow.original(), sys::NOEXIST) {
            Ok(()) => Ok(WriteOutcome::Applied),
            Err(error) => {
                if has_reply(flow) {
                    flows.remove(&flow.reply_key)?;
                }
                let lost_race = error.raw_os_error() == Some(libc::EEXIST);
                Ok(if lost_race { WriteOutcome::Stale } else { failed(&error) })
            }
        }
    }

    fn remove(&mut self, held: &FlowValue<A>) -> io::Result<()> {
        if self.holds(&held.twin) {
            self.flush();
        }
        let flows = &A::maps(self.maps).flows;
        flows.remove(&held.key)?;
        batch::remove_reply(flows, held)
    }
}

/// With direct return the reply is never seen, and has no entry.
fn has_reply<A>(flow: &NewFlow<A>) -> bool {
    flow.flags & lockstep_abi::flow::FORWARDING == lockstep_abi::flow::FORWARD_NAT
}

fn failed(error: &io::Error) -> WriteOutcome {
    match error.raw_os_error() {
        // No element left, or (without preallocation) no memory for one.
        Some(libc::E2BIG | libc::ENOMEM) => WriteOutcome::Full,
        errno => WriteOutcome::Failed(errno.unwrap_or(libc::EIO)),
    }
}

fn into_io(error: DataplaneError) -> io::Error {
    match error {
        DataplaneError::Map { source, .. } => source,
        other => io::Error::other(other.to_string()),
    }
}
