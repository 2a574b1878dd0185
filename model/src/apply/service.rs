//! Services are made, changed, deleted.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use super::change::{Draft, Verb};
use super::{invalid, not_found, or_none, refuse_first};
use crate::check;
use crate::ids::{EndpointId, ServiceId};
use crate::intent::ServiceSpec;
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
    let (id, old) = match known {
        Some((id, old)) => (id, endpoints_by_address(&old)),
        None => (ServiceId(draft.next_id()), BTreeMap::new()),
    };
    let id_of = |address: SocketAddr| old.get(&address).copied();
    let endpoint_ids = spec
        .endpoints
        .iter()
        .map(|e| id_of(e.address).unwrap_or_else(|| EndpointId(draft.next_id())))
        .collect();
    draft.state.services.insert(id, Service { spec: spec.clone(), endpoint_ids, group, revision });
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

/// No two services have the same VIP, port and protocol.
pub(super) fn check_frontends(state: &State) -> Result<(), Refusal> {
    let mut taken = BTreeMap::new();
    for service in state.services.values() {
        let spec = &service.spec;
        for (i, vip) in spec.vip.iter().enumerate() {
            for protocol in &spec.protocol {
                if let Some(other) = taken.insert((*vip, spec.port, *protocol), &spec.name) {
                    let path = format!("service/{}: spec.vip[{i}]", spec.name);
                    let value = format!("{vip} port {} {protocol}", spec.port);
                    let allowed = format!("a frontend of its own: service/{other} has this one");
                    return Err(invalid(path, value, allowed));
                }
            }
        }
    }
    Ok(())
}
