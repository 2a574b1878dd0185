//! Ageing: looks at a bounded number of entries at a time, and lets the kernel decide about those that look idle.
//!
//! ```text
//! live ──idle too long, lease held here──► dead (version n+1, Remove is told) ──a second later──► freed
//!   └──claimed by a SYN that could not make its own flow──► dead (version n+1) ──► freed (Remove is told)
//! ```
//!
//! A flow may also have been marked by somebody else: by a packet that wanted its place and then found no
//! endpoint or no room, or by a daemon that ended before it told. Nobody else tells of it, so freeing does.
//!
//! A standby ages nothing: its origin tells it. After a takeover age counts from the takeover at the earliest.
//!
//! A pass goes through the IPv4 flows and then the IPv6 flows, and counts as it goes: live flows by endpoint and by
//! service, which the programs add to and subtract from between two passes, and source ports in use.

mod affinity;
mod family;
mod loads;

use std::time::Duration;

use lockstep_model::flow::FlowChange;
use lockstep_model::protocol::Family;

use self::affinity::AffinitySweep;
use self::family::FamilySweep;
use self::loads::Loads;
use crate::clock::KernelInstant;
use crate::error::DataplaneError;
use crate::family::{V4, V6};
use crate::flows::FlowTable;
use crate::maps::Maps;

/// A pass over empty tables still reads every bucket. So passes begin no more often than this for each entry that
/// there is room for, which keeps them near one percent of a processor.
const PAUSE_PER_ENTRY: Duration = Duration::from_nanos(500);
/// But at least this often: idle flows end late by so much.
const MAX_PAUSE: Duration = Duration::from_secs(5);

/// Ages flows, a step at a time.
pub struct Sweeper {
    flows: FlowTable,
    v4: FamilySweep<V4>,
    v6: FamilySweep<V6>,
    affinity: AffinitySweep,
    /// Which family the pass is at; `None`: it rests until `next_pass`.
    at: Option<Family>,
    next_pass: KernelInstant,
    pause: Duration,
    pass: Pass,
}

/// What a pass counts.
struct Pass {
    /// Passes completed before.
    number: u64,
    live: u64,
    loads: Loads,
}

/// What a step did.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Swept {
    /// Flows that ended and whose service is replicated: to be told to the standbys.
    pub removed: Vec<FlowChange>,
    /// Flows marked dead.
    pub ended: u64,
    /// Flows whose entries were freed, and replies without an original.
    pub freed: u64,
    /// Entries looked at.
    pub examined: u64,
    /// Choices that clients no longer keep.
    pub forgotten: u64,
    /// Set by the step that reaches the end of the tables: live flows seen by the whole pass.
    pub live: Option<u64>,
}

impl Sweeper {
    pub(crate) fn new(flows: FlowTable) -> Self {
        let maps = flows.maps();
        let entries = maps.v4.flow_entries.saturating_add(maps.v6.flow_entries);
        let pause = PAUSE_PER_ENTRY.saturating_mul(entries).min(MAX_PAUSE);
        Self {
            flows,
            v4: FamilySweep::new(),
            v6: FamilySweep::new(),
            affinity: AffinitySweep::new(),
            at: None,
            next_pass: KernelInstant(0),
            pause,
            pass: Pass { number: 0, live: 0, loads: Loads::new() },
        }
    }

    /// Looks at about `budget` entries, from where the last step ended; at none, if a pass ended and it is too early
    /// for the next.
    pub fn step(&mut self, now: KernelInstant, budget: usize) -> Result<Swept, DataplaneError> {
        let mut swept = Swept::default();
        let family = match self.at {
            Some(family) => family,
            None if now < self.next_pass => return Ok(swept),
            None => self.begin(now)?,
        };
        let budget = budget.max(1);
        let ended = match family {
            Family::V4 => self.v4.step(&self.flows, now, budget, &mut self.pass, &mut swept)?,
            Family::V6 => self.v6.step(&self.flows, now, budget, &mut self.pass, &mut swept)?,
        };
        self.affinity.step(self.flows.maps(), now, budget, &mut swept)?;
        match (family, ended) {
            (_, false) => {}
            (Family::V4, true) => self.at = Some(Family::V6),
            (Family::V6, true) => self.end(&mut swept)?,
        }
        Ok(swept)
    }

    fn begin(&mut self, now: KernelInstant) -> Result<Family, DataplaneError> {
        let addresses = self.flows.maps().all_addresses()?;
        self.pass.loads.begin(self.flows.maps())?;
        self.v4.begin(&addresses);
        self.v6.begin(&addresses);
        self.next_pass = now.plus(self.pause);
        self.at = Some(Family::V4);
        Ok(Family::V4)
    }

    fn end(&mut self, swept: &mut Swept) -> Result<(), DataplaneError> {
        let maps: &Maps = self.flows.maps();
        self.at = None;
        swept.live = Some(std::mem::take(&mut self.pass.live));
        let mut usage = self.v4.port_usage();
        usage.extend(self.v6.port_usage());
        maps.port_usage.set(usage);
        self.v4.forget(self.pass.number);
        self.v6.forget(self.pass.number);
        self.pass.number += 1;
        self.pass.loads.write(maps)
    }
}
