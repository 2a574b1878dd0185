//! Lease slots of groups, and indexes of addresses.
//!
//! Slots and indexes are this node's own numbers. They live in the kernel only, and stay as long as the group
//! or address does: flows and leases refer to them.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;

use lockstep_abi::address::{AddressValue, FLOATING, RANGES, STATIC, VIP};
use lockstep_abi::map as names;
use lockstep_model::image::{AddressImage, GroupImage};
use lockstep_model::protocol::Family;

use super::Apply;
use crate::clock::KernelInstant;
use crate::error::DataplaneError;
use crate::family::{KernelFamily, number, wide};
use crate::sys;

/// No slot: the lease check of such an address finds nothing and drops.
const WITHHELD: u32 = u32::MAX;

/// Where an address of the image is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct AddressRef {
    pub(super) index: u32,
    pub(super) stamp: u32,
}

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
    pub(super) fn write_addresses(&mut self) -> Result<(), DataplaneError> {
        let mut table = self.maps.all_addresses()?;
        let mut known: HashMap<([u32; 4], u32), usize> = HashMap::new();
        for (index, value) in table.iter().enumerate().filter(|(_, value)| value.stamp != 0) {
            known.insert((value.address, value.family), index);
        }
        let ranges = self.addresses_with_ranges();
        let mut free = 0;
        for group in &self.image.groups {
            for address in &group.addresses {
                let name = (wide(address.address), number(Family::of(address.address)));
                let index = known.get(&name).copied().or_else(|| {
                    while table.get(free).is_some_and(|value| value.stamp != 0) {
                        free += 1;
                    }
                    (free < table.len()).then_some(free)
                });
                let index = index.ok_or(DataplaneError::Limit {
                    what: "addresses",
                    limit: names::MAX_ADDRESSES as usize,
                })?;
                let stamp = if table[index].stamp == 0 { new_stamp(&table) } else { table[index].stamp };
                let ranges = ranges.contains(&address.address);
                let value = AddressValue { stamp, ..self.address_value(group, address, ranges) };
                if table[index] != value {
                    let put = self.maps.addresses.put(&(index as u32), &value, sys::ANY);
                    put.map_err(DataplaneError::map(names::ADDRESSES))?;
                    table[index] = value;
                    known.insert(name, index);
                    self.report
                        .changes
                        .push(format!("address {} of group {} written", address.address, group.name));
                }
                self.addresses.insert(address.address, AddressRef { index: index as u32, stamp });
            }
        }
        self.write_indexes::<u32>()?;
        self.write_indexes::<[u32; 4]>()
    }

    /// VIPs at which programs look for ranges.
    fn addresses_with_ranges(&self) -> HashSet<IpAddr> {
        let frontends = self.image.services.iter().flat_map(|service| &service.frontends);
        let ranges = frontends.filter(|frontend| frontend.ports.first != frontend.ports.last);
        ranges.map(|frontend| frontend.vip).collect()
    }

    fn address_value(&mut self, group: &GroupImage, address: &AddressImage, ranges: bool) -> AddressValue {
        let served = (self.held)(address);
        if !served {
            self.report.withheld.push(address.address);
        }
        let flags = [
            (address.vip, VIP),
            (address.floating, FLOATING),
            (address.static_host.is_some(), STATIC),
            (ranges, RANGES),
        ];
        AddressValue {
            stamp: 0,
            lease_slot: if served { self.slots[&group.id] } else { WITHHELD },
            flags: flags.iter().filter(|(is, _)| *is).map(|(_, flag)| flag).sum(),
            family: number(Family::of(address.address)),
            address: wide(address.address),
            group: group.id.get(),
            port_blocks: address.port_blocks,
            static_host: address.static_host.map_or([0; 4], wide),
        }
    }

    fn write_indexes<A: KernelFamily>(&self) -> Result<(), DataplaneError> {
        let map = &A::maps(self.maps).address_index;
        let failed = DataplaneError::map(A::NAMES.address_index);
        for (address, found) in self.addresses_of::<A>() {
            if map.get(&address).map_err(&failed)? != Some(found.index) {
                map.put(&address, &found.index, sys::ANY).map_err(&failed)?;
            }
        }
        Ok(())
    }

    pub(super) fn addresses_of<A: KernelFamily>(&self) -> impl Iterator<Item = (A, AddressRef)> + '_ {
        self.addresses.iter().filter_map(|(address, found)| Some((A::of_ip(*address)?, *found)))
    }

    /// Takes addresses that are in no group out of the index; whether any was.
    pub(super) fn remove_addresses<A: KernelFamily>(&mut self) -> Result<bool, DataplaneError> {
        let wanted: HashMap<A, u32> =
            self.addresses_of::<A>().map(|(address, found)| (address, found.index)).collect();
        let map = &A::maps(self.maps).address_index;
        let removed = crate::sync_map::remove_others(map, A::NAMES.address_index, &wanted)?;
        self.report.note(removed, "addresses removed");
        Ok(removed > 0)
    }

    /// Frees what no address of the image uses, now that no live flow refers to it.
    pub(super) fn free_addresses(&mut self) -> Result<(), DataplaneError> {
        let used: HashSet<u32> = self.addresses.values().map(|found| found.index).collect();
        for (index, value) in (0..).zip(self.maps.all_addresses()?) {
            if value != AddressValue::default() && !used.contains(&index) {
                let put = self.maps.addresses.put(&index, &AddressValue::default(), sys::ANY);
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

/// A stamp of 16 bits, not 0, that no address has now and none had in the last minute: from the clock on, in milliseconds. The
/// clock, because the table forgets the stamps of what it gave up.
fn new_stamp(table: &[AddressValue]) -> u32 {
    const STAMPS: u32 = u16::MAX as u32;
    let used: HashSet<u32> = table.iter().map(|value| value.stamp).collect();
    let from = (KernelInstant::now().0 / 1_000_000 % u64::from(STAMPS)) as u32;
    let candidates = (0..STAMPS).map(|i| (from + i) % STAMPS + 1);
    candidates.into_iter().find(|stamp| !used.contains(stamp)).expect("there are fewer addresses than stamps")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_stamp_is_nobody_elses_and_fits() {
        let mut table = vec![AddressValue::default(); 64];
        for index in 0..table.len() {
            let stamp = new_stamp(&table);
            assert!((1..=0xffff).contains(&stamp) && table.iter().all(|value| value.stamp != stamp));
            table[index].stamp = stamp;
        }
    }
}
