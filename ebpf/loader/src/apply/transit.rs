//! Endpoint-side networks (I4): what comes from them goes nowhere without a lease.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;

use lockstep_abi::address::{ENDPOINTS, TRANSIT_GROUPS, TransitValue};
use lockstep_model::intent::Prefix;

use super::Apply;
use crate::family::KernelFamily;
use crate::trie::TrieKey;

pub(super) type Networks<A> = HashMap<TrieKey<A>, TransitValue>;

impl Apply<'_> {
    /// The connected networks that hold an endpoint or a floating address, endpoints beyond them alone, and the
    /// sources of rules. The programs find the longest, so that a network has the groups of those around it as well.
    pub(super) fn wanted_transit<A: KernelFamily>(&mut self) -> Networks<A> {
        let networks = self.networks::<A>();
        let beside: BTreeSet<Prefix> =
            self.endpoint_networks().into_iter().map(|(network, _)| network).collect();
        let mut wanted = Networks::new();
        for network in networks.keys() {
            let around = networks.iter().filter(|(other, _)| other.covers(network));
            let slots: BTreeSet<u32> = around.flat_map(|(_, slots)| slots.iter().copied()).collect();
            if slots.len() > TRANSIT_GROUPS {
                self.report.warnings.push(format!(
                    "{network} is used by {} groups: transit from it needs the lease of one of the first {TRANSIT_GROUPS}",
                    slots.len()
                ));
            }
            let flags = if beside.contains(network) { ENDPOINTS } else { 0 };
            let mut value = TransitValue { flags, ..TransitValue::default() };
            for slot in slots.into_iter().take(TRANSIT_GROUPS) {
                value.slots[value.count as usize] = slot;
                value.count += 1;
            }
            if let Some(address) = A::of_ip(network.address) {
                wanted.insert(TrieKey::new(network.length.into(), address), value);
            }
        }
        wanted
    }

    fn networks<A: KernelFamily>(&self) -> BTreeMap<Prefix, BTreeSet<u32>> {
        let mut networks: BTreeMap<Prefix, BTreeSet<u32>> = BTreeMap::new();
        for (network, slot) in self.endpoint_networks() {
            networks.entry(network).or_default().insert(slot);
        }
        for group in &self.image.groups {
            for address in group.addresses.iter().filter(|address| address.floating) {
                if let Some(network) = self.connected(address.address) {
                    networks.entry(network).or_default().insert(self.slots[&group.id]);
                }
            }
        }
        for rule in &self.image.snat_rules {
            if let Some(slot) = self.slots.get(&rule.group) {
                networks.entry(rule.source).or_default().insert(*slot);
            }
        }
        networks.retain(|network, _| network.family() == A::FAMILY);
        networks
    }

    /// The networks of endpoints, and the lease slots of the groups that use them.
    fn endpoint_networks(&self) -> BTreeSet<(Prefix, u32)> {
        let mut networks = BTreeSet::new();
        for service in &self.image.services {
            let Some(slot) = self.slots.get(&service.group) else { continue };
            for address in service.endpoints.iter().map(|endpoint| endpoint.address.ip()) {
                networks.insert((self.connected(address).unwrap_or(Prefix::host(address)), *slot));
            }
        }
        networks
    }

    /// The longest connected network with this address.
    pub(super) fn connected(&self, address: IpAddr) -> Option<Prefix> {
        self.interfaces
            .iter()
            .flat_map(|interface| &interface.prefixes)
            .filter(|prefix| prefix.contains(address))
            .max_by_key(|prefix| prefix.length)
            .copied()
    }
}
