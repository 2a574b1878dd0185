//! Which addresses there are, and what they are for: a function of the intent alone.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::{Service, State};
use crate::ids::GroupId;
use crate::intent::{Mode, SnatAction};
use crate::limits::FIRST_PORT_BLOCKS;
use crate::protocol::Family;

impl State {
    /// Every address of the cluster with the group that should serve it.
    pub fn addresses(&self) -> BTreeMap<IpAddr, GroupId> {
        let floating = self.groups.iter().flat_map(|(id, g)| g.spec.addresses.iter().map(|a| (*a, *id)));
        let vips = self.services.values().flat_map(|s| s.spec.vip.iter().map(|a| (*a, s.group)));
        let rules = self.snat_rules.values();
        let translated = rules.flat_map(|r| r.spec.action.addresses().iter().map(|a| (*a, r.group)));
        floating.chain(vips).chain(translated).collect()
    }

    /// The addresses of one group.
    pub fn group_addresses(&self, id: GroupId) -> BTreeSet<IpAddr> {
        let floating = self.groups.get(&id).into_iter().flat_map(|g| &g.spec.addresses);
        let vips = self.services.values().filter(|s| s.group == id).flat_map(|s| &s.spec.vip);
        let rules = self.snat_rules.values().filter(|r| r.group == id);
        floating.chain(vips).chain(rules.flat_map(|r| r.spec.action.addresses())).copied().collect()
    }

    /// The addresses that a service's clients connect to. A host-one-arm service without VIPs has every
    /// address of its group.
    pub fn vips(&self, service: &Service) -> Vec<IpAddr> {
        if service.spec.vip.is_empty() && service.spec.mode == Mode::HostOneArm {
            return self.group_addresses(service.group).into_iter().collect();
        }
        service.spec.vip.clone()
    }

    /// The addresses that a service's flows may leave with.
    pub fn snat_candidates(&self, service: &Service) -> Vec<IpAddr> {
        let spec = &service.spec;
        match spec.mode {
            Mode::Nat => spec.vip.clone(),
            Mode::Fullnat if spec.snat_pool.is_empty() => spec.vip.clone(),
            Mode::Fullnat => spec.snat_pool.clone(),
            Mode::OneArm | Mode::HostOneArm => {
                let families: BTreeSet<Family> =
                    spec.endpoints.iter().map(|e| Family::of(e.address.ip())).collect();
                let floating = self.groups.get(&service.group).map(|g| g.spec.addresses.as_slice());
                let floating = floating.unwrap_or_default().iter().copied();
                floating.filter(|address| families.contains(&Family::of(*address))).collect()
            }
            Mode::DsrL2 | Mode::DsrIpip | Mode::DsrGue => Vec::new(),
        }
    }

    /// Every address that flows leave with and a port of its blocks.
    pub fn snat_sources(&self) -> BTreeSet<IpAddr> {
        let services = self.services.values().flat_map(|service| self.snat_candidates(service));
        let rules = self.snat_rules.values().flat_map(|rule| match &rule.spec.action {
            SnatAction::Snat(to) => to.as_slice(),
            // It keeps the port it had.
            SnatAction::Static(_) | SnatAction::None => &[],
        });
        services.chain(rules.copied()).collect()
    }

    /// The port blocks of an address that flows leave with. A state of a version that had no blocks says
    /// nothing about them: such an address has the first.
    pub fn blocks(&self, address: IpAddr) -> u64 {
        self.port_blocks.get(&address).copied().unwrap_or(FIRST_PORT_BLOCKS)
    }
}
