//! The table's core: events go in, map writes come out. No sockets, no clock, no maps.
//!
//! A hop exists for each neighbour that the kernel would send to, on an Ethernet link that is up with carrier.
//!
//! ```text
//!            usable again
//!         ┌────────────────┐
//! free ─► used ─► idle ────┘        idle: the key keeps its index, the hop is not usable
//!  ▲       └───────┴─► quarantine   its link is gone, or the table is full
//!  └── stamp raised, grace period ──┘
//! ```

mod slots;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use lockstep_abi::hop::{HopKey, HopValue, USABLE, XDP};
use lockstep_abi::map::MAX_HOPS;

use super::event::{HopEvent, Link, Neighbour, address};
use slots::Slots;

/// A stamp holds at least this long, so that a routing daemon that installs a full table does not send every packet
/// through the slow path: a route takes effect on live flows within this time.
pub(super) const MIN_STAMP_LIFE: Duration = Duration::from_millis(100);
/// Neighbours that are remembered, with or without a hop.
const MAX_NEIGHBOURS: usize = 16384;
/// Links that are remembered.
const MAX_LINKS: usize = 16384;
/// Lost hops that are named; the rest is only counted.
const MAX_NAMED: usize = 16;

/// A change of the kernel's maps. They are made in the order given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Write {
    /// `HOPS[index] = value`
    SetHop {
        /// Not 0.
        index: u32,
        /// The whole value.
        value: HopValue,
    },
    /// `HOP_INDEX[key] = index`
    SetIndex {
        /// The neighbour.
        key: HopKey,
        /// Its hop, written before.
        index: u32,
    },
    /// The key is taken out of `HOP_INDEX`.
    RemoveIndex {
        /// The neighbour.
        key: HopKey,
    },
    /// `HOP_STAMP[0] = stamp`
    RaiseStamp {
        /// Not 0.
        stamp: u32,
    },
    /// `HOP_STAMP[1]`: whether the ways of packets depend on their destinations alone.
    ByDestination(bool),
    /// No program may still run that saw what was there before.
    WaitGrace,
}

/// All links, neighbours and rules, read at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Snapshot {
    /// Every link.
    pub(super) links: Vec<Link>,
    /// Every neighbour.
    pub(super) neighbours: Vec<Neighbour>,
    /// No rule looks at more than the destination.
    pub(super) by_destination: bool,
}

impl Default for Snapshot {
    fn default() -> Self {
        Self { links: Vec::new(), neighbours: Vec::new(), by_destination: true }
    }
}

/// What the table counts. The first three stand for now, the rest only grow.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct HopCounts {
    /// Usable hops.
    pub hops: u64,
    /// Neighbours that keep an index but cannot be used now.
    pub idle: u64,
    /// Usable neighbours for which there is no room.
    pub left_out: u64,
    /// How often a neighbour found no room.
    pub full: u64,
    /// Stamps.
    pub raises: u64,
    /// Hops that became unusable.
    pub lost: u64,
    /// Links and neighbours beyond what is remembered.
    pub not_tracked: u64,
}

/// A hop that became unusable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LostHop {
    /// The interface's name, or its number if that is all that is known.
    pub interface: String,
    /// The neighbour.
    pub address: IpAddr,
}

/// What an earlier process left in the maps.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Adopted {
    /// `HOP_STAMP[0]`
    pub stamp: u32,
    /// `HOP_INDEX`, with the hop that each entry names.
    pub entries: Vec<(HopKey, u32, HopValue)>,
}

/// A neighbour that the kernel would send to.
#[derive(Debug, Clone, Copy)]
struct Known {
    mac: [u8; 6],
    kept: bool,
}

/// The table.
pub(super) struct HopTable {
    /// Names of the interfaces with an XDP program of ours.
    xdp: BTreeSet<String>,
    links: BTreeMap<u32, Link>,
    neighbours: BTreeMap<HopKey, Known>,
    slots: Slots,
    waiting: BTreeSet<HopKey>,
    stamp: u32,
    /// As was last written; `None`: whatever an earlier process wrote.
    by_destination: Option<bool>,
    raise: bool,
    raised_at: Option<Instant>,
    writes: VecDeque<Write>,
    counts: HopCounts,
    lost: Vec<LostHop>,
}

impl HopTable {
    /// Goes on from what is in the maps. Nothing of it is believed before [`Self::replace`].
    pub(super) fn new(xdp: BTreeSet<String>, adopted: Adopted) -> Self {
        Self::sized(xdp, adopted, MAX_HOPS)
    }

    /// With indexes below `max_hops`.
    fn sized(xdp: BTreeSet<String>, adopted: Adopted, max_hops: u32) -> Self {
        let (slots, invalid) = Slots::adopt(adopted.entries, max_hops);
        Self {
            xdp,
            links: BTreeMap::new(),
            neighbours: BTreeMap::new(),
            slots,
            waiting: BTreeSet::new(),
            stamp: adopted.stamp,
            by_destination: None,
            raise: true,
            raised_at: None,
            writes: invalid.into_iter().map(|key| Write::RemoveIndex { key }).collect(),
            counts: HopCounts::default(),
            lost: Vec::new(),
        }
    }

    /// Takes an event in. [`Self::settle`] after one or many.
    pub(super) fn handle(&mut self, event: HopEvent) {
        match event {
            HopEvent::Link(link) => self.link(link),
            HopEvent::LinkGone(ifindex) => self.link_gone(ifindex),
            HopEvent::Neighbour(neighbour) => self.neighbour(&neighbour),
            HopEvent::NeighbourGone(key) => self.neighbour_gone(key),
            HopEvent::Routes | HopEvent::RuleGone | HopEvent::Rule(false) => self.raise = true,
            HopEvent::Rule(true) => {
                self.depend(false);
                self.raise = true;
            }
        }
    }

    /// Makes the table what `snapshot` says, whatever was missed. Raises the stamp: routes may have changed as well.
    pub(super) fn replace(&mut self, snapshot: Snapshot) {
        let links: BTreeSet<u32> = snapshot.links.iter().map(|link| link.ifindex).collect();
        let keys: BTreeSet<HopKey> = snapshot.neighbours.iter().map(|neighbour| neighbour.key).collect();
        let gone: BTreeSet<u32> = self.links.keys().copied().chain(self.slots.ifindexes()).collect();
        for ifindex in gone.difference(&links) {
            self.link_gone(*ifindex);
        }
        for key in self.slots.keys().chain(self.neighbours.keys().copied()).collect::<BTreeSet<_>>() {
            if !keys.contains(&key) {
                self.neighbour_gone(key);
            }
        }
        for link in snapshot.links {
            self.link(link);
        }
        for neighbour in &snapshot.neighbours {
            self.neighbour(neighbour);
        }
        self.depend(snapshot.by_destination);
        self.raise = true;
    }

    /// Makes every hop unusable, because nobody watches the neighbours: all packets take the slow path.
    /// [`Self::replace`] brings the hops back.
    pub(super) fn blind(&mut self) {
        for key in self.slots.keys().collect::<Vec<_>>() {
            if let Some((index, value)) = self.slots.disable(&key) {
                self.writes.push_back(Write::SetHop { index, value });
            }
        }
        self.raise = true;
    }

    /// Raises the stamp if something asks for it and the last one is old enough, and then gives freed indexes away.
    pub(super) fn settle(&mut self, now: Instant) {
        if !self.waiting.is_empty() && !self.slots.has_free() {
            for key in self.slots.idle().collect::<Vec<_>>() {
                self.release(&key);
            }
            self.raise |= self.slots.has_quarantined();
        }
        if !self.raise || self.next_deadline().is_some_and(|deadline| now < deadline) {
            return;
        }
        self.raise = false;
        self.raised_at = Some(now);
        self.counts.raises += 1;
        // 0 is the stamp of a flow that has no hop yet.
        self.stamp = self.stamp.checked_add(1).unwrap_or(1);
        self.writes.push_back(Write::RaiseStamp { stamp: self.stamp });
        if self.slots.has_quarantined() {
            self.writes.push_back(Write::WaitGrace);
            self.slots.end_quarantine();
        }
        while let Some(key) = self.waiting.first().copied().filter(|_| self.slots.has_free()) {
            self.update(key);
        }
    }

    /// When to call [`Self::settle`] again, if nothing else happens before.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.raised_at.filter(|_| self.raise).map(|at| at + MIN_STAMP_LIFE)
    }

    /// The write that is due.
    pub(super) fn next_write(&self) -> Option<Write> {
        self.writes.front().copied()
    }

    /// The write that was due is done.
    pub(super) fn written(&mut self) {
        self.writes.pop_front();
    }

    /// Hops that became unusable since the last call, as far as they are named.
    pub(super) fn take_lost(&mut self) -> Vec<LostHop> {
        std::mem::take(&mut self.lost)
    }

    /// Whether the kernel would forget to probe the neighbour, because packets reach it through the table.
    pub(super) fn wants_refresh(&self, key: &HopKey) -> bool {
        self.neighbours.get(key).is_some_and(|known| !known.kept) && self.slots.is_usable(key)
    }

    /// The neighbours to refresh.
    pub(super) fn refreshable(&self) -> impl Iterator<Item = HopKey> {
        self.slots.keys().filter(|key| self.wants_refresh(key))
    }

    /// The counters.
    pub(super) fn counts(&self) -> HopCounts {
        let hops = self.slots.usable_count();
        let idle = self.slots.count() - hops;
        HopCounts { hops, idle, left_out: self.waiting.len() as u64, ..self.counts }
    }

    /// Whether some rule asks for more than the destination.
    pub(super) fn rules_ask_more(&self) -> bool {
        self.by_destination == Some(false)
    }

    /// Before the stamp that is about to be raised: a flow that was told the old answer does not believe its hop.
    fn depend(&mut self, by_destination: bool) {
        if self.by_destination.replace(by_destination) != Some(by_destination) {
            self.writes.push_back(Write::ByDestination(by_destination));
        }
    }

    fn link(&mut self, link: Link) {
        let ifindex = link.ifindex;
        match self.links.get(&ifindex) {
            Some(known) if *known == link => return,
            Some(known) => self.raise |= known.routes_differ(&link),
            None if self.links.len() >= MAX_LINKS => {
                self.counts.not_tracked += 1;
                return;
            }
            None => self.raise = true,
        }
        self.links.insert(ifindex, link);
        for key in self.keys_on(ifindex) {
            self.update(key);
        }
    }

    fn link_gone(&mut self, ifindex: u32) {
        for key in self.keys_on(ifindex) {
            self.neighbours.remove(&key);
            self.update(key);
            self.release(&key);
        }
        self.links.remove(&ifindex);
        self.raise = true;
    }

    fn neighbour(&mut self, neighbour: &Neighbour) {
        let key = neighbour.key;
        match neighbour.usable() {
            None => drop(self.neighbours.remove(&key)),
            Some(_) if self.neighbours.len() >= MAX_NEIGHBOURS && !self.neighbours.contains_key(&key) => {
                self.counts.not_tracked += 1;
                return;
            }
            Some(mac) => drop(self.neighbours.insert(key, Known { mac, kept: neighbour.kept })),
        }
        self.update(key);
    }

    fn neighbour_gone(&mut self, key: HopKey) {
        self.neighbours.remove(&key);
        self.update(key);
    }

    /// Makes the hop of `key` what links and neighbours say.
    fn update(&mut self, key: HopKey) {
        let Some(value) = self.wanted(&key) else {
            self.waiting.remove(&key);
            if let Some((index, value)) = self.slots.disable(&key) {
                self.writes.push_back(Write::SetHop { index, value });
                self.counts.lost += 1;
                if self.lost.len() < MAX_NAMED {
                    let link = self.links.get(&key.ifindex);
                    let interface = link.map_or_else(|| key.ifindex.to_string(), |link| link.name.clone());
                    self.lost.push(LostHop { interface, address: address(&key) });
                }
            }
            return;
        };
        if let Some(change) = self.slots.set(&key, value) {
            self.writes.extend(change.map(|index| Write::SetHop { index, value }));
        } else if let Some(index) = self.slots.insert(key, value) {
            self.waiting.remove(&key);
            // A packet that finds the key finds the hop.
            self.writes.push_back(Write::SetHop { index, value });
            self.writes.push_back(Write::SetIndex { key, index });
        } else if self.waiting.insert(key) && !self.slots.has_quarantined() {
            // Else it waits for the next stamp only.
            self.counts.full += 1;
        }
    }

    /// The hop as it should be; `None` if the neighbour must not be used.
    fn wanted(&self, key: &HopKey) -> Option<HopValue> {
        let link = self.links.get(&key.ifindex)?;
        let known = self.neighbours.get(key)?;
        let takes_xdp = link.may_take_xdp() && self.xdp.contains(&link.name);
        Some(HopValue {
            ifindex: key.ifindex,
            mtu: link.mtu,
            destination_mac: known.mac,
            source_mac: link.source_mac()?,
            flags: USABLE | if takes_xdp { XDP } else { 0 },
            pad: 0,
        })
    }

    /// Takes the index of a key that is not usable any more; it rests until the stamp is raised.
    fn release(&mut self, key: &HopKey) {
        if self.slots.release(key) {
            self.writes.push_back(Write::RemoveIndex { key: *key });
        }
    }

    /// Every key on an interface that has a hop or could have one.
    fn keys_on(&self, ifindex: u32) -> BTreeSet<HopKey> {
        let first = HopKey { ifindex, ..HopKey::default() };
        let last = HopKey { ifindex, family: u32::MAX, address: [u32::MAX; 4] };
        self.neighbours
            .range(first..=last)
            .map(|(key, _)| *key)
            .chain(self.slots.range(first..=last))
            .collect()
    }
}
