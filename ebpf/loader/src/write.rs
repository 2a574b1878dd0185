//! Writing learnt flows into the kernel, in batches.
//!
//! Most flows are new, change their state, or end: the programs' `learn` stage compares and writes those, many in one run. What
//! it leaves alone, repairs, and what may only fill gaps are looked up and written one by one.
//!
//! I6 is decided by [`FlowOp::supersedes`] against what the kernel holds, and by the stage as `lockstep_abi::learn` says,
//! which is the same.

use std::io;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{MutexGuard, PoisonError};

use lockstep_abi::flow::{FlowKey, FlowValue, NewFlow, ORIGINAL, REPLY};
use lockstep_abi::learn::{CHANGED, DEFERRED, LEARN_BATCH, MADE, REMOVED, STALE};
use lockstep_abi::service::{AffinityKey, AffinityValue};
use lockstep_abi::state;
use lockstep_model::flow::{FlowChange, FlowOp, FlowRecord, WriteOutcome};
use lockstep_model::protocol::Family;

use crate::clock::KernelInstant;
use crate::directory::{Directory, Origin};
use crate::error::DataplaneError;
use crate::family::{KernelFamily, V4, V6};
use crate::learn::{Learner, Learners};
use crate::map::Map;
use crate::maps::Maps;
use crate::record;
use crate::sys;

/// `FlowValue::generation`: differs from one entry to the next.
static GENERATION: AtomicU32 = AtomicU32::new(1);

type Flows<A> = Map<FlowKey<A>, FlowValue<A>>;

/// An outcome for each op. Ops of one flow are of one family, so each family may go by itself. Without `learners` every flow
/// is looked up.
pub(crate) fn write(maps: &Maps, learners: Option<&Learners>, ops: &[FlowOp]) -> Vec<WriteOutcome> {
    let family = |op: &FlowOp| Family::of(op.change.key().client.ip());
    let v6 = ops.iter().any(|op| family(op) == Family::V6);
    let v4 = ops.iter().any(|op| family(op) == Family::V4);
    let mut outcomes = vec![WriteOutcome::Applied; ops.len()];
    if v4 {
        let numbered = (0..).zip(ops).filter(|(_, op)| family(op) == Family::V4);
        Writer::<V4>::new(maps, learners, &mut outcomes).write(numbered);
    }
    if v6 {
        let numbered = (0..).zip(ops).filter(|(_, op)| family(op) == Family::V6);
        Writer::<V6>::new(maps, learners, &mut outcomes).write(numbered);
    }
    outcomes
}

/// A flow that is laid where the stage finds it.
struct Laid<'o, A> {
    index: usize,
    op: &'o FlowOp,
    key: FlowKey<A>,
    /// Of a service with affinity: the choice of a new flow is kept.
    choice: Option<Origin>,
}

/// One call of `FlowTable::write`, for one family.
struct Writer<'a, 'o, A: KernelFamily> {
    maps: &'a Maps,
    directory: Directory<'a, A>,
    now: KernelInstant,
    outcomes: &'a mut [WriteOutcome],
    learner: Option<MutexGuard<'a, Learner<A>>>,
    laid: Vec<Laid<'o, A>>,
}

impl<'a, 'o, A: KernelFamily> Writer<'a, 'o, A> {
    fn new(maps: &'a Maps, learners: Option<&'a Learners>, outcomes: &'a mut [WriteOutcome]) -> Self {
        // Each run lays its entries anew.
        let lock = |learners| A::learner(learners).lock().unwrap_or_else(PoisonError::into_inner);
        Self {
            maps,
            directory: Directory::new(maps),
            now: KernelInstant::now(),
            outcomes,
            learner: learners.map(lock),
            laid: Vec::new(),
        }
    }

    fn write(mut self, ops: impl Iterator<Item = (usize, &'o FlowOp)>) {
        for (index, op) in ops {
            match self.one(index, op) {
                Ok(Some(outcome)) => self.outcomes[index] = outcome,
                // It is laid.
                Ok(None) => {}
                Err(error) => self.outcomes[index] = failed(&error),
            }
        }
        self.learn();
    }

    fn one(&mut self, index: usize, op: &'o FlowOp) -> io::Result<Option<WriteOutcome>> {
        let Some(key) = record::kernel_key::<A>(op.change.key()) else {
            return Ok(Some(WriteOutcome::UnknownGroup));
        };
        if self.lay(index, op, key)? {
            return Ok(None);
        }
        // What was told before is there before.
        self.learn();
        self.compared(op, key).map(Some)
    }

    /// Leaves it to the stage, if that can.
    fn lay(&mut self, index: usize, op: &'o FlowOp, key: FlowKey<A>) -> io::Result<bool> {
        if op.only_if_absent || op.repair || self.learner.is_none() {
            return Ok(false);
        }
        let record = match &op.change {
            FlowChange::Upsert(record) => record,
            FlowChange::Remove { .. } => return Ok(self.lay_removal(index, op, key)),
        };
        let Some(origin) = self.origin(record, &key).map_err(into_io)? else { return Ok(false) };
        let Some(flow) = self.flow(op, record, key, &origin) else { return Ok(false) };
        let Some(learner) = &mut self.learner else { return Ok(false) };
        learner.lay(self.laid.len(), &flow, has_reply(&flow));
        let choice = origin.affinity_mask.is_some().then_some(origin);
        self.laid(Laid { index, op, key, choice });
        Ok(true)
    }

    fn lay_removal(&mut self, index: usize, op: &'o FlowOp, key: FlowKey<A>) -> bool {
        let Some(learner) = &mut self.learner else { return false };
        let version = op.change.version();
        let n = u32::try_from(version.n).unwrap_or(u32::MAX);
        let state = state::word(0, n);
        let (epoch, birth_ns) = (op.epoch.get(), version.birth);
        learner.lay_removal(self.laid.len(), FlowValue { key, state, epoch, birth_ns, ..Default::default() });
        self.laid(Laid { index, op, key, choice: None });
        true
    }

    fn laid(&mut self, laid: Laid<'o, A>) {
        self.laid.push(laid);
        if self.laid.len() == LEARN_BATCH as usize {
            self.learn();
        }
    }

    /// Has the stage take in what is laid.
    fn learn(&mut self) {
        if self.laid.is_empty() {
            return;
        }
        let laid = std::mem::take(&mut self.laid);
        let learner = self.learner.as_mut().expect("something is laid");
        let run: io::Result<Vec<i32>> = learner.run(laid.len()).map(Iterator::collect);
        match run {
            Ok(outcomes) => {
                for (flow, outcome) in laid.iter().zip(outcomes) {
                    self.outcomes[flow.index] =
                        self.learnt(flow, outcome).unwrap_or_else(|error| failed(&error));
                }
            }
            Err(error) => laid.iter().for_each(|flow| self.outcomes[flow.index] = failed(&error)),
        }
        self.laid = laid;
        self.laid.clear();
    }

    fn learnt(&mut self, flow: &Laid<'o, A>, outcome: i32) -> io::Result<WriteOutcome> {
        match outcome {
            MADE => {
                // Once for each flow: what is told again of it is no newer choice.
                if let (Some(origin), FlowChange::Upsert(record)) = (&flow.choice, &flow.op.change) {
                    self.keep_choice(flow.op, &flow.key, record, origin)?;
                }
                Ok(WriteOutcome::Applied)
            }
            CHANGED | REMOVED => Ok(WriteOutcome::Applied),
            STALE => Ok(WriteOutcome::Stale),
            DEFERRED => self.compared(flow.op, flow.key),
            error if error < 0 => Err(io::Error::from_raw_os_error(-error)),
            _ => Err(io::Error::other("the learn stage did not come so far")),
        }
    }

    /// By what the table holds.
    fn compared(&mut self, op: &FlowOp, key: FlowKey<A>) -> io::Result<WriteOutcome> {
        // A reply entry can have the same tuple only if an endpoint is also a client; it is not this flow.
        let held = self.flows().get(&key)?.filter(|value| value.kind() == ORIGINAL);
        if !op.supersedes(held.as_ref().map(record::stamp)) {
            return self.mark(op, key, held);
        }
        match &op.change {
            FlowChange::Remove { .. } => {
                if let Some(held) = held {
                    self.remove(&held)?;
                }
                Ok(WriteOutcome::Applied)
            }
            FlowChange::Upsert(record) => {
                let Some(origin) = self.origin(record, &key).map_err(into_io)? else {
                    return Ok(WriteOutcome::UnknownGroup);
                };
                let Some(flow) = self.flow(op, record, key, &origin) else {
                    return Ok(WriteOutcome::UnknownGroup);
                };
                // Once for each flow: what a walk repeats is no newer choice.
                if held.is_none_or(|held| held.birth_ns != flow.birth_ns) {
                    self.keep_choice(op, &key, record, &origin)?;
                }
                if op.only_if_absent { self.insert(&flow) } else { self.replace(&flow, held) }
            }
        }
    }

    fn flows(&self) -> &'a Flows<A> {
        &A::maps(self.maps).flows
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
    fn keep_choice(
        &self,
        op: &FlowOp,
        flow: &FlowKey<A>,
        record: &FlowRecord,
        origin: &Origin,
    ) -> io::Result<()> {
        let Some(mask) = origin.affinity_mask else { return Ok(()) };
        let client = flow.source_be.wide();
        let key = AffinityKey {
            service: origin.service,
            client: std::array::from_fn(|word| client[word] & mask[word]),
        };
        let value = AffinityValue { endpoint: record.endpoint.get(), seen_ns: self.now.0 };
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
    fn mark(&mut self, op: &FlowOp, key: FlowKey<A>, held: Option<FlowValue<A>>) -> io::Result<WriteOutcome> {
        // With `only_if_absent` this node may own the group by now: its entries are the kernel's to change.
        let Some(mut held) = held.filter(|held| held.mark != op.mark && !op.only_if_absent) else {
            return Ok(WriteOutcome::Stale);
        };
        if matches!(op.change, FlowChange::Remove { .. }) {
            return Ok(WriteOutcome::Stale);
        }
        held.mark = op.mark;
        match self.flows().put(&key, &held, sys::EXIST) {
            Err(error) if error.raw_os_error() != Some(libc::ENOENT) => Err(error),
            _ => Ok(WriteOutcome::Stale),
        }
    }

    /// Writes both entries, the reply first. What does not fit leaves no reply behind.
    fn replace(&mut self, flow: &NewFlow<A>, held: Option<FlowValue<A>>) -> io::Result<WriteOutcome> {
        // Another endpoint than before: its tuple is free again.
        if let Some(held) = held.filter(|held| held.twin != flow.reply_key) {
            remove_reply(self.flows(), &held)?;
        }
        if has_reply(flow) {
            self.flows().put(&flow.reply_key, &flow.reply(), sys::ANY)?;
        }
        let original = flow.original();
        if let Err(error) = self.flows().put(&flow.key, &original, sys::ANY) {
            remove_reply(self.flows(), &original)?;
            return Err(error);
        }
        Ok(WriteOutcome::Applied)
    }

    /// As the kernel inserts: the reply reserves, the original completes, and whoever comes second leaves no trace.
    fn insert(&mut self, flow: &NewFlow<A>) -> io::Result<WriteOutcome> {
        let flows = self.flows();
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
        self.flows().remove(&held.key)?;
        remove_reply(self.flows(), held)
    }
}

/// Removes the reply entry of an original, if there is one that is its own.
fn remove_reply<A: KernelFamily>(flows: &Flows<A>, held: &FlowValue<A>) -> io::Result<()> {
    let reply = flows.get(&held.twin)?;
    if reply.is_some_and(|reply| reply.kind() == REPLY && reply.twin == held.key) {
        flows.remove(&held.twin)?;
    }
    Ok(())
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
