//! Slots of services: their idle times, and where the programs count their flows. Read once, when the maps are
//! opened; from then on only `apply` of this process changes it, and others look up without a system call.

use std::collections::HashMap;
use std::sync::Arc;

use lockstep_abi::map as names;
use lockstep_abi::service::{ServiceLoad, Timeouts};
use lockstep_abi::timeout;

use crate::error::DataplaneError;
use crate::map::Map;
use crate::shared::Shared;
use crate::sys;

/// The tables `SERVICE_TIMEOUTS` and `SERVICE_LOADS`.
pub(crate) struct ServiceSlots {
    timeouts: Map<u32, Timeouts>,
    pub(crate) loads: Map<u32, ServiceLoad>,
    known: Shared<KnownServices>,
}

/// The services that have a slot.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct KnownServices(HashMap<u64, (u16, Timeouts)>);

impl KnownServices {
    fn new(values: &[Timeouts]) -> Self {
        let used = (0u16..).zip(values).filter(|(slot, value)| *slot > 0 && value.service != 0);
        Self(used.map(|(slot, value)| (value.service, (slot, *value))).collect())
    }

    /// The service's slot; 0: none.
    pub(crate) fn slot(&self, service: u64) -> u16 {
        self.0.get(&service).map_or(0, |(slot, _)| *slot)
    }

    /// How long flows of a service, or of a rule, may be idle.
    pub(crate) fn timeouts(&self, service: u64) -> &Timeouts {
        self.0.get(&service).map_or(&timeout::DEFAULT, |(_, timeouts)| timeouts)
    }
}

impl ServiceSlots {
    pub(crate) fn new(
        timeouts: Map<u32, Timeouts>,
        loads: Map<u32, ServiceLoad>,
    ) -> Result<Self, DataplaneError> {
        let values = read(&timeouts)?;
        Ok(Self { timeouts, loads, known: Shared::new(KnownServices::new(&values)) })
    }

    pub(crate) fn known(&self) -> Arc<KnownServices> {
        self.known.get()
    }

    /// Gives each service of `wanted` a slot, and the slot what it should say.
    pub(crate) fn assign(&self, wanted: &[Timeouts]) -> Result<(), DataplaneError> {
        let mut values = read(&self.timeouts)?;
        let result = wanted.iter().try_for_each(|service| {
            let named = |id: u64| values.iter().skip(1).position(|value| value.service == id);
            let known = named(service.service);
            let slot = known.or_else(|| named(0)).ok_or(DataplaneError::Limit {
                what: "services",
                limit: names::SERVICE_SLOTS as usize - 1,
            })? + 1;
            if known.is_none() {
                let put = self.loads.put(&(slot as u32), &ServiceLoad::default(), sys::ANY);
                put.map_err(DataplaneError::map(names::SERVICE_LOADS))?;
            }
            if values[slot] != *service {
                self.put(slot, service)?;
                values[slot] = *service;
            }
            Ok(())
        });
        self.remember(&values);
        result
    }

    /// Frees the slots of services that are not among `kept`.
    pub(crate) fn free_others(&self, kept: &[u64]) -> Result<(), DataplaneError> {
        let mut values = read(&self.timeouts)?;
        let mut result = Ok(());
        for (slot, value) in values.iter_mut().enumerate() {
            if value.service != 0 && !kept.contains(&value.service) && result.is_ok() {
                result = self.put(slot, &Timeouts::default());
                *value = Timeouts::default();
            }
        }
        self.remember(&values);
        result
    }

    fn put(&self, slot: usize, value: &Timeouts) -> Result<(), DataplaneError> {
        let put = self.timeouts.put(&(slot as u32), value, sys::ANY);
        put.map_err(DataplaneError::map(names::SERVICE_TIMEOUTS))
    }

    fn remember(&self, values: &[Timeouts]) {
        let now = KnownServices::new(values);
        if now != *self.known() {
            self.known.set(now);
        }
    }
}

fn read(timeouts: &Map<u32, Timeouts>) -> Result<Vec<Timeouts>, DataplaneError> {
    let values = timeouts.slice(0, names::SERVICE_SLOTS as usize);
    values.map_err(DataplaneError::map(names::SERVICE_TIMEOUTS))
}
