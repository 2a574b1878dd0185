//! Every map of the dataplane, opened from its pin with its types.

use std::path::Path;

use aya::Pod;
use lockstep_abi::address::{AddressValue, AnswerKey, AnswerValue, InterfaceValue, MacValue, TransitValue};
use lockstep_abi::flow::{FlowKey, FlowValue};
use lockstep_abi::hop::{HopKey, HopValue};
use lockstep_abi::map as names;
use lockstep_abi::service::{
    AffinityKey, AffinityValue, Endpoint, GuardKey, GuardValue, PositionKey, RangeKey, ServiceKey,
    ServiceRef, ServiceVersion, SourceKey,
};
use lockstep_abi::snat::SnatSet;

use crate::error::DataplaneError;
use crate::family::{KernelFamily, V4, V6};
use crate::lease::LeaseTable;
use crate::map::Map;
use crate::pins::Pins;
use crate::port_usage::PortUsage;
use crate::service_slots::ServiceSlots;
use crate::shared::Shared;
use crate::targets::TargetTable;
use crate::trie::TrieKey;

/// The maps. Shared by everything that reads or writes the kernel's state.
pub(crate) struct Maps {
    pub(crate) v4: FamilyMaps<V4>,
    pub(crate) v6: FamilyMaps<V6>,
    pub(crate) leases: LeaseTable,
    pub(crate) addresses: Map<u32, AddressValue>,
    pub(crate) answers: Map<AnswerKey, AnswerValue>,
    pub(crate) interfaces: Map<u32, InterfaceValue>,
    pub(crate) macs: Map<u32, MacValue>,
    pub(crate) hops: Map<u32, HopValue>,
    pub(crate) hop_index: Map<HopKey, u32>,
    pub(crate) hop_stamp: Map<u32, u32>,
    pub(crate) versions: Map<u32, ServiceVersion>,
    pub(crate) endpoints: Map<u32, Endpoint>,
    pub(crate) endpoint_hops: Map<u32, u32>,
    pub(crate) maglev: Map<u32, u64>,
    pub(crate) positions: Map<PositionKey, u32>,
    pub(crate) affinity: Map<AffinityKey, AffinityValue>,
    pub(crate) sources: Map<TrieKey<SourceKey>, u32>,
    pub(crate) targets: TargetTable,
    pub(crate) target_loads: Map<u32, u64>,
    pub(crate) services: ServiceSlots,
    pub(crate) snat_sets: Map<u32, SnatSet>,
    pub(crate) lost_events: Map<u32, u64>,
    pub(crate) event_reader: Map<u32, u32>,
    /// Of the sweeper's last pass.
    pub(crate) port_usage: Shared<Vec<PortUsage>>,
}

/// The maps that each family has of its own.
pub(crate) struct FamilyMaps<A: KernelFamily> {
    pub(crate) flows: Map<FlowKey<A>, FlowValue<A>>,
    /// How many entries `flows` has room for.
    pub(crate) flow_entries: u32,
    pub(crate) address_index: Map<A, u32>,
    pub(crate) transit: Map<TrieKey<A>, TransitValue>,
    pub(crate) services: Map<ServiceKey<A>, ServiceRef>,
    pub(crate) ranges: Map<TrieKey<RangeKey<A>>, ServiceRef>,
    pub(crate) snat_sources: Map<TrieKey<A>, u32>,
    pub(crate) guards: Map<GuardKey<A>, GuardValue>,
}

impl<A: KernelFamily> FamilyMaps<A> {
    fn open(pins: &Pins) -> Result<Self, DataplaneError> {
        let flows: Map<FlowKey<A>, FlowValue<A>> = open(pins, A::NAMES.flows)?;
        let flow_entries = flows.capacity().map_err(DataplaneError::map(A::NAMES.flows))?;
        Ok(Self {
            flows,
            flow_entries,
            address_index: open(pins, A::NAMES.address_index)?,
            transit: open(pins, A::NAMES.transit)?,
            services: open(pins, A::NAMES.services)?,
            ranges: open(pins, A::NAMES.ranges)?,
            snat_sources: open(pins, A::NAMES.snat_sources)?,
            guards: open(pins, A::NAMES.guards)?,
        })
    }
}

impl Maps {
    pub(crate) fn open(pins: &Pins) -> Result<Self, DataplaneError> {
        Ok(Self {
            v4: FamilyMaps::open(pins)?,
            v6: FamilyMaps::open(pins)?,
            leases: LeaseTable::open(&pins.map(names::LEASES))
                .map_err(DataplaneError::pin(pins.map(names::LEASES)))?,
            addresses: open(pins, names::ADDRESSES)?,
            answers: open(pins, names::ANSWERS)?,
            interfaces: open(pins, names::INTERFACES)?,
            macs: open(pins, names::MACS)?,
            hops: open(pins, names::HOPS)?,
            hop_index: open(pins, names::HOP_INDEX)?,
            hop_stamp: open(pins, names::HOP_STAMP)?,
            versions: open(pins, names::VERSIONS)?,
            endpoints: open(pins, names::ENDPOINTS)?,
            endpoint_hops: open(pins, names::ENDPOINT_HOPS)?,
            maglev: open(pins, names::MAGLEV)?,
            positions: open(pins, names::POSITIONS)?,
            affinity: open(pins, names::AFFINITY)?,
            sources: open(pins, names::SOURCES)?,
            targets: TargetTable::new(open(pins, names::TARGETS)?)?,
            target_loads: open(pins, names::TARGET_LOADS)?,
            services: ServiceSlots::new(
                open(pins, names::SERVICE_TIMEOUTS)?,
                open(pins, names::SERVICE_LOADS)?,
            )?,
            snat_sets: open(pins, names::SNAT_SETS)?,
            lost_events: open(pins, names::LOST_EVENTS)?,
            event_reader: open(pins, names::EVENT_READER)?,
            port_usage: Shared::new(Vec::new()),
        })
    }

    /// The maps of a node that may not be running.
    pub(crate) fn open_pinned(pin_dir: &Path) -> Result<Self, DataplaneError> {
        Self::open(&Pins::new(pin_dir))
    }

    /// The address at an index, if it is in use.
    pub(crate) fn address(&self, index: u32) -> Result<Option<AddressValue>, DataplaneError> {
        let value = self.addresses.get(&index).map_err(DataplaneError::map(names::ADDRESSES))?;
        Ok(value.filter(|value| value.stamp != 0))
    }

    /// Every index, in use or not.
    pub(crate) fn all_addresses(&self) -> Result<Vec<AddressValue>, DataplaneError> {
        let count = names::MAX_ADDRESSES as usize;
        self.addresses.slice(0, count).map_err(DataplaneError::map(names::ADDRESSES))
    }
}

fn open<K: Pod, V: Pod>(pins: &Pins, name: &str) -> Result<Map<K, V>, DataplaneError> {
    let path = pins.map(name);
    Map::open(&path).map_err(DataplaneError::pin(path))
}
