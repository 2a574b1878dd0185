//! The kernel's end of the table: three maps.

use std::sync::Arc;

use lockstep_abi::hop::{BY_DESTINATION, STAMP};
use lockstep_abi::map as names;

use super::table::{Adopted, Write};
use crate::error::DataplaneError;
use crate::grace::wait_grace_period;
use crate::maps::Maps;
use crate::sys;

/// Where the table is written to.
pub trait HopSink: Send {
    /// What is there already.
    fn read(&self) -> Result<Adopted, DataplaneError>;

    /// Makes one change. After an error the same one is tried again, and nothing else before it.
    fn write(&mut self, write: Write) -> Result<(), DataplaneError>;
}

/// The pinned maps.
pub struct KernelHops {
    maps: Arc<Maps>,
}

impl KernelHops {
    pub(crate) fn new(maps: Arc<Maps>) -> Self {
        Self { maps }
    }
}

impl HopSink for KernelHops {
    fn read(&self) -> Result<Adopted, DataplaneError> {
        let stamp = self.maps.hop_stamp.get(&STAMP).map_err(DataplaneError::map(names::HOP_STAMP))?;
        let mut entries = Vec::new();
        for (key, index) in self.maps.hop_index.entries().map_err(DataplaneError::map(names::HOP_INDEX))? {
            let value = self.maps.hops.get(&index).map_err(DataplaneError::map(names::HOPS))?;
            entries.push((key, index, value.unwrap_or_default()));
        }
        Ok(Adopted { stamp: stamp.unwrap_or_default(), entries })
    }

    fn write(&mut self, write: Write) -> Result<(), DataplaneError> {
        let maps = &self.maps;
        match write {
            Write::SetHop { index, value } => {
                maps.hops.put(&index, &value, sys::ANY).map_err(DataplaneError::map(names::HOPS))
            }
            Write::SetIndex { key, index } => {
                maps.hop_index.put(&key, &index, sys::ANY).map_err(DataplaneError::map(names::HOP_INDEX))
            }
            Write::RemoveIndex { key } => {
                maps.hop_index.remove(&key).map(drop).map_err(DataplaneError::map(names::HOP_INDEX))
            }
            Write::RaiseStamp { stamp } => {
                maps.hop_stamp.put(&STAMP, &stamp, sys::ANY).map_err(DataplaneError::map(names::HOP_STAMP))
            }
            Write::ByDestination(value) => maps
                .hop_stamp
                .put(&BY_DESTINATION, &value.into(), sys::ANY)
                .map_err(DataplaneError::map(names::HOP_STAMP)),
            Write::WaitGrace => wait_grace_period().map_err(DataplaneError::map(names::HOPS)),
        }
    }
}
