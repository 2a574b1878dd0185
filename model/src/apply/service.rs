//! Services are made, changed, deleted.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use super::change::{Draft, Verb};
use super::{health, invalid, not_found, or_none, refuse_first};
use crate::check;
use crate::ids::{EndpointId, ServiceId};
use crate::intent::{EndpointSpec, Mode, PortRange, ServiceSpec};
use crate::protocol::{Family, Protocol};
use crate::state::{Refusal, Service, State};

pub(super) fn upsert(draft: &mut Draft, spec: &ServiceSpec) -> Result<Verb, Refusal> {
    refuse_first(&format!("service/{}", spec.name), check::service(spec))?;
    let Some((group, _)) = draft.state.group(&spec.group) else {
        let names = draft.state.groups.values().map(|g| g.spec.name.as_str()).collect();
        let allowed = format!("an existing group: {}", or_none(names));
        return Err(invalid(format!("service/{}: spec.group", spec.name), &spec.group, allowed));
    };
    let revision = draft.revision();
    let known = draft.state.service(&spec.name).map(|(id, service)| (id, service.clone()));
    if known.as_ref().is_some_and(|(_, old)| old.spec == *spec && old.group == group) {
        return Ok(Verb::Unchanged);
    }
    let verb = if known.is_some() { Verb::Configured } else { Verb::Created };
    let (id, old, verdicts) = match known {
        Some((id, old)) => (id, endpoints_by_address(&old), old.verdicts),
        None => (ServiceId(draft.next_id()), BTreeMap::new(), BTreeMap::new()),
    };
    let id_of = |address: SocketAddr| old.get(&address).copied();
    let endpoint_ids = spec
        .endpoints
        .iter()
        .map(|e| id_of(e.address).unwrap_or_else(|| EndpointId(draft.next_id())))
        .collect();
    let mut service = Service { spec: spec.clone(), endpoint_ids, group, revision, verdicts };
    health::forget(&mut service);
    draft.state.services.insert(id, service);
    Ok(verb)
}

fn endpoints_by_address(service: &Service) -> BTreeMap<SocketAddr, EndpointId> {
    let addresses = service.spec.endpoints.iter().map(|e| e.address);
    addresses.zip(service.endpoint_ids.iter().copied()).collect()
}

pub(super) fn delete(draft: &mut Draft, name: &str) -> Result<Verb, Refusal> {
    let (id, _) = draft.state.service(name).ok_or_else(|| not_found("service", name))?;
    draft.state.services.remove(&id);
    Ok(Verb::Deleted)
}

/// No two services have a VIP, protocol and port in common.
pub(super) fn check_frontends(state: &State) -> Result<(), Refusal> {
    // By VIP, protocol and first port. The ranges in it do not overlap, so that only one can reach into another:
    // the last that begins no later than it ends.
    let mut taken: BTreeMap<(IpAddr, Protocol, u16), (PortRange, &str)> = BTreeMap::new();
    for service in state.services.values() {
        let spec = &service.spec;
        for (i, vip) in state.vips(service).into_iter().enumerate() {
            for protocol in spec.protocol.iter().copied() {
                // Echo has no ports, whatever the other protocols of a service have.
                let ports = if protocol.has_ports() { spec.port } else { PortRange::NONE };
                let before = taken.range((vip, protocol, 0)..=(vip, protocol, ports.last)).next_back();
                if let Some((_, (_, other))) = before.filter(|(_, (range, _))| range.overlaps(ports)) {
                    let at = if spec.vip.is_empty() { String::new() } else { format!("[{i}]") };
                    let path = format!("service/{}: spec.vip{at}", spec.name);
                    let value = if protocol.has_ports() {
                        format!("{vip} port {ports} {protocol}")
                    } else {
                        format!("{vip} {protocol}")
                    };
                    let allowed = format!("a frontend of its own: service/{other} has this one");
                    return Err(invalid(path, value, allowed));
                }
                taken.insert((vip, protocol, ports.first), (ports, spec.name.as_str()));
            }
        }
    }
    Ok(())
}

/// A service whose endpoints see an address of the group has one of their family.
pub(super) fn check_sources(state: &State) -> Result<(), Refusal> {
    for service in state.services.values() {
        let spec = &service.spec;
        let Some(group) = state.groups.get(&service.group) else { continue };
        if matches!(spec.mode, Mode::OneArm | Mode::HostOneArm) {
            let candidates = state.snat_candidates(service);
            let lacks = |e: &EndpointSpec| {
                let family = Family::of(e.address.ip());
                !candidates.iter().any(|address| Family::of(*address) == family)
            };
            if let Some((i, endpoint)) = spec.endpoints.iter().enumerate().find(|(_, e)| lacks(e)) {
                let path = format!("service/{}: spec.endpoints[{i}].address", spec.name);
                let family = Family::of(endpoint.address.ip());
                let allowed = format!(
                    "what a floating address of group/{} can be the source for; it has no {family} one",
                    group.spec.name
                );
                return Err(invalid(path, endpoint.address.ip(), allowed));
            }
        }
        if spec.snat_pool.is_empty() {
            continue;
        }
        let own = state.group_addresses(service.group);
        if let Some((i, address)) = spec.snat_pool.iter().enumerate().find(|(_, a)| !own.contains(a)) {
            let path = format!("service/{}: spec.snat_pool[{i}]", spec.name);
            let allowed = format!("VIPs and floating addresses of group/{}", group.spec.name);
            return Err(invalid(path, address, allowed));
        }
    }
    Ok(())
}
