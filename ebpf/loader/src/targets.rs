//! Indexes of endpoints: what flows name an endpoint by, whatever becomes of the version that chose it.
//!
//! The kernel's table is the truth; it is read once, when the maps are opened, and from then on only
//! `apply` of this process changes it. Others look endpoints up without a system call.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use lockstep_abi::map as names;
use lockstep_abi::service::TargetValue;

use crate::error::DataplaneError;
use crate::family::ip_of_wide;
use crate::map::Map;
use crate::shared::Shared;
use crate::sys;

/// No address to send encapsulated packets from.
pub(crate) const NO_SOURCE: u32 = u32::MAX;

/// The table `TARGETS`.
pub(crate) struct TargetTable {
    map: Map<u32, TargetValue>,
    known: Shared<Targets>,
}

/// The targets that are in use.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Targets {
    by_endpoint: HashMap<u64, (u16, TargetValue)>,
    /// All indexes in use are below.
    end: u32,
}

impl Targets {
    fn new(values: &[TargetValue]) -> Self {
        let used = (0u32..).zip(values).filter(|(index, value)| *index > 0 && value.endpoint != 0);
        let by_endpoint: HashMap<_, _> =
            used.map(|(index, value)| (value.endpoint, (index as u16, *value))).collect();
        let end = by_endpoint.values().map(|(index, _)| u32::from(*index) + 1).max().unwrap_or(1);
        Self { by_endpoint, end }
    }

    /// The endpoint's index; 0: it has none here.
    pub(crate) fn index(&self, endpoint: u64) -> u16 {
        self.by_endpoint.get(&endpoint).map_or(0, |(index, _)| *index)
    }

    /// The endpoint's address.
    pub(crate) fn address(&self, endpoint: u64) -> Option<IpAddr> {
        let (_, value) = self.by_endpoint.get(&endpoint)?;
        Some(ip_of_wide(value.address, value.family))
    }

    pub(crate) fn value(&self, endpoint: u64) -> Option<&TargetValue> {
        self.by_endpoint.get(&endpoint).map(|(_, value)| value)
    }

    pub(crate) fn endpoints(&self) -> impl Iterator<Item = u64> + '_ {
        self.by_endpoint.keys().copied()
    }

    /// All indexes in use are below.
    pub(crate) fn end(&self) -> u32 {
        self.end
    }
}

impl TargetTable {
    pub(crate) fn new(map: Map<u32, TargetValue>) -> Result<Self, DataplaneError> {
        let values =
            map.slice(0, names::MAX_TARGETS as usize).map_err(DataplaneError::map(names::TARGETS))?;
        Ok(Self { map, known: Shared::new(Targets::new(&values)) })
    }

    pub(crate) fn known(&self) -> Arc<Targets> {
        self.known.get()
    }

    /// Gives each endpoint of `wanted` an index, in that order, and what it should say. Answers how many there was
    /// no room for.
    pub(crate) fn assign(&self, wanted: &[TargetValue]) -> Result<usize, DataplaneError> {
        let known = self.known();
        let count = (known.end as usize + wanted.len()).min(names::MAX_TARGETS as usize);
        let mut values = self.map.slice(0, count).map_err(DataplaneError::map(names::TARGETS))?;
        let mut places: HashMap<u64, usize> = HashMap::new();
        for (index, value) in values.iter().enumerate().skip(1).filter(|(_, value)| value.endpoint != 0) {
            places.insert(value.endpoint, index);
        }
        let mut free = 1;
        let mut left_out = 0;
        let result = wanted.iter().try_for_each(|target| {
            let index = places.get(&target.endpoint).copied().or_else(|| {
                while values.get(free).is_some_and(|value| value.endpoint != 0) {
                    free += 1;
                }
                (free < values.len()).then_some(free)
            });
            let Some(index) = index else {
                left_out += 1;
                return Ok(());
            };
            if values[index] != *target {
                self.put(index as u32, target)?;
                values[index] = *target;
                places.insert(target.endpoint, index);
            }
            Ok(())
        });
        // What was written counts, also when not all of it was.
        let now = Targets::new(&values);
        if now != *known {
            self.known.set(now);
        }
        result.map(|()| left_out)
    }

    /// Frees the indexes of these endpoints.
    pub(crate) fn free(&self, endpoints: &[u64]) -> Result<(), DataplaneError> {
        let known = self.known();
        let mut left = (*known).clone();
        let result = endpoints.iter().try_for_each(|endpoint| {
            let index = u32::from(known.index(*endpoint));
            if index != 0 {
                self.put(index, &TargetValue::default())?;
                left.by_endpoint.remove(endpoint);
            }
            Ok(())
        });
        left.end = left.by_endpoint.values().map(|(index, _)| u32::from(*index) + 1).max().unwrap_or(1);
        if left != *known {
            self.known.set(left);
        }
        result
    }

    fn put(&self, index: u32, value: &TargetValue) -> Result<(), DataplaneError> {
        self.map.put(&index, value, sys::ANY).map_err(DataplaneError::map(names::TARGETS))
    }
}
