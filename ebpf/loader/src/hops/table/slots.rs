//! Who has which index. Every index but 0 is used (by a key), free, or in quarantine: flows may still name it
//! beside the current stamp.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;

use lockstep_abi::hop::{HopKey, HopValue, USABLE};

struct Slot {
    index: u32,
    /// As it was last written.
    value: HopValue,
}

impl Slot {
    fn is_usable(&self) -> bool {
        self.value.flags & USABLE != 0
    }
}

pub(super) struct Slots {
    used: BTreeMap<HopKey, Slot>,
    free: BTreeSet<u32>,
    quarantine: BTreeSet<u32>,
}

impl Slots {
    /// Goes on from what is in the kernel. Also answers keys that cannot be kept: their index does not exist, or
    /// belongs to two. An index without a key may have been freed a moment ago: it starts in quarantine.
    pub(super) fn adopt(entries: Vec<(HopKey, u32, HopValue)>, max_hops: u32) -> (Self, Vec<HopKey>) {
        let mut quarantine: BTreeSet<u32> = (1..max_hops).collect();
        let mut used = BTreeMap::new();
        let mut invalid = Vec::new();
        for (key, index, value) in entries {
            if quarantine.remove(&index) {
                used.insert(key, Slot { index, value });
            } else {
                invalid.push(key);
            }
        }
        (Self { used, free: BTreeSet::new(), quarantine }, invalid)
    }

    /// Gives the key a free index.
    pub(super) fn insert(&mut self, key: HopKey, value: HopValue) -> Option<u32> {
        let index = self.free.pop_first()?;
        let before = self.used.insert(key, Slot { index, value });
        assert!(before.is_none(), "a key has one index");
        Some(index)
    }

    /// Notes a value. `None`: the key has no index; `Some(None)`: it has this value already; else the index to write.
    pub(super) fn set(&mut self, key: &HopKey, value: HopValue) -> Option<Option<u32>> {
        let slot = self.used.get_mut(key)?;
        let changed = slot.value != value;
        slot.value = value;
        Some(changed.then_some(slot.index))
    }

    /// Takes the hop's flags away; the rest stays, for a packet that is just looking. What to write, if anything.
    pub(super) fn disable(&mut self, key: &HopKey) -> Option<(u32, HopValue)> {
        let slot = self.used.get_mut(key).filter(|slot| slot.value.flags != 0)?;
        slot.value.flags = 0;
        Some((slot.index, slot.value))
    }

    /// Takes the index from the key; whether it had one.
    pub(super) fn release(&mut self, key: &HopKey) -> bool {
        let Some(slot) = self.used.remove(key) else { return false };
        assert!(slot.value.flags == 0, "a hop is unusable before its index is freed");
        self.quarantine.insert(slot.index)
    }

    /// Flows with the current stamp name none of these indexes any more.
    pub(super) fn end_quarantine(&mut self) {
        self.free.append(&mut self.quarantine);
    }

    pub(super) fn has_free(&self) -> bool {
        !self.free.is_empty()
    }

    pub(super) fn has_quarantined(&self) -> bool {
        !self.quarantine.is_empty()
    }

    pub(super) fn is_usable(&self, key: &HopKey) -> bool {
        self.used.get(key).is_some_and(Slot::is_usable)
    }

    pub(super) fn count(&self) -> u64 {
        self.used.len() as u64
    }

    pub(super) fn usable_count(&self) -> u64 {
        self.used.values().filter(|slot| slot.is_usable()).count() as u64
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = HopKey> {
        self.used.keys().copied()
    }

    pub(super) fn range(&self, keys: RangeInclusive<HopKey>) -> impl Iterator<Item = HopKey> {
        self.used.range(keys).map(|(key, _)| *key)
    }

    /// Keys whose hop is not usable.
    pub(super) fn idle(&self) -> impl Iterator<Item = HopKey> {
        self.used.iter().filter(|(_, slot)| slot.value.flags == 0).map(|(key, _)| *key)
    }

    /// Interfaces that hops are on.
    pub(super) fn ifindexes(&self) -> impl Iterator<Item = u32> {
        self.used.keys().map(|key| key.ifindex)
    }
}
