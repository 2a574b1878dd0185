//! What flow records refer to, looked up in the kernel once per call: groups by address, services by frontend,
//! rules by id.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

use foldhash::fast::RandomState;
use lockstep_abi::address::{AddressValue, RANGES, STATIC};
use lockstep_abi::flow::{FlowKey, FlowValue, NO_SYNC, SYNC_LATE};
use lockstep_abi::map as names;
use lockstep_abi::service::{
    AFFINITY, RangeKey, SYNC_ESTABLISHED, SYNC_NONE, ServiceKey, ServiceRef, ServiceVersion, Timeouts,
};
use lockstep_model::ids::GroupId;

use crate::error::DataplaneError;
use crate::family::{KernelFamily, V4, V6, ip_of_wide};
use crate::maps::Maps;
use crate::service_slots::KnownServices;
use crate::targets::Targets;
use crate::trie::TrieKey;

/// Whose a flow is here: the service that its client speaks to, or the rule that made it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Origin {
    pub(crate) address_index: u16,
    pub(crate) address_stamp: u16,
    pub(crate) group: u64,
    pub(crate) service: u64,
    pub(crate) service_slot: u16,
    /// What flows of it carry in `FlowValue::flags`, besides how they are forwarded.
    pub(crate) flow_flags: u32,
    /// Bits of the client's address that a choice is kept for.
    pub(crate) affinity_mask: Option<[u32; 4]>,
}

type Frontends<A> = HashMap<ServiceKey<A>, Option<Origin>, RandomState>;

/// Lives for one call: what it remembers may change afterwards.
pub(crate) struct Directory<'a, A: KernelFamily> {
    maps: &'a Maps,
    addresses: HashMap<u32, Option<AddressValue>>,
    frontends: Frontends<A>,
    rules: Option<HashSet<u64>>,
    services: Arc<KnownServices>,
    targets: Arc<Targets>,
}

impl<'a, A: KernelFamily> Directory<'a, A> {
    pub(crate) fn new(maps: &'a Maps) -> Self {
        Self {
            maps,
            addresses: HashMap::new(),
            frontends: HashMap::default(),
            rules: None,
            services: maps.services.known(),
            targets: maps.targets.known(),
        }
    }

    pub(crate) fn timeouts(&self, service: u64) -> &Timeouts {
        self.services.timeouts(service)
    }

    pub(crate) fn targets(&self) -> &Targets {
        &self.targets
    }

    /// The address of a flow, as long as it is still the one that the flow was made with.
    pub(crate) fn address_of(&mut self, flow: &FlowValue<A>) -> Result<Option<AddressValue>, DataplaneError> {
        let address = self.address(flow.address_index.into())?;
        Ok(address.filter(|address| address.stamp == u32::from(flow.address_stamp)))
    }

    pub(crate) fn group_of(&mut self, flow: &FlowValue<A>) -> Result<Option<GroupId>, DataplaneError> {
        Ok(self.address_of(flow)?.map(|address| GroupId(address.group)))
    }

    fn address(&mut self, index: u32) -> Result<Option<AddressValue>, DataplaneError> {
        if let Some(address) = self.addresses.get(&index) {
            return Ok(*address);
        }
        let address = self.maps.address(index)?;
        self.addresses.insert(index, address);
        Ok(address)
    }

    /// The service that the client of `key` speaks to.
    pub(crate) fn frontend(&mut self, key: &FlowKey<A>) -> Result<Option<Origin>, DataplaneError> {
        let service = ServiceKey {
            vip_be: key.destination_be,
            port_be: key.destination_port_be,
            protocol: key.protocol,
            pad: 0,
        };
        if let Some(frontend) = self.frontends.get(&service) {
            return Ok(*frontend);
        }
        let frontend = self.read(&service)?;
        self.frontends.insert(service, frontend);
        Ok(frontend)
    }

    fn read(&mut self, key: &ServiceKey<A>) -> Result<Option<Origin>, DataplaneError> {
        let Some((index, address)) = self.owned(key.vip_be)? else { return Ok(None) };
        let Some(current) = self.service(key, &address)? else { return Ok(None) };
        let version = self.maps.versions.get(&current.version_slot);
        let version = version.map_err(DataplaneError::map(names::VERSIONS))?;
        let version = version.filter(|version| version.service == current.service);
        let keeps = version.filter(|version| version.flags & AFFINITY != 0);
        Ok(Some(Origin {
            address_index: index as u16,
            address_stamp: address.stamp as u16,
            group: address.group,
            service: current.service,
            service_slot: current.service_slot,
            flow_flags: version.map_or(0, |version| sync_flags(&version)),
            affinity_mask: keeps.map(|version| version.affinity_mask),
        }))
    }

    fn owned(&mut self, address: A) -> Result<Option<(u32, AddressValue)>, DataplaneError> {
        let index = A::maps(self.maps).address_index.get(&address);
        let Some(index) = index.map_err(DataplaneError::map(A::NAMES.address_index))? else {
            return Ok(None);
        };
        let value = self.address(index)?;
        Ok(value.filter(|value| value.address == address.wide()).map(|value| (index, value)))
    }

    /// As the programs look: the port itself, then the ranges.
    fn service(
        &self,
        key: &ServiceKey<A>,
        address: &AddressValue,
    ) -> Result<Option<ServiceRef>, DataplaneError> {
        let maps = A::maps(self.maps);
        let exact = maps.services.get(key).map_err(DataplaneError::map(A::NAMES.services))?;
        if exact.is_some() || address.flags & RANGES == 0 {
            return Ok(exact);
        }
        let range = RangeKey { vip_be: key.vip_be, protocol: key.protocol, pad: 0, port_be: key.port_be };
        let bits = 8 * size_of::<RangeKey<A>>() as u32;
        maps.ranges.get(&TrieKey::new(bits, range)).map_err(DataplaneError::map(A::NAMES.ranges))
    }

    /// The address of `ip` as that of a flow that the rule `rule` made: one with a translated source leaves with
    /// it, one to a static address comes to it.
    pub(crate) fn rule(&mut self, ip: IpAddr, rule: u64) -> Result<Option<Origin>, DataplaneError> {
        let Some(address) = A::of_ip(ip) else { return Ok(None) };
        let Some((index, address)) = self.owned(address)? else { return Ok(None) };
        if !self.may_make(rule, &address)? {
            return Ok(None);
        }
        Ok(Some(Origin {
            address_index: index as u16,
            address_stamp: address.stamp as u16,
            group: address.group,
            service: rule,
            service_slot: 0,
            flow_flags: 0,
            affinity_mask: None,
        }))
    }

    /// Whether what made a flow is no more. A flow without an endpoint is a rule's.
    pub(crate) fn is_orphan(&mut self, flow: &FlowValue<A>) -> Result<bool, DataplaneError> {
        let Some(address) = self.address_of(flow)? else { return Ok(true) };
        if flow.endpoint == 0 {
            // An address that is given up leaves the index first, and its place when no flow needs it.
            let named = match A::of_ip(ip_of_wide(address.address, address.family)) {
                Some(named) => self.owned(named)?,
                None => None,
            };
            if named.is_none_or(|(index, _)| index != u32::from(flow.address_index)) {
                return Ok(true);
            }
            return Ok(!self.may_make(flow.service, &address)?);
        }
        let frontend = self.frontend(&flow.key)?;
        Ok(frontend.is_none_or(|frontend| frontend.service != flow.service))
    }

    /// Flows that somebody began from outside, to a static address, name no rule.
    fn may_make(&mut self, rule: u64, address: &AddressValue) -> Result<bool, DataplaneError> {
        if rule == 0 { Ok(address.flags & STATIC != 0) } else { self.is_rule(rule) }
    }

    fn is_rule(&mut self, id: u64) -> Result<bool, DataplaneError> {
        if self.rules.is_none() {
            let mut rules = HashSet::new();
            rules_of::<V4>(self.maps, &mut rules)?;
            rules_of::<V6>(self.maps, &mut rules)?;
            self.rules = Some(rules);
        }
        Ok(self.rules.as_ref().is_some_and(|rules| rules.contains(&id)))
    }
}

/// The rules that some source leads to.
fn rules_of<A: KernelFamily>(maps: &Maps, rules: &mut HashSet<u64>) -> Result<(), DataplaneError> {
    let sources = A::maps(maps).snat_sources.entries();
    for (_, index) in sources.map_err(DataplaneError::map(A::NAMES.snat_sources))? {
        let set = maps.snat_sets.get(&index).map_err(DataplaneError::map(names::SNAT_SETS))?;
        let Some(set) = set else { continue };
        let count = (set.count as usize).min(set.rules.len());
        rules.extend(set.rules[..count].iter().map(|rule| rule.id));
    }
    Ok(())
}

fn sync_flags(version: &ServiceVersion) -> u32 {
    match version.sync {
        SYNC_NONE => NO_SYNC,
        SYNC_ESTABLISHED => SYNC_LATE,
        _ => 0,
    }
}
