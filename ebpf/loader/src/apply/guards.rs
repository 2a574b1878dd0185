//! The reply guard (I10).

use std::collections::HashMap;

use lockstep_abi::service::{GuardKey, GuardValue};
use lockstep_model::image::ServiceImage;
use lockstep_model::protocol::Protocol;

use super::Apply;
use crate::family::KernelFamily;

pub(super) type Guards<A> = HashMap<GuardKey<A>, GuardValue>;

impl Apply<'_> {
    /// An entry for each (address, port, protocol) a service's reply can come from, and one for the address alone.
    /// Not for direct return, where endpoints answer the clients with the VIP itself.
    pub(super) fn wanted_guards<A: KernelFamily>(&self) -> Guards<A> {
        let mut wanted: Guards<A> = HashMap::new();
        for service in self.image.services.iter().filter(|service| !service.mode.is_dsr()) {
            let Some(slot) = self.slots.get(&service.group) else { continue };
            for endpoint in &service.endpoints {
                let Some(address_be) = A::of_ip(endpoint.address.ip()) else { continue };
                for (port, protocol) in tuples::<A>(service, endpoint.address.port()) {
                    let key = GuardKey { address_be, port_be: port.to_be(), protocol, pad: 0 };
                    // One of several groups that share the endpoint: always the same one.
                    let guard = wanted.entry(key).or_insert(GuardValue { lease_slot: *slot, pad: 0 });
                    guard.lease_slot = guard.lease_slot.min(*slot);
                }
            }
        }
        wanted
    }
}

/// Ports and protocols that an endpoint may answer from. Port 0 with a protocol: from any.
fn tuples<A: KernelFamily>(service: &ServiceImage, own_port: u16) -> impl Iterator<Item = (u16, u8)> {
    let frontends = service.frontends.iter().map(|frontend| frontend.ports);
    let mut ports: Vec<u16> = match own_port {
        // The client's: the service's, if that is one.
        0 => frontends.map(|ports| if ports.is_single() { ports.first } else { 0 }).collect(),
        port => vec![port],
    };
    ports.dedup();
    let of = move |protocol: Protocol| {
        let ports = if protocol.has_ports() { ports.clone() } else { vec![0] };
        ports.into_iter().map(move |port| (port, protocol.number(A::FAMILY)))
    };
    service.protocols.clone().into_iter().flat_map(of).chain([(0, 0)])
}
