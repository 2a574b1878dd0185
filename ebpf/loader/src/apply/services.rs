//! Services: each version is written beside the old one and goes live by one write per frontend (I11).

use std::collections::{HashMap, HashSet};

use lockstep_abi::map as names;
use lockstep_abi::service::{
    Endpoint, MAGLEV, ROUND_ROBIN, SYNC_IMMEDIATE, SYNC_NONE, ServiceKey, ServiceRef, ServiceVersion,
};
use lockstep_model::ids::EndpointId;
use lockstep_model::image::{EndpointImage, ServiceImage};
use lockstep_model::intent::{Algorithm, Limits, Mode, OnMiss, SyncPolicy, Timeouts};
use lockstep_model::maglev;
use lockstep_model::protocol::{Family, Protocol};

use super::Apply;
use crate::error::DataplaneError;
use crate::grace::wait_grace_period;
use crate::record::ip_be;
use crate::sys;

impl Apply<'_> {
    pub(super) fn publish_services(&mut self) -> Result<(), DataplaneError> {
        for service in &self.image.services {
            if let Some(what) = not_yet(service) {
                self.report
                    .warnings
                    .push(format!("service {}: {what} is not in the dataplane yet", service.name));
                continue;
            }
            let taking = service.eligible();
            let taking = &taking[..taking.len().min(names::MAX_ENDPOINTS as usize)];
            let header = header(service, taking.len());
            let endpoints: Vec<Endpoint> = taking.iter().filter_map(kernel_endpoint).collect();

            let slot = match self.published(service, &header, &endpoints)? {
                Some(slot) => slot,
                None => {
                    let slot = self.free_version()?;
                    self.write_version(slot, &header, &endpoints, taking)?;
                    let revision = service.revision;
                    self.report
                        .changes
                        .push(format!("service {} revision {revision} in slot {slot}", service.name));
                    slot
                }
            };
            for key in frontends(service) {
                let current = ServiceRef { version_slot: slot, pad: 0, service: service.id.get() };
                if self.maps.services.get(&key).map_err(services_failed)? != Some(current) {
                    self.maps.services.put(&key, &current, sys::ANY).map_err(services_failed)?;
                }
            }
        }
        Ok(())
    }

    /// The slot of a published version that is what is wanted. A published version is complete: the reference is
    /// written last.
    fn published(
        &self,
        service: &ServiceImage,
        header: &ServiceVersion,
        endpoints: &[Endpoint],
    ) -> Result<Option<u32>, DataplaneError> {
        for key in frontends(service) {
            let Some(current) = self.maps.services.get(&key).map_err(services_failed)? else { continue };
            let found = self.maps.versions.get(&current.version_slot).map_err(versions_failed)?;
            if found.as_ref() != Some(header) {
                continue;
            }
            let first = current.version_slot * names::MAX_ENDPOINTS;
            let found = self
                .maps
                .endpoints
                .slice(first, endpoints.len())
                .map_err(DataplaneError::map(names::ENDPOINTS))?;
            if found == endpoints {
                return Ok(Some(current.version_slot));
            }
        }
        Ok(None)
    }

    /// A slot that no program can be reading. When none is left, those that were just replaced are freed first.
    fn free_version(&mut self) -> Result<u32, DataplaneError> {
        for attempt in 0..2 {
            let versions = self.versions()?;
            if let Some(slot) = versions.iter().position(|version| *version == ServiceVersion::default()) {
                return Ok(slot as u32);
            }
            if attempt == 0 {
                self.free_versions()?;
            }
        }
        Err(DataplaneError::Limit { what: "service versions", limit: names::VERSION_SLOTS as usize })
    }

    fn versions(&self) -> Result<Vec<ServiceVersion>, DataplaneError> {
        self.maps.versions.slice(0, names::VERSION_SLOTS as usize).map_err(versions_failed)
    }

    fn write_version(
        &self,
        slot: u32,
        header: &ServiceVersion,
        endpoints: &[Endpoint],
        taking: &[EndpointImage],
    ) -> Result<(), DataplaneError> {
        let first = slot * names::MAX_ENDPOINTS;
        let keys: Vec<u32> = (first..).take(endpoints.len()).collect();
        let (_, result) = self.maps.endpoints.put_all(&keys, endpoints, sys::ANY);
        result.map_err(DataplaneError::map(names::ENDPOINTS))?;

        if header.algorithm == MAGLEV && !taking.is_empty() {
            let weights: Vec<(EndpointId, u16)> = taking.iter().map(|e| (e.id, e.weight)).collect();
            let words = pack(&maglev::table(&weights, names::MAGLEV_SLOTS as usize));
            let first = slot * names::MAGLEV_WORDS;
            let keys: Vec<u32> = (first..).take(words.len()).collect();
            let (_, result) = self.maps.maglev.put_all(&keys, &words, sys::ANY);
            result.map_err(DataplaneError::map(names::MAGLEV))?;
        }
        self.maps.versions.put(&slot, header, sys::ANY).map_err(versions_failed)
    }

    /// Removes frontends that no service has; whether there were any.
    pub(super) fn remove_services(&mut self) -> Result<bool, DataplaneError> {
        let wanted: HashMap<ServiceKey, ()> =
            self.image.services.iter().flat_map(frontends).map(|key| (key, ())).collect();
        let mut removed = 0;
        for (key, _) in self.maps.services.entries().map_err(services_failed)? {
            if !wanted.contains_key(&key) {
                self.maps.services.remove(&key).map_err(services_failed)?;
                removed += 1;
            }
        }
        self.report.note(removed, "frontends removed");
        Ok(removed > 0)
    }

    /// Frees versions that no frontend names, after a grace period: a program may be half way through one.
    pub(super) fn free_versions(&mut self) -> Result<(), DataplaneError> {
        let entries = self.maps.services.entries().map_err(services_failed)?;
        let named: HashSet<u32> = entries.iter().map(|(_, current)| current.version_slot).collect();
        let unused: Vec<u32> = (0..)
            .zip(self.versions()?)
            .filter(|(slot, version)| *version != ServiceVersion::default() && !named.contains(slot))
            .map(|(slot, _)| slot)
            .collect();
        if unused.is_empty() {
            return Ok(());
        }
        wait_grace_period().map_err(versions_failed)?;
        for slot in unused {
            self.maps.versions.put(&slot, &ServiceVersion::default(), sys::ANY).map_err(versions_failed)?;
        }
        Ok(())
    }
}

fn services_failed(source: std::io::Error) -> DataplaneError {
    DataplaneError::Map { map: names::SERVICES, source }
}

fn versions_failed(source: std::io::Error) -> DataplaneError {
    DataplaneError::Map { map: names::VERSIONS, source }
}

fn header(service: &ServiceImage, endpoints: usize) -> ServiceVersion {
    ServiceVersion {
        service: service.id.get(),
        revision: service.revision.get(),
        algorithm: match service.algorithm {
            Algorithm::Maglev => MAGLEV,
            Algorithm::RoundRobin => ROUND_ROBIN,
            other => unreachable!("{other:?} is not in the dataplane yet"),
        },
        endpoint_count: endpoints as u32,
        sync: match service.sync {
            SyncPolicy::Immediate => SYNC_IMMEDIATE,
            SyncPolicy::None => SYNC_NONE,
            SyncPolicy::Established => unreachable!("it is not in the dataplane yet"),
        },
        pad: 0,
    }
}

fn kernel_endpoint(endpoint: &EndpointImage) -> Option<Endpoint> {
    Some(Endpoint {
        id: endpoint.id.get(),
        address_be: ip_be(endpoint.address.ip())?,
        port_be: endpoint.address.port().to_be(),
        pad: 0,
    })
}

fn frontends(service: &ServiceImage) -> impl Iterator<Item = ServiceKey> + '_ {
    let served = service.frontends.iter().filter(|_| not_yet(service).is_none());
    served.flat_map(|frontend| {
        service.protocols.iter().filter_map(|protocol| {
            Some(ServiceKey {
                vip_be: ip_be(frontend.vip)?,
                port_be: frontend.ports.first.to_be(),
                protocol: protocol.number(Family::V4),
                pad: 0,
            })
        })
    })
}

/// What a service asks for that the programs do not do.
fn not_yet(service: &ServiceImage) -> Option<&'static str> {
    let known = |algorithm| matches!(algorithm, Algorithm::Maglev | Algorithm::RoundRobin);
    let endpoints = &service.endpoints;
    [
        (service.mode != Mode::Nat, "a mode other than nat"),
        (!known(service.algorithm), "an algorithm other than maglev and round-robin"),
        (service.sync == SyncPolicy::Established, "sync established"),
        (service.on_miss == OnMiss::Reset, "on_miss reset"),
        (service.affinity.is_some(), "affinity"),
        (service.timeouts != Timeouts::default(), "a timeout of its own"),
        (!service.sources.is_empty(), "a list of sources"),
        (service.limits != Limits::default(), "a limit"),
        (service.slow_start.is_some(), "slow start"),
        (service.frontends.iter().any(|f| f.vip.is_ipv6()), "an IPv6 VIP"),
        (service.frontends.iter().any(|f| !f.ports.is_single()), "a range of ports"),
        (endpoints.iter().any(|e| e.address.port() == 0), "an endpoint without a port"),
        (service.protocols.iter().any(|p| !matches!(p, Protocol::Tcp | Protocol::Udp)), "sctp or icmp"),
    ]
    .into_iter()
    .find_map(|(asked, what)| asked.then_some(what))
}

/// Four positions to a word, the first in the lowest bits.
fn pack(table: &[u16]) -> Vec<u64> {
    table
        .chunks(4)
        .map(|four| four.iter().rev().fold(0, |word, position| word << 16 | u64::from(*position)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packed_tables_read_as_the_programs_read_them() {
        let table: Vec<u16> = (0..names::MAGLEV_SLOTS).map(|slot| (slot * 7 % 1000) as u16).collect();
        let words = pack(&table);
        assert_eq!(words.len(), names::MAGLEV_WORDS as usize);
        for (slot, position) in table.iter().enumerate() {
            assert_eq!((words[slot / 4] >> (16 * (slot % 4))) as u16, *position);
        }
    }
}
