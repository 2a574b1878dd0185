//! The verdict counters, summed over CPUs.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use lockstep_abi::map as names;
use lockstep_abi::reason::Reason;

use crate::error::DataplaneError;
use crate::pins::Pins;
use crate::sys;

/// Reads the counters. Cheap to clone.
#[derive(Clone)]
pub struct Counters {
    map: Arc<OwnedFd>,
    cpus: usize,
}

impl Counters {
    pub(crate) fn open(pins: &Pins) -> Result<Self, DataplaneError> {
        let path = pins.map(names::COUNTERS);
        let map = sys::object_get(&path).map_err(DataplaneError::pin(&path))?;
        let info = sys::map_info(map.as_fd()).map_err(DataplaneError::pin(&path))?;
        if (info.key_size, info.value_size) != (4, 8) {
            let reason = format!("has keys of {} and values of {} bytes", info.key_size, info.value_size);
            return Err(DataplaneError::Incompatible { path, reason });
        }
        // The kernel copies one value for each *possible* CPU.
        let cpus = aya::util::nr_cpus()
            .map_err(|(_, source)| DataplaneError::Map { map: names::COUNTERS, source })?;
        Ok(Self { map: Arc::new(map), cpus })
    }

    /// Every reason, also at zero.
    pub fn read(&self) -> Result<Vec<(&'static str, u64)>, DataplaneError> {
        let mut values = vec![0u64; self.cpus];
        let mut counters = Vec::with_capacity(Reason::ALL.len());
        for reason in Reason::ALL {
            let key = *reason as u32;
            // SAFETY: the key has four bytes, and there is room for eight bytes for each possible CPU.
            unsafe {
                sys::lookup(self.map.as_fd(), std::ptr::from_ref(&key).cast(), values.as_mut_ptr().cast())
            }
            .map_err(DataplaneError::map(names::COUNTERS))?;
            counters.push((reason.name(), values.iter().sum()));
        }
        Ok(counters)
    }
}
