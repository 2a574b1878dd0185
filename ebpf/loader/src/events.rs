//! The kernel's flow events, as they happen.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{Ordering, fence};

use aya::maps::{Map, MapData, RingBuf};
use lockstep_abi::event::{ASLEEP, AWAKE, CREATED, FlowEvent};
use lockstep_abi::map as names;
use lockstep_model::flow::{FlowChange, FlowRecord};
use lockstep_model::ids::Epoch;

use crate::clock::KernelInstant;
use crate::error::DataplaneError;
use crate::family::{KernelFamily, V4, V6};
use crate::maps::Maps;
use crate::pins::Pins;
use crate::record;
use crate::service_slots::KnownServices;
use crate::sys;
use crate::targets::Targets;

/// Reads the ring buffer. Whoever waits for its descriptor registers it edge-triggered, and calls [`Self::sleep`] before.
pub struct FlowEvents {
    ring: RingBuf<MapData>,
    maps: Arc<Maps>,
    /// What `LOST_EVENTS` said when last looked at.
    lost: [u64; names::SHARDS as usize],
    malformed: u64,
    /// Whether the programs were told so.
    asleep: bool,
}

type Read = (FlowRecord, Epoch, KernelInstant);

/// What events of a drain are read with.
struct Reader {
    now: KernelInstant,
    services: Arc<KnownServices>,
    targets: Arc<Targets>,
}

impl Reader {
    /// An event of either family; the length tells which.
    fn read(&self, bytes: &[u8]) -> Option<Read> {
        if bytes.len() < size_of::<FlowEvent<V6>>() { self.of::<V4>(bytes) } else { self.of::<V6>(bytes) }
    }

    fn of<A: KernelFamily>(&self, bytes: &[u8]) -> Option<Read> {
        // The kernel rounds a record's length up to eight; both lengths are multiples of that.
        if bytes.len() != size_of::<FlowEvent<A>>() {
            return None;
        }
        // SAFETY: long enough, and any bytes are a FlowEvent; the ring aligns to eight, but nothing relies on it.
        let event: FlowEvent<A> = unsafe { std::ptr::read_unaligned(bytes.as_ptr().cast()) };
        let timeouts = self.services.timeouts(event.service);
        let record = record::of_event(&event, timeouts, &self.targets, self.now)?;
        // Of a change the kernel tells only the tick.
        let at = if event.kind == CREATED { KernelInstant(event.birth_ns).min(self.now) } else { self.now };
        Some((record, Epoch(event.epoch), at))
    }
}

impl FlowEvents {
    pub(crate) fn open(pins: &Pins, maps: Arc<Maps>) -> Result<Self, DataplaneError> {
        let refused = |reason: String| DataplaneError::Incompatible { path: pins.map(names::EVENTS), reason };
        // From the pin, and not from the object: the ring's size is the kernel's to say.
        let map = MapData::from_pin(pins.map(names::EVENTS)).map_err(|error| refused(error.to_string()))?;
        let map = Map::from_map_data(map).map_err(|error| refused(error.to_string()))?;
        let ring = RingBuf::try_from(map).map_err(|error| refused(error.to_string()))?;
        // Zero: what was lost before this process started must be walked for as well.
        Ok(Self { ring, maps, lost: [0; names::SHARDS as usize], malformed: 0, asleep: false })
    }

    /// Hands over at most `max` events in order, with the epoch they happened under and, of a flow that was made, when; of
    /// other changes, when they were read. Answers how many there were.
    pub fn drain(&mut self, max: usize, mut each: impl FnMut(FlowChange, Epoch, KernelInstant)) -> usize {
        let reader = Reader {
            now: KernelInstant::now(),
            services: self.maps.services.known(),
            targets: self.maps.targets.known(),
        };
        let mut count = 0;
        while count < max {
            let Some(item) = self.ring.next() else { break };
            count += 1;
            match reader.read(&item) {
                Some((record, epoch, at)) => each(FlowChange::Upsert(record), epoch, at),
                None => self.malformed += 1,
            }
        }
        if count > 0 && self.asleep {
            // Who is still thought asleep is told too often, no more.
            self.asleep = self.tell(AWAKE).is_err();
        }
        count
    }

    /// From now on each event makes the descriptor readable, until some were drained. Whether that was not so before:
    /// then events may have come that told nobody, and must be drained.
    pub fn sleep(&mut self) -> Result<bool, DataplaneError> {
        if self.asleep {
            return Ok(false);
        }
        self.tell(ASLEEP).map_err(DataplaneError::map(names::EVENT_READER))?;
        self.asleep = true;
        // The programs put an event into the ring, and then look whether anybody sleeps.
        fence(Ordering::SeqCst);
        Ok(true)
    }

    fn tell(&self, reader: u32) -> io::Result<()> {
        self.maps.event_reader.put(&0, &reader, sys::ANY)
    }

    /// The shards that lost an event since this was last asked, one bit each: they need a walk. The first call
    /// tells of losses since the maps were made.
    pub fn take_lost(&mut self) -> Result<u8, DataplaneError> {
        let mut bitmap = 0;
        for shard in 0..names::SHARDS {
            let lost = self.maps.lost_events.get(&shard).map_err(DataplaneError::map(names::LOST_EVENTS))?;
            let lost = lost.unwrap_or_default();
            if std::mem::replace(&mut self.lost[shard as usize], lost) != lost {
                bitmap |= 1 << shard;
            }
        }
        Ok(bitmap)
    }

    /// How many events were lost by all shards since the maps were made, as of the last [`Self::take_lost`].
    pub fn lost_total(&self) -> u64 {
        self.lost.iter().sum()
    }

    /// Events that this version could not read; they stay 0 unless kernel and daemon disagree on the layout.
    pub fn malformed_total(&self) -> u64 {
        self.malformed
    }
}

impl AsRawFd for FlowEvents {
    fn as_raw_fd(&self) -> RawFd {
        self.ring.as_raw_fd()
    }
}

impl AsFd for FlowEvents {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.ring.as_fd()
    }
}
