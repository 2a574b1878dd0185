//! Lease slots of groups, indexes of addresses, and where addresses are answered.
//!
//! Slots and indexes are this node's own numbers. They live in the kernel only, and stay as long as the group
//! or address does: flows and leases refer to them.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;

use lockstep_abi::address::{AddressValue, AnswerKey, AnswerValue, FLOATING, VIP};
use lockstep_abi::map as names;
use lockstep_model::image::{AddressImage, GroupImage};

use super::Apply;
use crate::error::DataplaneError;
use crate::interfaces::Interface;
use crate::record::ip_be;
use crate::sys;

/// No slot: the lease check of such an address finds nothing and drops.
const WITHHELD: u32 = u32::MAX;

/// Address (as the packet has it) to index, for the addresses of the image.
pub(super) type Indexes = HashMap<u32, u32>;

impl Apply<'_> {
    pub(super) fn assign_slots(&mut self) -> Result<(), DataplaneError> {
        let mut used = self.maps.leases.groups();
        for group in &self.image.groups {
            let slot = match used.iter().position(|id| *id == group.id.get()) {
                Some(slot) => slot,
                None => {
                    let free = used
                        .iter()
                        .position(|id| *id == 0)
                        .ok_or(DataplaneError::Limit { what: "groups", limit: names::MAX_LEASES as usize })?;
                    self.maps.leases.assign(free as u32, group.id);
                    used[free] = group.id.get();
                    self.report.changes.push(format!("group {} has lease slot {free}", group.name));
                    free
                }
            };
            self.slots.insert(group.id, slot as u32);
        }
        Ok(())
    }

    /// Writes every address of the image, index first.
    pub(super) fn write_addresses(&mut self) -> Result<Indexes, DataplaneError> {
        let mut table = self.addresses()?;
        let mut indexes = Indexes::new();
        for group in &self.image.groups {
            for address in &group.addresses {
                let Some(address_be) = ip_be(address.address) else {
                    self.report.warnings.push(format!("{}: only IPv4 is served", address.address));
                    continue;
                };
                let known = table.iter().position(|value| value.address_be == address_be);
                let index = known.or_else(|| table.iter().position(|value| value.address_be == 0)).ok_or(
                    DataplaneError::Limit { what: "addresses", limit: names::MAX_ADDRESSES as usize },
                )?;
                let value = self.address_value(group, address, address_be);
                if table[index] != value {
                    let put = self.maps.addresses.put(&(index as u32), &value, sys::ANY);
                    put.map_err(DataplaneError::map(names::ADDRESSES))?;
                    table[index] = value;
                    self.report
                        .changes
                        .push(format!("address {} of group {} written", address.address, group.name));
                }
                self.write_index(address_be, index as u32)?;
                indexes.insert(address_be, index as u32);
            }
        }
        Ok(indexes)
    }

    fn addresses(&self) -> Result<Vec<AddressValue>, DataplaneError> {
        let count = names::MAX_ADDRESSES as usize;
        self.maps.addresses.slice(0, count).map_err(DataplaneError::map(names::ADDRESSES))
    }

    fn address_value(&mut self, group: &GroupImage, address: &AddressImage, address_be: u32) -> AddressValue {
        let served = (self.held)(address);
        if !served {
            self.report.withheld.push(address.address);
        }
        AddressValue {
            address_be,
            lease_slot: if served { self.slots[&group.id] } else { WITHHELD },
            flags: if address.vip { VIP } else { FLOATING },
            pad: 0,
            group: group.id.get(),
        }
    }

    fn write_index(&self, address_be: u32, index: u32) -> Result<(), DataplaneError> {
        let failed = DataplaneError::map(names::ADDRESS_INDEX);
        if self.maps.address_index.get(&address_be).map_err(&failed)? != Some(index) {
            self.maps.address_index.put(&address_be, &index, sys::ANY).map_err(&failed)?;
        }
        Ok(())
    }

    /// On which interfaces each address is answered. None at all: the node is unfit for the group.
    pub(super) fn wanted_answers(&mut self, indexes: &Indexes) -> HashMap<AnswerKey, AnswerValue> {
        let mut wanted = HashMap::new();
        for group in &self.image.groups {
            for address in &group.addresses {
                let Some((address_be, index)) =
                    ip_be(address.address).and_then(|be| Some((be, *indexes.get(&be)?)))
                else {
                    continue;
                };
                let answering: Vec<&Interface> = self
                    .interfaces
                    .iter()
                    .filter(|interface| answers(group, address.address, interface))
                    .collect();
                if answering.is_empty() {
                    self.report.unfit.push((group.id, unfit(group, address.address)));
                }
                for interface in answering {
                    let key = AnswerKey { ifindex: interface.index, address_be };
                    wanted.insert(key, AnswerValue { address_index: index, pad: 0 });
                }
            }
        }
        wanted
    }

    /// Takes addresses that are in no group out of the index; whether any was.
    pub(super) fn remove_addresses(&mut self, indexes: &Indexes) -> Result<bool, DataplaneError> {
        let removed =
            crate::sync_map::remove_others(&self.maps.address_index, names::ADDRESS_INDEX, indexes)?;
        self.report.note(removed, "addresses removed");
        Ok(removed > 0)
    }

    /// Frees what no address of the image uses, now that no live flow refers to it.
    pub(super) fn free_indexes(&mut self, indexes: &Indexes) -> Result<(), DataplaneError> {
        let used: HashSet<u32> = indexes.values().copied().collect();
        for (index, value) in self.addresses()?.iter().enumerate() {
            if *value != AddressValue::default() && !used.contains(&(index as u32)) {
                let put = self.maps.addresses.put(&(index as u32), &AddressValue::default(), sys::ANY);
                put.map_err(DataplaneError::map(names::ADDRESSES))?;
            }
        }
        Ok(())
    }

    /// Frees the slots of groups that are not in the image.
    pub(super) fn free_slots(&mut self) {
        for (slot, group) in self.maps.leases.groups().into_iter().enumerate() {
            if group != 0 && !self.image.groups.iter().any(|wanted| wanted.id.get() == group) {
                self.maps.leases.free(slot as u32);
                self.report.changes.push(format!("group {group} gave up lease slot {slot}"));
            }
        }
    }
}

fn answers(group: &GroupImage, address: IpAddr, interface: &Interface) -> bool {
    if !group.interfaces.is_empty() {
        return group.interfaces.contains(&interface.name);
    }
    match address {
        IpAddr::V4(v4) => interface.prefixes.iter().any(|prefix| prefix.contains(v4)),
        IpAddr::V6(_) => false,
    }
}

fn unfit(group: &GroupImage, address: IpAddr) -> String {
    if group.interfaces.is_empty() {
        format!("no interface has a connected prefix containing {address}")
    } else {
        format!(
            "{address} is to be answered on {}, which this node does not have",
            group.interfaces.join(", ")
        )
    }
}
