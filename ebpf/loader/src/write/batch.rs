//! Flows that wait to be written together: one system call for many entries.

use std::collections::HashSet;
use std::io;

use foldhash::fast::RandomState;
use lockstep_abi::flow::{FlowKey, FlowValue, NewFlow, REPLY};
use lockstep_model::flow::WriteOutcome;

use super::{failed, has_reply};
use crate::family::KernelFamily;
use crate::map::Map;
use crate::sys;

/// Flows written by one system call for each direction.
const BATCH: usize = 512;

pub(super) type Flows<A> = Map<FlowKey<A>, FlowValue<A>>;

/// Keys, values, and whose outcome it is.
pub(super) struct Entries<A> {
    keys: Vec<FlowKey<A>>,
    values: Vec<FlowValue<A>>,
    owners: Vec<usize>,
}

impl<A> Entries<A> {
    pub(super) const fn new() -> Self {
        Self { keys: Vec::new(), values: Vec::new(), owners: Vec::new() }
    }
}

impl<A: KernelFamily> Entries<A> {
    pub(super) fn push(&mut self, owner: usize, key: FlowKey<A>, value: FlowValue<A>) {
        self.keys.push(key);
        self.values.push(value);
        self.owners.push(owner);
    }

    pub(super) fn is_full(&self) -> bool {
        self.owners.len() >= BATCH
    }

    pub(super) fn take(&mut self) -> Self {
        std::mem::replace(self, Self::new())
    }

    /// Writes all; `refused` gets position and owner of each that did not go in. The next one may (it may replace an
    /// entry that is there).
    pub(super) fn put(&self, flows: &Flows<A>, mut refused: impl FnMut(usize, usize, io::Error)) {
        let mut from = 0;
        while from < self.owners.len() {
            let (done, result) = flows.put_all(&self.keys[from..], &self.values[from..], sys::ANY);
            from += done;
            let Err(error) = result else { return };
            refused(from, self.owners[from], error);
            from += 1;
        }
    }
}

/// What waits.
pub(super) struct Batch<A> {
    replies: Entries<A>,
    originals: Entries<A>,
    /// The keys of both directions: an op on one of them must see it written.
    keys: HashSet<FlowKey<A>, RandomState>,
}

impl<A: KernelFamily> Batch<A> {
    pub(super) fn new() -> Self {
        Self { replies: Entries::new(), originals: Entries::new(), keys: HashSet::default() }
    }

    pub(super) fn holds(&self, key: &FlowKey<A>) -> bool {
        !self.keys.is_empty() && self.keys.contains(key)
    }

    pub(super) fn is_full(&self) -> bool {
        self.originals.is_full()
    }

    pub(super) fn push(&mut self, owner: usize, flow: NewFlow<A>) {
        self.keys.insert(flow.key);
        self.originals.push(owner, flow.key, flow.original());
        if has_reply(&flow) {
            self.keys.insert(flow.reply_key);
            self.replies.push(owner, flow.reply_key, flow.reply());
        }
    }

    /// Writes what waits, replies first. What did not fit leaves no reply behind.
    pub(super) fn flush(&mut self, flows: &Flows<A>, outcomes: &mut [WriteOutcome]) {
        if self.originals.owners.is_empty() {
            return;
        }
        self.keys.clear();
        let (replies, mut originals) = (self.replies.take(), self.originals.take());
        let mut lost: HashSet<usize> = HashSet::new();
        replies.put(flows, |_, owner, error| {
            outcomes[owner] = failed(&error);
            lost.insert(owner);
        });
        if !lost.is_empty() {
            let waiting = originals.take();
            for (at, owner) in waiting.owners.iter().enumerate().filter(|(_, owner)| !lost.contains(owner)) {
                originals.push(*owner, waiting.keys[at], waiting.values[at]);
            }
        }
        originals.put(flows, |at, owner, error| {
            let mut outcome = failed(&error);
            if let Err(error) = remove_reply(flows, &originals.values[at]) {
                outcome = failed(&error);
            }
            outcomes[owner] = outcome;
        });
    }
}

/// Removes the reply entry of an original, if there is one that is its own.
pub(super) fn remove_reply<A: KernelFamily>(flows: &Flows<A>, held: &FlowValue<A>) -> io::Result<()> {
    let reply = flows.get(&held.twin)?;
    if reply.is_some_and(|reply| reply.kind() == REPLY && reply.twin == held.key) {
        flows.remove(&held.twin)?;
    }
    Ok(())
}
