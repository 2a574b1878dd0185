//! Flows that are probably not there yet: their originals are inserted without being looked up before, which saves half of the
//! work of a new flow. The kernel says whether the key was taken; such a flow is compared as all others are.
//!
//! (`BPF_MAP_UPDATE_BATCH` takes no `BPF_NOEXIST`, so originals go one by one. Replies wait here and go together.)

use std::collections::HashSet;
use std::io;

use foldhash::fast::RandomState;
use lockstep_abi::flow::{FlowKey, NewFlow};
use lockstep_model::flow::WriteOutcome;

use super::batch::{Entries, Flows};
use super::{failed, has_reply};
use crate::family::KernelFamily;
use crate::sys;

/// Replies of originals that are in the table.
pub(super) struct Fresh<A> {
    replies: Entries<A>,
    /// In the same order.
    originals: Vec<FlowKey<A>>,
    /// The keys of both directions.
    keys: HashSet<FlowKey<A>, RandomState>,
}

impl<A: KernelFamily> Fresh<A> {
    pub(super) fn new() -> Self {
        Self { replies: Entries::new(), originals: Vec::new(), keys: HashSet::default() }
    }

    pub(super) fn holds(&self, key: &FlowKey<A>) -> bool {
        !self.keys.is_empty() && self.keys.contains(key)
    }

    pub(super) fn is_full(&self) -> bool {
        self.replies.is_full()
    }

    /// Whether the flow was new. The original goes first here: it decides that. This node does not forward meanwhile; of
    /// whoever opens its lease in between, the program repairs a missing reply.
    pub(super) fn insert(&mut self, flows: &Flows<A>, owner: usize, flow: &NewFlow<A>) -> io::Result<bool> {
        match flows.put(&flow.key, &flow.original(), sys::NOEXIST) {
            Ok(()) => {}
            Err(error) if error.raw_os_error() == Some(libc::EEXIST) => return Ok(false),
            Err(error) => return Err(error),
        }
        if has_reply(flow) {
            self.keys.insert(flow.key);
            self.keys.insert(flow.reply_key);
            self.originals.push(flow.key);
            self.replies.push(owner, flow.reply_key, flow.reply());
        }
        Ok(true)
    }

    /// Writes the replies. Half a flow is none: where one does not go in, the original is taken out.
    pub(super) fn flush(&mut self, flows: &Flows<A>, outcomes: &mut [WriteOutcome]) {
        if self.originals.is_empty() {
            return;
        }
        self.keys.clear();
        let (replies, originals) = (self.replies.take(), std::mem::take(&mut self.originals));
        replies.put(flows, |at, owner, error| {
            let removed = flows.remove(&originals[at]);
            outcomes[owner] = failed(&removed.err().unwrap_or(error));
        });
    }
}
