//! What one node's kernel should hold.

use std::collections::BTreeSet;
use std::net::IpAddr;

use crate::ids::{GroupId, NodeId, ServiceId};
use crate::image::{
    AddressImage, EndpointImage, Frontend, GroupImage, Image, ServiceImage, SnatAction, SnatRuleImage,
};
use crate::intent::{NodeRole, Prefix};
use crate::protocol::Family;
use crate::state::{Group, Service, SnatRule, State};

/// A node holds the groups that it may own, or still owns although it may no longer.
pub(crate) fn desired(state: &State, node: NodeId) -> Image {
    if state.nodes.get(&node).is_none_or(|n| n.role != NodeRole::Dataplane) {
        return Image::default();
    }
    let held = |group: &Group| owns(group, node) || state.candidates(&group.spec).contains(&node);
    let sources = state.snat_sources();
    let groups: Vec<GroupImage> = state
        .groups
        .iter()
        .filter(|(_, group)| held(group))
        .map(|(id, g)| group(state, *id, g, node, &sources))
        .collect();
    let has = |id: GroupId| groups.iter().any(|g| g.id == id);
    let services = state
        .services
        .iter()
        .filter(|(_, service)| has(service.group))
        .map(|(id, s)| service(state, *id, s))
        .collect();
    let rules = state.snat_rules.iter().filter(|(_, rule)| has(rule.group));
    let mut snat_rules: Vec<SnatRuleImage> = rules.map(|(id, rule)| snat_rule(*id, rule)).collect();
    snat_rules.sort_by_key(|rule| (rule.priority, rule.id));
    Image { groups, services, snat_rules }
}

fn owns(group: &Group, node: NodeId) -> bool {
    group.assignment.is_some_and(|a| a.node == node)
}

fn group(state: &State, id: GroupId, group: &Group, node: NodeId, sources: &BTreeSet<IpAddr>) -> GroupImage {
    let vips: BTreeSet<IpAddr> =
        state.services.values().filter(|s| s.group == id).flat_map(|s| state.vips(s)).collect();
    let image = |address: IpAddr| AddressImage {
        address,
        vip: vips.contains(&address),
        floating: group.spec.addresses.contains(&address),
        snat: sources.contains(&address),
        port_blocks: if sources.contains(&address) { state.blocks(address) } else { 0 },
        static_host: static_host(state, address),
        after: state.released.get(&address).map(|released| released.index),
    };
    GroupImage {
        id,
        name: group.spec.name.clone(),
        epoch: group.assignment.map(|a| a.epoch).unwrap_or_default(),
        owner: owns(group, node),
        interfaces: group.spec.interfaces.clone(),
        addresses: state.group_addresses(id).into_iter().map(image).collect(),
    }
}

/// The checks of `apply` leave at most one rule for an address.
fn static_host(state: &State, address: IpAddr) -> Option<IpAddr> {
    let mut rules = state.snat_rules.values().map(|rule| &rule.spec);
    rules.find(|spec| spec.action == SnatAction::Static(address)).map(|spec| spec.source.address)
}

fn service(state: &State, id: ServiceId, service: &Service) -> ServiceImage {
    let spec = &service.spec;
    let endpoints = spec.endpoints.iter().zip(&service.endpoint_ids).map(|(endpoint, id)| EndpointImage {
        id: *id,
        address: endpoint.address,
        weight: endpoint.weight,
        state: endpoint.state,
        backup: endpoint.backup,
        down: service.is_down(*id),
    });
    let vips = state.vips(service);
    ServiceImage {
        id,
        name: spec.name.clone(),
        revision: service.revision,
        group: service.group,
        protocols: spec.protocol.clone(),
        algorithm: spec.algorithm,
        mode: spec.mode,
        sync: spec.sync,
        on_miss: spec.on_miss,
        affinity: spec.affinity,
        timeouts: spec.timeouts,
        sources: sources(&spec.sources, &vips),
        limits: spec.limits,
        slow_start: spec.slow_start,
        all_down: spec.health.as_ref().map(|health| health.all_down).unwrap_or_default(),
        snat: state.snat_candidates(service),
        endpoints: endpoints.collect(),
        frontends: vips.into_iter().map(|vip| Frontend { vip, ports: spec.port }).collect(),
    }
}

/// Nothing is looked up for a service whose list has all addresses of every family that it serves.
fn sources(listed: &[Prefix], vips: &[IpAddr]) -> Vec<Prefix> {
    let open = |vip: &IpAddr| listed.contains(&Prefix::any(Family::of(*vip)));
    if vips.iter().all(open) { Vec::new() } else { listed.to_vec() }
}

fn snat_rule(id: ServiceId, rule: &SnatRule) -> SnatRuleImage {
    let spec = &rule.spec;
    SnatRuleImage {
        id,
        name: spec.name.clone(),
        group: rule.group,
        priority: spec.priority,
        source: spec.source,
        destination: spec.destination,
        protocol: spec.protocol,
        ports: spec.ports,
        action: spec.action.clone(),
    }
}

#[cfg(test)]
mod tests;
