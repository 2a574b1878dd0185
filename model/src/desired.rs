//! What one node's kernel should hold.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use crate::ids::{GroupId, NodeId, ServiceId};
use crate::image::{AddressImage, EndpointImage, GroupImage, Image, ServiceImage};
use crate::intent::NodeRole;
use crate::state::{Group, Service, State};

/// A node holds the groups that it may own, or still owns although it may no longer.
pub(crate) fn desired(state: &State, node: NodeId) -> Image {
    if state.nodes.get(&node).is_none_or(|n| n.role != NodeRole::Dataplane) {
        return Image::default();
    }
    let held = |group: &Group| owns(group, node) || state.candidates(&group.spec).contains(&node);
    let groups: Vec<GroupImage> = state
        .groups
        .iter()
        .filter(|(_, group)| held(group))
        .map(|(id, g)| group(state, *id, g, node))
        .collect();
    let services = state
        .services
        .iter()
        .filter(|(_, service)| groups.iter().any(|g| g.id == service.group))
        .map(|(id, s)| service(*id, s))
        .collect();
    Image { groups, services }
}

fn owns(group: &Group, node: NodeId) -> bool {
    group.assignment.is_some_and(|a| a.node == node)
}

fn group(state: &State, id: GroupId, group: &Group, node: NodeId) -> GroupImage {
    let mut addresses: BTreeMap<IpAddr, bool> = group.spec.addresses.iter().map(|a| (*a, false)).collect();
    let own = state.services.values().filter(|s| s.group == id);
    addresses.extend(own.flat_map(|s| s.spec.vip.iter().map(|a| (*a, true))));
    let image = |(address, vip)| AddressImage {
        address,
        vip,
        after: state.released.get(&address).map(|released| released.index),
    };
    GroupImage {
        id,
        name: group.spec.name.clone(),
        epoch: group.assignment.map(|a| a.epoch).unwrap_or_default(),
        owner: owns(group, node),
        interfaces: group.spec.interfaces.clone(),
        addresses: addresses.into_iter().map(image).collect(),
    }
}

fn service(id: ServiceId, service: &Service) -> ServiceImage {
    let spec = &service.spec;
    let endpoints = spec.endpoints.iter().zip(&service.endpoint_ids).map(|(endpoint, id)| EndpointImage {
        id: *id,
        address: endpoint.address,
        weight: endpoint.weight,
        state: endpoint.state,
    });
    ServiceImage {
        id,
        name: spec.name.clone(),
        revision: service.revision,
        group: service.group,
        frontends: spec.vip.iter().map(|vip| SocketAddr::new(*vip, spec.port.get())).collect(),
        protocols: spec.protocol.clone(),
        algorithm: spec.algorithm,
        sync: spec.sync,
        endpoints: endpoints.collect(),
    }
}

#[cfg(test)]
mod tests;
