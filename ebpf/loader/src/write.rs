//! Writing learnt flows into the kernel, in batches.
//!
//! I6 is decided by [`FlowOp::supersedes`] against what the kernel holds; this file only fetches and stores.

use std::collections::HashSet;
use std::io;
use std::sync::atomic::{AtomicU32, Ordering};

use lockstep_abi::flow::{FlowKey4, FlowValue4, NewFlow, ORIGINAL, REPLY};
use lockstep_abi::state;
use lockstep_model::flow::{FlowChange, FlowOp, FlowRecord, WriteOutcome};

use crate::clock::KernelInstant;
use crate::directory::{Directory, Frontend};
use crate::error::DataplaneError;
use crate::maps::Maps;
use crate::record;
use crate::sys;

/// Flows written by one system call for each direction.
const BATCH: usize = 512;

/// `FlowValue4::generation`: differs from one entry to the next.
static GENERATION: AtomicU32 = AtomicU32::new(1);

/// One call of `FlowTable::write`.
pub(crate) struct Writer<'a> {
    maps: &'a Maps,
    directory: Directory<'a>,
    now: KernelInstant,
    outcomes: Vec<WriteOutcome>,
    /// Flows waiting to be written together: keys, values, and whose outcome it is.
    replies: (Vec<FlowKey4>, Vec<FlowValue4>),
    originals: (Vec<FlowKey4>, Vec<FlowValue4>),
    owners: Vec<usize>,
    /// Both directions' keys of what waits: an op on one of them must see it written.
    waiting: HashSet<FlowKey4>,
}

impl<'a> Writer<'a> {
    pub(crate) fn new(maps: &'a Maps) -> Self {
        Self {
            maps,
            directory: Directory::new(maps),
            now: KernelInstant::now(),
            outcomes: Vec::new(),
            replies: Default::default(),
            originals: Default::default(),
            owners: Vec::new(),
            waiting: HashSet::new(),
        }
    }

    pub(crate) fn write(mut self, ops: &[FlowOp]) -> Vec<WriteOutcome> {
        self.outcomes = vec![WriteOutcome::Applied; ops.len()];
        for (index, op) in ops.iter().enumerate() {
            match self.one(index, op) {
                Ok(Some(outcome)) => self.outcomes[index] = outcome,
                // It waits in a batch.
                Ok(None) => {}
                Err(error) => self.outcomes[index] = failed(&error),
            }
        }
        self.flush();
        self.outcomes
    }

    fn one(&mut self, index: usize, op: &FlowOp) -> io::Result<Option<WriteOutcome>> {
        let Some(key) = record::kernel_key(op.change.key()) else {
            return Ok(Some(WriteOutcome::UnknownGroup));
        };
        if self.waiting.contains(&key) {
            self.flush();
        }
        // A reply entry can have the same tuple only if an endpoint is also a client; it is not this flow.
        let held = self.maps.flows.get(&key)?.filter(|value| value.kind == ORIGINAL);
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
                let frontend = self.directory.frontend(&key).map_err(into_io)?;
                let known =
                    frontend.filter(|f| f.group == record.group.get() && f.service == record.service.get());
                let Some(frontend) = known else { return Ok(Some(WriteOutcome::UnknownGroup)) };
                let Some(flow) = self.flow(op, record, key, frontend) else {
                    return Ok(Some(WriteOutcome::UnknownGroup));
                };
                if op.only_if_absent {
                    return self.insert(&flow).map(Some);
                }
                self.replace(index, &flow, held)?;
                Ok(None)
            }
        }
    }

    fn flow(&self, op: &FlowOp, record: &FlowRecord, key: FlowKey4, frontend: Frontend) -> Option<NewFlow> {
        Some(NewFlow {
            key,
            endpoint_be: record::ip_be(record.endpoint_address.ip())?,
            endpoint_port_be: record.endpoint_address.port().to_be(),
            address_index: frontend.address_index,
            state_bits: record.state_bits & state::REPLICATED,
            // The kernel counts in 32 bits; a flow with more changes than that is not one.
            n: u32::try_from(record.version.n).unwrap_or(u32::MAX),
            now_ns: record::last_seen(record, self.now),
            birth_ns: record.version.birth,
            epoch: op.epoch.get(),
            service: frontend.service,
            endpoint: record.endpoint.get(),
            mark: op.mark,
            flags: frontend.flow_flags,
            generation: GENERATION.fetch_add(1, Ordering::Relaxed) ^ self.now.0 as u32,
        })
    }

    /// An op that says nothing new: the table's own record stays, and the walk has mentioned it.
    fn mark(
        &mut self,
        op: &FlowOp,
        key: FlowKey4,
        held: Option<FlowValue4>,
    ) -> io::Result<Option<WriteOutcome>> {
        // With `only_if_absent` this node may own the group by now: its entries are the kernel's to change.
        let Some(mut held) = held.filter(|held| held.mark != op.mark && !op.only_if_absent) else {
            return Ok(Some(WriteOutcome::Stale));
        };
        if matches!(op.change, FlowChange::Remove { .. }) {
            return Ok(Some(WriteOutcome::Stale));
        }
        held.mark = op.mark;
        match self.maps.flows.put(&key, &held, sys::EXIST) {
            Err(error) if error.raw_os_error() != Some(libc::ENOENT) => Err(error),
            _ => Ok(Some(WriteOutcome::Stale)),
        }
    }

    fn replace(&mut self, index: usize, flow: &NewFlow, held: Option<FlowValue4>) -> io::Result<()> {
        let reply = flow.reply_key();
        if self.waiting.contains(&reply) {
            self.flush();
        }
        // Another endpoint than before: its tuple is free again.
        if let Some(held) = held.filter(|held| held.twin != reply) {
            self.remove_reply(&held)?;
        }
        self.waiting.insert(flow.key);
        self.waiting.insert(reply);
        self.replies.0.push(reply);
        self.replies.1.push(flow.reply());
        self.originals.0.push(flow.key);
        self.originals.1.push(flow.original());
        self.owners.push(index);
        if self.owners.len() >= BATCH {
            self.flush();
        }
        Ok(())
    }

    /// As the kernel inserts: the reply reserves, the original completes, and whoever comes second leaves no trace.
    fn insert(&mut self, flow: &NewFlow) -> io::Result<WriteOutcome> {
        let flows = &self.maps.flows;
        match flows.put(&flow.reply_key(), &flow.reply(), sys::NOEXIST) {
            Ok(()) => {}
            Err(error) if error.raw_os_error() == Some(libc::EEXIST) => return Ok(WriteOutcome::Stale),
            Err(error) => return Ok(failed(&error)),
        }
        match flows.put(&flow.key, &flow.original(), sys::NOEXIST) {
            Ok(()) => Ok(WriteOutcome::Applied),
            Err(error) => {
                flows.remove(&flow.reply_key())?;
                let lost_race = error.raw_os_error() == Some(libc::EEXIST);
                Ok(if lost_race { WriteOutcome::Stale } else { failed(&error) })
            }
        }
    }

    fn remove(&mut self, held: &FlowValue4) -> io::Result<()> {
        if self.waiting.contains(&held.twin) {
            self.flush();
        }
        self.maps.flows.remove(&held.key)?;
        self.remove_reply(held)
    }

    fn remove_reply(&mut self, held: &FlowValue4) -> io::Result<()> {
        let reply = self.maps.flows.get(&held.twin)?;
        if reply.is_some_and(|reply| reply.kind == REPLY && reply.twin == held.key) {
            self.maps.flows.remove(&held.twin)?;
        }
        Ok(())
    }

    /// Writes what waits, replies first. What did not fit leaves no reply behind.
    fn flush(&mut self) {
        self.waiting.clear();
        let replies = std::mem::take(&mut self.replies);
        let originals = std::mem::take(&mut self.originals);
        let owners = std::mem::take(&mut self.owners);

        let mut from = 0;
        while from < owners.len() {
            let (done, result) = self.maps.flows.put_all(&replies.0[from..], &replies.1[from..], sys::ANY);
            let until = from + done;
            self.put_originals(&originals, &owners, from..until);
            from = until;
            if let Err(error) = result {
                // This one did not go in; the next may (it may replace an entry that is there).
                self.outcomes[owners[from]] = failed(&error);
                from += 1;
            }
        }
    }

    fn put_originals(
        &mut self,
        originals: &(Vec<FlowKey4>, Vec<FlowValue4>),
        owners: &[usize],
        range: std::ops::Range<usize>,
    ) {
        let mut from = range.start;
        while from < range.end {
            let (keys, values) = (&originals.0[from..range.end], &originals.1[from..range.end]);
            let (done, result) = self.maps.flows.put_all(keys, values, sys::ANY);
            from += done;
            let Err(error) = result else { return };
            let mut outcome = failed(&error);
            if let Err(error) = self.remove_reply(&originals.1[from]) {
                outcome = failed(&error);
            }
            self.outcomes[owners[from]] = outcome;
            from += 1;
        }
    }
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
