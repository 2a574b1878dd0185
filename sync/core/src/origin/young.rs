//! Flows of services whose policy is `after:…`, until they are old enough to be sent.
//!
//! ```text
//!   made ──► waiting ──► old enough: sent, and every change from then on
//!              ├──► closed when it is old enough: over, kept until it is removed
//!              └──► removed: forgotten
//! ```
//!
//! Births must be of the clock that the caller's [`Time`] is of. A flow that another node made has a birth of that node's
//! clock, cut to this one's when it was taken in: it waits too long at most by its policy's time.
//!
//! At the limit, and when a group is handed over, young flows are sent as those of other services are.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use foldhash::fast::FixedState;
use lockstep_model::flow::{FlowChange, FlowKey, FlowRecord, FlowState};
use lockstep_model::ids::{GroupId, ServiceId};

use super::OriginCounters;
use crate::limits::MAX_YOUNG;
use crate::time::Time;

#[derive(Debug)]
struct Held {
    record: FlowRecord,
    /// When it is old enough; `None`: it was, and had closed before.
    due: Option<Time>,
}

/// See the module. The orders of the tables decide nothing.
#[derive(Debug)]
pub(super) struct Young {
    ages: BTreeMap<ServiceId, Duration>,
    held: HashMap<FlowKey, Held, FixedState>,
    due: BTreeSet<(Time, FlowKey)>,
    /// Flows of these services that were sent: their end must be told, also that of a later flow with the same key, which a
    /// peer has never heard of. No more than the kernel's table has flows.
    sent: HashMap<FlowKey, GroupId, FixedState>,
}

impl Young {
    /// None. `seed` is nothing that a client can know.
    pub(super) fn new(seed: u64) -> Self {
        let seeded = FixedState::with_seed(seed);
        Self {
            ages: BTreeMap::new(),
            held: HashMap::with_hasher(seeded.clone()),
            due: BTreeSet::new(),
            sent: HashMap::with_hasher(seeded),
        }
    }

    /// Flows of one shard that no peer was told of.
    pub(super) fn of_shard(&self, shard: u8) -> impl Iterator<Item = (GroupId, &FlowKey)> {
        let held = self.held.iter().filter(move |(key, _)| key.shard() == shard);
        held.map(|(key, held)| (held.record.group, key))
    }

    /// How long flows of these services live before they are sent. What waited by another rule comes back.
    pub(super) fn set_ages(&mut self, ages: BTreeMap<ServiceId, Duration>) -> Vec<FlowRecord> {
        let changed = |service: &ServiceId| self.ages.get(service) != ages.get(service);
        let keys: Vec<_> =
            self.held.iter().filter(|(_, held)| changed(&held.record.service)).map(|(key, _)| *key).collect();
        let mut released: Vec<_> =
            keys.into_iter().filter_map(|key| self.take(&key)).map(|h| h.record).collect();
        released.sort_unstable_by_key(|record| record.key);
        self.ages = ages;
        released
    }

    /// Whether a change may be sent now; else it is kept, or of no interest to anybody else.
    pub(super) fn admits(&mut self, now: Time, change: &FlowChange, counters: &mut OriginCounters) -> bool {
        if self.ages.is_empty() && self.held.is_empty() && self.sent.is_empty() {
            return true;
        }
        match change {
            FlowChange::Remove { key, version, .. } => {
                let held = self.held.get(key).is_some_and(|held| held.record.version <= *version);
                if held {
                    self.take(key);
                    counters.young_ended += 1;
                }
                self.sent.remove(key).is_some() || !held
            }
            FlowChange::Upsert(record) => self.admits_record(now, record, counters),
        }
    }

    fn admits_record(&mut self, now: Time, record: &FlowRecord, counters: &mut OriginCounters) -> bool {
        let Some(age) = self.ages.get(&record.service) else { return true };
        let due = Time::from_nanos(record.version.birth) + *age;
        if let Some(held) = self.held.get_mut(&record.key) {
            if record.version <= held.record.version {
                return false;
            }
            let same = record.version.birth == held.record.version.birth;
            if same && (held.due.is_some() || record.state == FlowState::Closed) {
                held.record = record.clone();
                return false;
            }
            // Another flow, or one that goes on after all.
            self.take(&record.key);
        }
        if now >= due || self.held.len() >= MAX_YOUNG {
            counters.young_overflows += u64::from(now < due);
            self.sent.insert(record.key, record.group);
            return true;
        }
        self.held.insert(record.key, Held { record: record.clone(), due: Some(due) });
        self.due.insert((due, record.key));
        counters.young_held += 1;
        false
    }

    /// The next flow that is old enough.
    pub(super) fn pop_due(&mut self, now: Time, counters: &mut OriginCounters) -> Option<FlowRecord> {
        while let Some((at, key)) = self.due.first().copied().filter(|(at, _)| *at <= now) {
            self.due.remove(&(at, key));
            let held = self.held.get_mut(&key).expect("what is due is held");
            held.due = None;
            if held.record.state == FlowState::Closed {
                counters.young_closed += 1;
                continue;
            }
            return self.release(&key);
        }
        None
    }

    /// Everything of `group` that is not over, whatever its age.
    pub(super) fn release_group(&mut self, group: GroupId) -> Vec<FlowRecord> {
        let ours = |held: &Held| held.record.group == group && held.record.state != FlowState::Closed;
        let keys: Vec<_> = self.due.iter().map(|(_, key)| *key).filter(|key| ours(&self.held[key])).collect();
        keys.iter().filter_map(|key| self.release(key)).collect()
    }

    fn release(&mut self, key: &FlowKey) -> Option<FlowRecord> {
        let record = self.take(key)?.record;
        self.sent.insert(*key, record.group);
        Some(record)
    }

    fn take(&mut self, key: &FlowKey) -> Option<Held> {
        let held = self.held.remove(key)?;
        if let Some(due) = held.due {
            self.due.remove(&(due, *key));
        }
        Some(held)
    }

    /// Drops what is kept of a group.
    pub(super) fn forget_group(&mut self, group: GroupId) {
        self.held.retain(|_, held| held.record.group != group);
        let held = &self.held;
        self.due.retain(|(_, key)| held.contains_key(key));
        self.sent.retain(|_, of| *of != group);
    }

    pub(super) fn holds(&self, key: &FlowKey) -> bool {
        self.held.contains_key(key)
    }

    /// Flows that wait.
    pub(super) fn waiting(&self) -> usize {
        self.due.len()
    }

    pub(super) fn next_due(&self) -> Option<Time> {
        self.due.first().map(|(at, _)| *at)
    }
}
