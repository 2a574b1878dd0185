//! Connections by endpoint and by service: live flows that neither side, or only one, has ended (`state::counts`).
//!
//! The programs add and subtract as connections begin and end; a pass counts anew, and sets right what has drifted. A flow that
//! comes or goes while the pass is under way may be counted or not, so a number that has moved since the pass began is
//! left to the programs, unless it has moved in every one of [`PATIENCE`] passes: a limit must not forget a flow because it was
//! made behind the pass's back.

use lockstep_abi::map as names;
use lockstep_abi::service::ServiceLoad;

use crate::error::DataplaneError;
use crate::maps::Maps;
use crate::sys;

/// So many passes in a row may find a number moving before it is written all the same.
const PATIENCE: u32 = 8;

/// What a pass met.
pub(super) struct Loads {
    targets: Vec<u64>,
    services: Vec<u64>,
    /// The programs' numbers when the pass began.
    before: Numbers,
    /// Passes in a row that found some number moving.
    restless: u32,
}

/// The programs' numbers.
#[derive(Default)]
struct Numbers {
    targets: Vec<u64>,
    services: Vec<ServiceLoad>,
}

impl Numbers {
    fn read(maps: &Maps, targets: usize) -> Result<Self, DataplaneError> {
        let end = targets.max(maps.targets.known().end() as usize);
        let loads = &maps.services.loads;
        Ok(Self {
            targets: maps.target_loads.slice(0, end).map_err(DataplaneError::map(names::TARGET_LOADS))?,
            services: loads
                .slice(0, names::SERVICE_SLOTS as usize)
                .map_err(DataplaneError::map(names::SERVICE_LOADS))?,
        })
    }
}

impl Loads {
    pub(super) fn new() -> Self {
        Self {
            targets: Vec::new(),
            services: vec![0; names::SERVICE_SLOTS as usize],
            before: Numbers::default(),
            restless: 0,
        }
    }

    /// Notes the numbers that a pass begins with.
    pub(super) fn begin(&mut self, maps: &Maps) -> Result<(), DataplaneError> {
        self.before = Numbers::read(maps, 0)?;
        Ok(())
    }

    /// A connection.
    pub(super) fn meet(&mut self, target: u16, service_slot: u16) {
        let target = usize::from(target);
        if target >= self.targets.len() {
            self.targets.resize(target + 1, 0);
        }
        self.targets[target] += 1;
        if let Some(count) = self.services.get_mut(usize::from(service_slot)) {
            *count += 1;
        }
    }

    /// Writes what differs, and starts anew.
    pub(super) fn write(&mut self, maps: &Maps) -> Result<(), DataplaneError> {
        let targets = std::mem::take(&mut self.targets);
        let services = std::mem::replace(&mut self.services, vec![0; names::SERVICE_SLOTS as usize]);
        let before = std::mem::take(&mut self.before);
        let found = Numbers::read(maps, targets.len())?;
        let impatient = self.restless >= PATIENCE;
        let mut moving = false;

        // Index 0 stands for no target.
        for (index, now) in found.targets.iter().enumerate().skip(1) {
            let counted = targets.get(index).copied().unwrap_or_default();
            let moved = before.targets.get(index).is_none_or(|then| then != now);
            moving |= moved;
            if counted != *now && (!moved || impatient) {
                let put = maps.target_loads.put(&(index as u32), &counted, sys::ANY);
                put.map_err(DataplaneError::map(names::TARGET_LOADS))?;
            }
        }

        let failed = DataplaneError::map(names::SERVICE_LOADS);
        let loads = &maps.services.loads;
        for (slot, now) in found.services.iter().enumerate().skip(1) {
            let counted = services.get(slot).copied().unwrap_or_default();
            let moved = before.services.get(slot).is_none_or(|then| then.connections != now.connections);
            moving |= moved;
            if counted != now.connections && (!moved || impatient) {
                // Read again: the arrival time is the programs', and moves with every new flow.
                let latest = loads.get(&(slot as u32)).map_err(&failed)?.unwrap_or(*now);
                let value = ServiceLoad { connections: counted, ..latest };
                loads.put(&(slot as u32), &value, sys::ANY).map_err(&failed)?;
            }
        }
        self.restless = if moving && !impatient { self.restless + 1 } else { 0 };
        Ok(())
    }
}
