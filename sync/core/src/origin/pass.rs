//! One pass over the kernel's table. It serves every walk that was needed when it began; a need that arises
//! later waits for the next pass.

use std::collections::BTreeMap;

use lockstep_model::flow::{FlowKey, FlowRecord, FlowVersion};
use lockstep_model::ids::GroupId;

use crate::message::{StreamId, WalkId};

/// A pass, unique within a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PassId(pub u64);

#[derive(Debug)]
pub(super) struct Pass {
    pub(super) id: PassId,
    walks: BTreeMap<(StreamId, GroupId), WalkId>,
    /// Flows removed since it began. A page may have been read before that, and arrive after the peer has
    /// acknowledged the removal: without this it would bring the flow back.
    removed: BTreeMap<FlowKey, FlowVersion>,
    /// A page is being read.
    pub(super) reading: bool,
    /// The first page was asked for.
    pub(super) started: bool,
}

impl Pass {
    pub(super) fn new(id: PassId) -> Self {
        Self { id, walks: BTreeMap::new(), removed: BTreeMap::new(), reading: false, started: false }
    }

    pub(super) fn add(&mut self, stream: StreamId, group: GroupId, walk: WalkId) {
        self.walks.insert((stream, group), walk);
    }

    pub(super) fn remember_removed(&mut self, key: FlowKey, version: FlowVersion) {
        let held = self.removed.entry(key).or_insert(version);
        *held = version.max(*held);
    }

    pub(super) fn retain(&mut self, keep: impl Fn(StreamId, GroupId, WalkId) -> bool) {
        self.walks.retain(|(stream, group), walk| keep(*stream, *group, *walk));
    }

    pub(super) fn was_removed(&self, record: &FlowRecord) -> bool {
        self.removed.get(&record.key).is_some_and(|removed| *removed >= record.version)
    }

    pub(super) fn walk(&self, stream: StreamId, group: GroupId) -> Option<WalkId> {
        self.walks.get(&(stream, group)).copied()
    }

    pub(super) fn walks(&self) -> impl Iterator<Item = (StreamId, GroupId, WalkId)> + '_ {
        self.walks.iter().map(|((stream, group), walk)| (*stream, *group, *walk))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.walks.is_empty()
    }
}
