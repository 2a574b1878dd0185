//! Slots of services, and indexes of endpoints.

use std::net::IpAddr;

use lockstep_abi::service::{TargetValue, Timeouts};
use lockstep_model::image::{EndpointImage, ServiceImage};
use lockstep_model::intent::Mode;
use lockstep_model::protocol::Family;

use super::Apply;
use crate::error::DataplaneError;
use crate::family::{number, wide};
use crate::targets::NO_SOURCE;

impl Apply<'_> {
    pub(super) fn assign_service_slots(&mut self) -> Result<(), DataplaneError> {
        let wanted: Vec<Timeouts> = self.image.services.iter().map(timeouts).collect();
        self.maps.services.assign(&wanted)
    }

    pub(super) fn free_service_slots(&self) -> Result<(), DataplaneError> {
        let kept: Vec<u64> = self.image.services.iter().map(|service| service.id.get()).collect();
        self.maps.services.free_others(&kept)
    }

    /// Gives every endpoint an index, first those that new flows may go to.
    pub(super) fn assign_targets(&mut self) -> Result<(), DataplaneError> {
        let mut taking = Vec::new();
        let mut others = Vec::new();
        for service in self.image.services.iter().filter(|service| self.slots.contains_key(&service.group)) {
            let mut without_source = 0;
            for endpoint in &service.endpoints {
                let outer_source = self.outer_source(service, endpoint);
                without_source += usize::from(is_tunnelled(service.mode) && outer_source == NO_SOURCE);
                let target = TargetValue {
                    endpoint: endpoint.id.get(),
                    address: wide(endpoint.address.ip()),
                    family: number(Family::of(endpoint.address.ip())),
                    outer_source,
                };
                if endpoint.is_offered() { taking.push(target) } else { others.push(target) }
            }
            if without_source > 0 {
                self.report.warnings.push(format!(
                    "service {}: {without_source} endpoints get nothing: group {} has no address of their family to encapsulate from",
                    service.name, service.group
                ));
            }
        }
        let important = taking.len();
        taking.append(&mut others);
        let left_out = self.maps.targets.assign(&taking)?;
        if left_out > taking.len() - important {
            let limit = lockstep_abi::map::MAX_TARGETS as usize - 1;
            return Err(DataplaneError::Limit { what: "endpoints", limit });
        }
        if left_out > 0 {
            self.report.warnings.push(format!(
                "{left_out} endpoints that take no new flows have no index: what flows they have is not counted"
            ));
        }
        Ok(())
    }

    /// Where packets to an endpoint are encapsulated from: an address of the group, of the endpoint's family, rather
    /// a floating one, rather in the endpoint's network. Never the node's own: it would go with the node.
    fn outer_source(&self, service: &ServiceImage, endpoint: &EndpointImage) -> u32 {
        if !is_tunnelled(service.mode) {
            return NO_SOURCE;
        }
        let to = endpoint.address.ip();
        let group = self.image.groups.iter().find(|group| group.id == service.group);
        let candidates = group.into_iter().flat_map(|group| &group.addresses);
        let candidates = candidates.filter(|address| Family::of(address.address) == Family::of(to));
        let best = candidates.max_by_key(|address| {
            (address.floating, self.is_beside(address.address, to), std::cmp::Reverse(address.address))
        });
        best.and_then(|best| self.addresses.get(&best.address)).map_or(NO_SOURCE, |found| found.index)
    }

    /// Whether both are in one connected network.
    pub(super) fn is_beside(&self, one: IpAddr, other: IpAddr) -> bool {
        self.connected(one).is_some_and(|network| network.contains(other))
    }
}

fn is_tunnelled(mode: Mode) -> bool {
    matches!(mode, Mode::DsrIpip | Mode::DsrGue)
}

fn timeouts(service: &ServiceImage) -> Timeouts {
    let times = &service.timeouts;
    Timeouts {
        service: service.id.get(),
        new_ns: times.syn.as_nanos() as u64,
        established_ns: times.established.as_nanos() as u64,
        closing_ns: times.fin.as_nanos() as u64,
        udp_new_ns: times.udp.as_nanos() as u64,
        udp_established_ns: times.udp_stream.as_nanos() as u64,
    }
}
