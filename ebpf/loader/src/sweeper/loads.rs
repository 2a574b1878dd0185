//! Live flows by endpoint and by service.

use lockstep_abi::map as names;
use lockstep_abi::service::ServiceLoad;

use crate::error::DataplaneError;
use crate::maps::Maps;
use crate::sys;

/// What a pass met.
pub(super) struct Loads {
    targets: Vec<u64>,
    services: Vec<u64>,
}

impl Loads {
    pub(super) fn new() -> Self {
        Self { targets: Vec::new(), services: vec![0; names::SERVICE_SLOTS as usize] }
    }

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

    /// Writes what differs, and starts anew. A flow that comes or goes while this looks, or behind the pass's back,
    /// is counted wrongly until the next pass.
    pub(super) fn write(&mut self, maps: &Maps) -> Result<(), DataplaneError> {
        let targets = std::mem::take(&mut self.targets);
        let services = std::mem::replace(&mut self.services, vec![0; names::SERVICE_SLOTS as usize]);

        let failed = DataplaneError::map(names::TARGET_LOADS);
        let end = targets.len().max(maps.targets.known().end() as usize);
        let found = maps.target_loads.slice(0, end).map_err(&failed)?;
        // Index 0 stands for no target.
        for (index, found) in (0u32..).zip(found).skip(1) {
            let counted = targets.get(index as usize).copied().unwrap_or_default();
            if counted != found {
                maps.target_loads.put(&index, &counted, sys::ANY).map_err(&failed)?;
            }
        }

        let failed = DataplaneError::map(names::SERVICE_LOADS);
        let loads = &maps.services.loads;
        let found = loads.slice(0, services.len()).map_err(&failed)?;
        for ((slot, found), counted) in (0u32..).zip(found).zip(services).skip(1) {
            if found.connections != counted {
                // Read again: the arrival time is the programs', and moves with every new flow.
                let now = loads.get(&slot).map_err(&failed)?.unwrap_or(found);
                loads.put(&slot, &ServiceLoad { connections: counted, ..now }, sys::ANY).map_err(&failed)?;
            }
        }
        Ok(())
    }
}
