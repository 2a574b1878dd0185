//! The reply guard and the endpoint-side networks (I10, I4).

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{IpAddr, Ipv4Addr};

use lockstep_abi::address::{TRANSIT_GROUPS, TransitValue};
use lockstep_abi::map as names;
use lockstep_abi::service::{GuardKey, GuardValue};
use lockstep_model::protocol::Family;

use super::Apply;
use crate::error::DataplaneError;
use crate::flows::FlowTable;
use crate::record::{address_be, ip_be};

impl Apply<'_> {
    /// An entry for each (address, port, protocol) a service's reply can come from, and one for the address alone.
    pub(super) fn wanted_guards(&self) -> HashMap<GuardKey, GuardValue> {
        let mut wanted: HashMap<GuardKey, GuardValue> = HashMap::new();
        for service in &self.image.services {
            let Some(slot) = self.slots.get(&service.group) else { continue };
            for endpoint in &service.endpoints {
                let Some(address_be) = ip_be(endpoint.address.ip()) else { continue };
                let port_be = endpoint.address.port().to_be();
                let protocols =
                    service.protocols.iter().map(|protocol| (port_be, protocol.number(Family::V4)));
                for (port_be, protocol) in protocols.chain([(0, 0)]) {
                    let key = GuardKey { address_be, port_be, protocol, pad: 0 };
                    // One of several groups that share the endpoint: always the same one.
                    let guard = wanted.entry(key).or_insert(GuardValue { lease_slot: *slot, pad: 0 });
                    guard.lease_slot = guard.lease_slot.min(*slot);
                }
            }
        }
        wanted
    }

    /// A removed endpoint is guarded for as long as it has live flows: one of them may be missing here, and its
    /// replies must not leak. Walks the flows only while there is such an endpoint.
    pub(super) fn keep_guards_of_flows(
        &self,
        wanted: &mut HashMap<GuardKey, GuardValue>,
        flows: &FlowTable,
    ) -> Result<(), DataplaneError> {
        let entries = self.maps.guards.entries().map_err(DataplaneError::map(names::GUARDS))?;
        let removed: HashMap<GuardKey, GuardValue> =
            entries.into_iter().filter(|(key, _)| !wanted.contains_key(key)).collect();
        if removed.is_empty() {
            return Ok(());
        }
        flows.each(|flow| {
            let endpoint = &flow.twin;
            let full = GuardKey {
                address_be: endpoint.source_be,
                port_be: endpoint.source_port_be,
                protocol: endpoint.protocol,
                pad: 0,
            };
            for key in [full, GuardKey { port_be: 0, protocol: 0, ..full }] {
                if let Some(guard) = removed.get(&key) {
                    wanted.insert(key, *guard);
                }
            }
            Ok(())
        })
    }

    /// The connected networks that hold an endpoint or a floating address, and endpoints beyond them alone.
    pub(super) fn wanted_transit(&mut self) -> HashMap<[u32; 2], TransitValue> {
        let mut networks: BTreeMap<(Ipv4Addr, u8), BTreeSet<u32>> = BTreeMap::new();
        for service in &self.image.services {
            let Some(slot) = self.slots.get(&service.group) else { continue };
            for endpoint in &service.endpoints {
                let IpAddr::V4(address) = endpoint.address.ip() else { continue };
                let network = self.connected(address).unwrap_or((address, 32));
                networks.entry(network).or_default().insert(*slot);
            }
        }
        for group in &self.image.groups {
            for address in group.addresses.iter().filter(|address| !address.vip) {
                let IpAddr::V4(v4) = address.address else { continue };
                let Some(network) = self.connected(v4) else { continue };
                networks.entry(network).or_default().insert(self.slots[&group.id]);
            }
        }
        networks
            .into_iter()
            .map(|((network, length), slots)| {
                if slots.len() > TRANSIT_GROUPS {
                    self.report.warnings.push(format!(
                        "{network}/{length} is used by {} groups: transit from it needs the lease of one of the first {TRANSIT_GROUPS}",
                        slots.len()
                    ));
                }
                let mut value = TransitValue::default();
                for slot in slots.into_iter().take(TRANSIT_GROUPS) {
                    value.slots[value.count as usize] = slot;
                    value.count += 1;
                }
                ([u32::from(length), address_be(network)], value)
            })
            .collect()
    }

    fn connected(&self, address: Ipv4Addr) -> Option<(Ipv4Addr, u8)> {
        self.interfaces
            .iter()
            .flat_map(|interface| &interface.prefixes)
            .filter(|prefix| prefix.contains(address))
            .map(|prefix| (prefix.network(), prefix.length))
            .max_by_key(|(_, length)| *length)
    }
}
