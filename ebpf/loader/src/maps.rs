//! Every map of the dataplane, opened from its pin with its types.

use std::path::Path;

use aya::Pod;
use lockstep_abi::address::{AddressValue, AnswerKey, AnswerValue, InterfaceValue, TransitValue};
use lockstep_abi::flow::{FlowKey4, FlowValue4};
use lockstep_abi::hop::{HopKey, HopValue};
use lockstep_abi::map as names;
use lockstep_abi::service::{Endpoint, GuardKey, GuardValue, ServiceKey, ServiceRef, ServiceVersion};

use crate::error::DataplaneError;
use crate::lease::LeaseTable;
use crate::map::Map;
use crate::pins::Pins;

/// The maps. Shared by everything that reads or writes the kernel's state.
pub(crate) struct Maps {
    pub(crate) flows: Map<FlowKey4, FlowValue4>,
    pub(crate) leases: LeaseTable,
    /// Key: the address as the packet has it.
    pub(crate) address_index: Map<u32, u32>,
    pub(crate) addresses: Map<u32, AddressValue>,
    pub(crate) answers: Map<AnswerKey, AnswerValue>,
    pub(crate) interfaces: Map<u32, InterfaceValue>,
    /// Key: prefix length, and the network as the packet has it.
    pub(crate) transit: Map<[u32; 2], TransitValue>,
    pub(crate) services: Map<ServiceKey, ServiceRef>,
    pub(crate) versions: Map<u32, ServiceVersion>,
    pub(crate) endpoints: Map<u32, Endpoint>,
    pub(crate) maglev: Map<u32, u64>,
    pub(crate) guards: Map<GuardKey, GuardValue>,
    pub(crate) lost_events: Map<u32, u64>,
    pub(crate) hops: Map<u32, HopValue>,
    pub(crate) hop_index: Map<HopKey, u32>,
    pub(crate) hop_stamp: Map<u32, u32>,
}

impl Maps {
    pub(crate) fn open(pins: &Pins) -> Result<Self, DataplaneError> {
        Ok(Self {
            flows: open(pins, names::FLOWS)?,
            leases: LeaseTable::open(&pins.map(names::LEASES))
                .map_err(DataplaneError::pin(pins.map(names::LEASES)))?,
            address_index: open(pins, names::ADDRESS_INDEX)?,
            addresses: open(pins, names::ADDRESSES)?,
            answers: open(pins, names::ANSWERS)?,
            interfaces: open(pins, names::INTERFACES)?,
            transit: open(pins, names::TRANSIT)?,
            services: open(pins, names::SERVICES)?,
            versions: open(pins, names::VERSIONS)?,
            endpoints: open(pins, names::ENDPOINTS)?,
            maglev: open(pins, names::MAGLEV)?,
            guards: open(pins, names::GUARDS)?,
            lost_events: open(pins, names::LOST_EVENTS)?,
            hops: open(pins, names::HOPS)?,
            hop_index: open(pins, names::HOP_INDEX)?,
            hop_stamp: open(pins, names::HOP_STAMP)?,
        })
    }

    /// The maps of a node that may not be running.
    pub(crate) fn open_pinned(pin_dir: &Path) -> Result<Self, DataplaneError> {
        Self::open(&Pins::new(pin_dir))
    }

    /// The group that an address index belongs to now, if it is in use.
    pub(crate) fn group_of(&self, address_index: u32) -> Result<Option<u64>, DataplaneError> {
        let value = self.addresses.get(&address_index).map_err(DataplaneError::map(names::ADDRESSES))?;
        Ok(value.filter(|value| value.address_be != 0).map(|value| value.group))
    }
}

fn open<K: Pod, V: Pod>(pins: &Pins, name: &str) -> Result<Map<K, V>, DataplaneError> {
    let path = pins.map(name);
    Map::open(&path).map_err(DataplaneError::pin(path))
}
