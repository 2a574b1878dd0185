//! Services of a family: each version is written beside the old one and goes live by one write per frontend (I11).

use std::collections::HashMap;

use lockstep_abi::map as names;
use lockstep_abi::service::{RangeKey, ServiceKey, ServiceRef};
use lockstep_model::image::ServiceImage;

use super::version::{Context, version};
use super::{Apply, ports};
use crate::clock::KernelInstant;
use crate::error::DataplaneError;
use crate::family::KernelFamily;
use crate::sync_map::remove_others;
use crate::sys;
use crate::trie::TrieKey;

/// What leads to a service.
struct Frontends<A> {
    exact: Vec<ServiceKey<A>>,
    ranges: Vec<TrieKey<RangeKey<A>>>,
}

impl<A: KernelFamily> Frontends<A> {
    fn of(service: &ServiceImage) -> Self {
        let (mut exact, mut ranges) = (Vec::new(), Vec::new());
        let vips = service.frontends.iter().filter_map(|f| Some((A::of_ip(f.vip)?, f.ports)));
        let each = vips.flat_map(|vip| service.protocols.iter().map(move |protocol| (vip, *protocol)));
        for ((vip_be, range), protocol) in each {
            let number = protocol.number(A::FAMILY);
            if !protocol.has_ports() {
                exact.push(ServiceKey { vip_be, port_be: 0, protocol: number, pad: 0 });
            } else if range.is_single() {
                exact.push(ServiceKey { vip_be, port_be: range.first.to_be(), protocol: number, pad: 0 });
            } else if range.first > 0 {
                ranges.extend(ports::prefixes(range).into_iter().map(|(port, bits)| {
                    let key = RangeKey { vip_be, protocol: number, pad: 0, port_be: port.to_be() };
                    let before_the_port = 8 * size_of::<RangeKey<A>>() as u32 - u16::BITS;
                    TrieKey::new(before_the_port + bits, key)
                }));
            }
        }
        Self { exact, ranges }
    }

    fn is_empty(&self) -> bool {
        self.exact.is_empty() && self.ranges.is_empty()
    }
}

/// What the kernel's tables lead to.
struct Published<A> {
    exact: HashMap<ServiceKey<A>, ServiceRef>,
    ranges: HashMap<TrieKey<RangeKey<A>>, ServiceRef>,
    /// The versions of a service, by how many frontends name them: more than one only after a crash half way.
    slots: HashMap<u64, Vec<u32>>,
}

impl Apply<'_> {
    fn published<A: KernelFamily>(&self) -> Result<Published<A>, DataplaneError> {
        let maps = A::maps(self.maps);
        let exact: HashMap<ServiceKey<A>, ServiceRef> = maps
            .services
            .hash_entries()
            .map_err(DataplaneError::map(A::NAMES.services))?
            .into_iter()
            .collect();
        let ranges: HashMap<TrieKey<RangeKey<A>>, ServiceRef> =
            maps.ranges.entries().map_err(DataplaneError::map(A::NAMES.ranges))?.into_iter().collect();
        let mut slots: HashMap<u64, Vec<u32>> = HashMap::new();
        for current in exact.values().chain(ranges.values()) {
            let slots = slots.entry(current.service).or_default();
            if current.version_slot < names::VERSION_SLOTS && !slots.contains(&current.version_slot) {
                slots.push(current.version_slot);
            }
        }
        Ok(Published { exact, ranges, slots })
    }

    pub(super) fn publish<A: KernelFamily>(&mut self) -> Result<(), DataplaneError> {
        let image = self.image;
        let all: Vec<(&ServiceImage, Frontends<A>)> = image
            .services
            .iter()
            .filter(|service| self.slots.contains_key(&service.group))
            .map(|service| (service, Frontends::of(service)))
            .filter(|(_, frontends)| !frontends.is_empty())
            .collect();
        let limits = [
            (A::NAMES.services, all.iter().map(|(_, f)| f.exact.len()).sum::<usize>(), names::MAX_FRONTENDS),
            (A::NAMES.ranges, all.iter().map(|(_, f)| f.ranges.len()).sum(), names::MAX_RANGES),
        ];
        for (what, wanted, limit) in limits {
            if wanted > limit as usize {
                return Err(DataplaneError::Limit { what, limit: limit as usize });
            }
        }
        let published = self.published::<A>()?;
        for (service, frontends) in &all {
            let slot = self.version_slot::<A>(service, &published)?;
            let current = ServiceRef {
                version_slot: slot,
                service_slot: self.maps.services.known().slot(service.id.get()),
                address_index: 0,
                service: service.id.get(),
            };
            self.name(&current, frontends, &published)?;
        }
        Ok(())
    }

    /// The slot of the version that is wanted: of a published one if that says the same, else of a new one. A
    /// published version is complete: what names it is written last.
    fn version_slot<A: KernelFamily>(
        &mut self,
        service: &ServiceImage,
        published: &Published<A>,
    ) -> Result<u32, DataplaneError> {
        let slots = published.slots.get(&service.id.get()).map(Vec::as_slice).unwrap_or_default();
        let snat = self.snat_of(service, A::FAMILY);
        let targets = self.maps.targets.known();
        let now_ns = KernelInstant::now().0;
        let context = Context { family: A::FAMILY, targets: &targets, snat, now_ns };
        let mut newest = None;
        for slot in slots {
            let (header, endpoints) = self.read_version(*slot)?;
            let wanted = version(service, &endpoints, &context);
            if wanted.is(&header, &endpoints) && self.has_sources(*slot, &wanted)? {
                return Ok(*slot);
            }
            if newest.as_ref().is_none_or(|(revision, _)| header.revision > *revision) {
                newest = Some((header.revision, wanted));
            }
        }
        let wanted = newest.map_or_else(|| version(service, &[], &context), |(_, wanted)| wanted);
        let slot = self.free_version()?;
        self.write_version(slot, &wanted)?;
        self.report.changes.push(format!(
            "service {} revision {} over {} in slot {slot}",
            service.name,
            service.revision,
            A::FAMILY
        ));
        Ok(slot)
    }

    fn name<A: KernelFamily>(
        &self,
        current: &ServiceRef,
        frontends: &Frontends<A>,
        published: &Published<A>,
    ) -> Result<(), DataplaneError> {
        let maps = A::maps(self.maps);
        let indexes: HashMap<A, u32> =
            self.addresses_of::<A>().map(|(address, found)| (address, found.index)).collect();
        let at = |vip_be: &A| ServiceRef {
            address_index: indexes.get(vip_be).copied().unwrap_or_default() as u16,
            ..*current
        };
        for key in &frontends.exact {
            let current = at(&key.vip_be);
            if published.exact.get(key) != Some(&current) {
                maps.services.put(key, &current, sys::ANY).map_err(DataplaneError::map(A::NAMES.services))?;
            }
        }
        for key in frontends.ranges.iter().filter(|key| published.ranges.get(key) != Some(current)) {
            maps.ranges.put(key, current, sys::ANY).map_err(DataplaneError::map(A::NAMES.ranges))?;
        }
        Ok(())
    }

    /// Removes frontends that no service has; whether there were any.
    pub(super) fn remove_frontends<A: KernelFamily>(&mut self) -> Result<bool, DataplaneError> {
        let (mut exact, mut ranges) = (HashMap::new(), HashMap::new());
        for service in self.image.services.iter().filter(|service| self.slots.contains_key(&service.group)) {
            let frontends = Frontends::<A>::of(service);
            exact.extend(frontends.exact.into_iter().map(|key| (key, ServiceRef::default())));
            ranges.extend(frontends.ranges.into_iter().map(|key| (key, ServiceRef::default())));
        }
        let maps = A::maps(self.maps);
        let removed = remove_others(&maps.services, A::NAMES.services, &exact)?
            + remove_others(&maps.ranges, A::NAMES.ranges, &ranges)?;
        self.report.note(removed, "frontends removed");
        Ok(removed > 0)
    }
}
