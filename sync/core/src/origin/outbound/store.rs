//! The newest versions that a peer may lack. Everything else names them by slot, so that only a change of the kernel's looks a
//! key up.

use std::collections::{HashMap, VecDeque};

use foldhash::fast::FixedState;
use lockstep_model::flow::{FlowChange, FlowKey};
use lockstep_model::ids::GroupId;

use super::queues::Place;
use crate::time::Time;

/// The newest version of a flow that the peer may lack.
#[derive(Debug)]
pub(super) struct Dirty {
    pub(super) change: FlowChange,
    /// Since when the peer lacks something of this flow.
    pub(super) since: Time,
    pub(super) place: Place,
    pub(super) refusals: u32,
    /// A walk found it, no change of the kernel's told of it.
    pub(super) walked: bool,
    /// It waited by intention: what it took says nothing of how fast flows are replicated.
    pub(super) late: bool,
    /// Tells it from what was in the slot before.
    serial: u64,
}

/// Where one of them is, until it is removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Slot(u32);

/// All of them.
///
/// Clients choose their addresses and ports, so the table of keys is seeded: by the session, which nobody can guess, and
/// which keeps a simulation repeatable. Its order decides nothing.
#[derive(Debug)]
pub(super) struct Store {
    slots: Vec<Option<Dirty>>,
    free: Vec<Slot>,
    by_key: HashMap<FlowKey, Slot, FixedState>,
    /// In the order in which they came; what is gone by now is dropped when it comes to the front.
    ages: VecDeque<(Slot, u64)>,
    serials: u64,
}

/// Entries of `ages` that are gone, beyond which they are looked for.
const SPARE_AGES: usize = 1024;

impl Store {
    pub(super) fn new(seed: u64) -> Self {
        let by_key = HashMap::with_hasher(FixedState::with_seed(seed));
        Self { slots: Vec::new(), free: Vec::new(), by_key, ages: VecDeque::new(), serials: 0 }
    }

    pub(super) fn len(&self) -> usize {
        self.by_key.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.by_key.is_empty()
    }

    pub(super) fn find(&self, key: &FlowKey) -> Option<Slot> {
        self.by_key.get(key).copied()
    }

    pub(super) fn get(&self, slot: Slot) -> Option<&Dirty> {
        self.slots.get(slot.0 as usize)?.as_ref()
    }

    pub(super) fn get_mut(&mut self, slot: Slot) -> Option<&mut Dirty> {
        self.slots.get_mut(slot.0 as usize)?.as_mut()
    }

    /// A flow that is not there; `place` is where it goes.
    pub(super) fn insert(
        &mut self,
        now: Time,
        change: FlowChange,
        walked: bool,
        place: impl FnOnce(Slot) -> Place,
    ) {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            Slot(u32::try_from(self.slots.len() - 1).expect("fewer than the limit of dirty flows"))
        });
        self.serials += 1;
        let serial = self.serials;
        let before = self.by_key.insert(*change.key(), slot);
        assert!(before.is_none(), "inserted only what is not there");
        self.ages.push_back((slot, serial));
        let place = place(slot);
        let late = matches!(place, Place::Later { .. });
        let dirty = Dirty { change, since: now, place, refusals: 0, walked, late, serial };
        self.slots[slot.0 as usize] = Some(dirty);
    }

    pub(super) fn remove(&mut self, slot: Slot) {
        if let Some(dirty) = self.slots.get_mut(slot.0 as usize).and_then(Option::take) {
            self.by_key.remove(dirty.change.key());
            self.free.push(slot);
            self.forget_ages();
        }
    }

    pub(super) fn remove_group(&mut self, group: GroupId) {
        for slot in (0..self.slots.len() as u32).map(Slot) {
            if self.get(slot).is_some_and(|dirty| dirty.change.group() == group) {
                self.remove(slot);
            }
        }
    }

    /// Gives the memory back as well.
    pub(super) fn clear(&mut self) {
        self.slots = Vec::new();
        self.free = Vec::new();
        self.by_key.clear();
        self.by_key.shrink_to_fit();
        self.ages = VecDeque::new();
    }

    /// Since when the one waits that has waited longest.
    pub(super) fn oldest(&self) -> Option<Time> {
        let (slot, _) = self.ages.front()?;
        self.get(*slot).map(|dirty| dirty.since)
    }

    fn is_there(&self, (slot, serial): (Slot, u64)) -> bool {
        self.get(slot).is_some_and(|dirty| dirty.serial == serial)
    }

    fn forget_ages(&mut self) {
        while self.ages.front().is_some_and(|front| !self.is_there(*front)) {
            self.ages.pop_front();
        }
        if self.ages.len() > 2 * self.len() + SPARE_AGES {
            let mut ages = std::mem::take(&mut self.ages);
            ages.retain(|age| self.is_there(*age));
            self.ages = ages;
        }
    }
}

#[cfg(test)]
mod tests {
    use lockstep_model::flow::FlowVersion;
    use lockstep_model::protocol::Protocol;

    use super::*;

    fn change(port: u16) -> FlowChange {
        let key = FlowKey {
            client: ([10, 0, 0, 1], port).into(),
            service: ([192, 0, 2, 10], 443).into(),
            protocol: Protocol::Tcp,
        };
        FlowChange::Remove { key, group: GroupId(u64::from(port % 2)), version: FlowVersion::default() }
    }

    fn store(ports: impl Iterator<Item = u16>) -> Store {
        let mut store = Store::new(7);
        for port in ports {
            store.insert(Time::from_nanos(port.into()), change(port), false, |_| Place::Live(port.into()));
        }
        store
    }

    fn slot(store: &Store, port: u16) -> Slot {
        store.find(change(port).key()).unwrap()
    }

    #[test]
    fn the_oldest_is_the_one_that_waits_longest_whatever_went() {
        let mut store = store(1..=5);
        let oldest = |store: &Store| store.oldest().map(Time::as_nanos);
        assert_eq!(oldest(&store), Some(1));
        for (gone, left) in [(3, Some(1)), (1, Some(2)), (2, Some(4)), (5, Some(4)), (4, None)] {
            let slot = slot(&store, gone);
            store.remove(slot);
            assert_eq!(oldest(&store), left, "without {gone}");
        }
        // A slot that is used again is not what it was.
        store.insert(Time::from_nanos(9), change(9), false, |_| Place::Live(9));
        assert_eq!((oldest(&store), store.len()), (Some(9), 1));
    }

    #[test]
    fn one_that_stays_does_not_keep_the_ages_of_all_others() {
        let mut store = store(0..=0);
        for round in 0..5000u16 {
            store.insert(Time::from_nanos(1), change(round + 1), false, |_| Place::Live(1));
            let slot = slot(&store, round + 1);
            store.remove(slot);
        }
        assert!(store.ages.len() <= 2 * store.len() + SPARE_AGES + 1, "{}", store.ages.len());
        assert!(store.slots.len() <= 2, "slots are used again");
    }

    #[test]
    fn a_group_goes_as_a_whole() {
        let mut store = store(0..10);
        store.remove_group(GroupId(1));
        assert_eq!(store.len(), 5);
        assert_eq!(store.oldest(), Some(Time::from_nanos(0)));
        assert!(store.find(change(1).key()).is_none() && store.find(change(2).key()).is_some());
        store.clear();
        assert!(store.is_empty() && store.oldest().is_none());
    }
}
