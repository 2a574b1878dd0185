//! Events in, writes out; the writes are made in a model of the kernel's maps that refuses an unsafe order.

mod adopt;
mod full;
mod links;
mod neighbours;
mod random;
mod stamps;

use super::*;
use crate::hops::event::{NUD_PERMANENT, NUD_REACHABLE, key};

pub(super) const ETH0: u32 = 2;
pub(super) const ETH1: u32 = 3;
pub(super) const OWN: [u8; 6] = [2, 0, 0, 0, 0, 0xff];

/// What the programs see.
#[derive(Default)]
pub(super) struct Kernel {
    pub(super) hops: BTreeMap<u32, HopValue>,
    pub(super) index: BTreeMap<HopKey, u32>,
    pub(super) stamp: u32,
    pub(super) by_destination: Option<bool>,
    /// Indexes that flows may still name: freed, and since then 0: nothing, 1: a new stamp, 2: and a grace period.
    resting: BTreeMap<u32, u8>,
}

impl Kernel {
    fn write(&mut self, write: Write) {
        match write {
            Write::SetHop { index, value } => {
                assert_ne!(index, 0, "index 0 is no hop");
                let owned = self.index.values().any(|used| *used == index);
                let rested = self.resting.get(&index).is_none_or(|steps| *steps == 2);
                assert!(owned || rested, "index {index} is given away while flows may name it");
                self.hops.insert(index, value);
            }
            Write::SetIndex { key, index } => {
                assert_eq!(self.hops[&index].flags & USABLE, USABLE, "the hop is written before its key");
                assert_eq!(self.hops[&index].ifindex, key.ifindex);
                assert!(self.index.values().all(|used| *used != index), "index {index} has two keys");
                self.resting.remove(&index);
                self.index.insert(key, index);
            }
            Write::RemoveIndex { key } => {
                let index = self.index.remove(&key).expect("only a key that is there is removed");
                if self.index.values().all(|used| *used != index) {
                    assert_eq!(self.hops[&index].flags, 0, "the hop is unusable before its key goes");
                    self.resting.insert(index, 0);
                }
            }
            Write::RaiseStamp { stamp } => {
                assert!(stamp != self.stamp && stamp != 0);
                self.stamp = stamp;
                self.resting.values_mut().for_each(|steps| *steps = (*steps).max(1));
            }
            Write::ByDestination(value) => self.by_destination = Some(value),
            Write::WaitGrace => {
                self.resting.values_mut().filter(|steps| **steps == 1).for_each(|steps| *steps = 2);
            }
        }
    }

    /// The hop that the slow path finds.
    pub(super) fn hop(&self, key: &HopKey) -> Option<&HopValue> {
        self.index.get(key).map(|index| &self.hops[index]).filter(|value| value.flags & USABLE != 0)
    }
}

/// A table with its kernel, at a time of its own.
pub(super) struct Rig {
    pub(super) table: HopTable,
    pub(super) kernel: Kernel,
    pub(super) now: Instant,
}

impl Rig {
    /// Nothing known, the stamp raised for the first time, and that a while ago.
    pub(super) fn sized(max_hops: u32) -> Self {
        let xdp = BTreeSet::from(["eth0".to_owned()]);
        Self::start(HopTable::sized(xdp, Adopted::default(), max_hops), Kernel::default())
    }

    pub(super) fn start(table: HopTable, kernel: Kernel) -> Self {
        let mut rig = Self { table, kernel, now: Instant::now() };
        rig.settle();
        rig.later();
        rig
    }

    /// `eth0` and `eth1` are up, and `eth0` has a neighbour .11.
    pub(super) fn new() -> Self {
        let mut rig = Self::sized(64);
        rig.tell([
            HopEvent::Link(link(ETH0, "eth0")),
            HopEvent::Link(link(ETH1, "eth1")),
            HopEvent::Neighbour(neighbour(ETH0, 11)),
        ]);
        rig.later();
        rig
    }

    /// The events at once, and the writes they make now.
    pub(super) fn tell(&mut self, events: impl IntoIterator<Item = HopEvent>) -> Vec<Write> {
        events.into_iter().for_each(|event| self.table.handle(event));
        self.settle()
    }

    pub(super) fn settle(&mut self) -> Vec<Write> {
        self.table.settle(self.now);
        let mut writes = Vec::new();
        while let Some(write) = self.table.next_write() {
            self.kernel.write(write);
            self.table.written();
            writes.push(write);
        }
        writes
    }

    /// So much later that a stamp may be raised; what is due is done.
    pub(super) fn later(&mut self) -> Vec<Write> {
        self.now += MIN_STAMP_LIFE;
        self.settle()
    }

    pub(super) fn hop(&self, ifindex: u32, host: u8) -> Option<HopValue> {
        self.kernel.hop(&at(ifindex, host)).copied()
    }
}

pub(super) fn at(ifindex: u32, host: u8) -> HopKey {
    key(ifindex, IpAddr::from([10, 0, 0, host]))
}

pub(super) fn mac(host: u8) -> [u8; 6] {
    [2, 0, 0, 0, 0, host]
}

pub(super) fn link(ifindex: u32, name: &str) -> Link {
    Link {
        ifindex,
        name: name.into(),
        ethernet: true,
        running: true,
        mac: Some(OWN),
        mtu: 1500,
        master: 0,
        kind: Some("veth".into()),
    }
}

pub(super) fn neighbour(ifindex: u32, host: u8) -> Neighbour {
    Neighbour { key: at(ifindex, host), mac: Some(mac(host)), state: NUD_REACHABLE, kept: false }
}

pub(super) fn permanent(ifindex: u32, host: u8) -> Neighbour {
    Neighbour { state: NUD_PERMANENT, kept: true, ..neighbour(ifindex, host) }
}

pub(super) fn raised(writes: &[Write]) -> usize {
    writes.iter().filter(|write| matches!(write, Write::RaiseStamp { .. })).count()
}
