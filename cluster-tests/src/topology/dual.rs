//! IPv6 beside IPv4 on the client and endpoint networks, for tests that ask for it: elsewhere neighbour discovery
//! would only be noise in the captures.

use std::net::Ipv6Addr;

use super::{CLIENTS, ENDPOINTS, Node, Side, Topology};
use crate::ip::batch;
use crate::namespace::Handle;

/// The service address.
pub const VIP6: Ipv6Addr = client_side(0x10);
/// The endpoints' gateway, which moves with the group.
pub const FLOATING6: Ipv6Addr = endpoint_side(1);
/// Addresses of the client namespace.
pub const CLIENTS6: [Ipv6Addr; 2] = [client_side(0x101), client_side(0x102)];
/// Addresses of the endpoints.
pub const ENDPOINTS6: [Ipv6Addr; 3] = [endpoint_side(0x11), endpoint_side(0x12), endpoint_side(0x13)];

/// An address of the clients' network.
pub const fn client_side(host: u16) -> Ipv6Addr {
    Ipv6Addr::new(0x2001, 0xdb8, 0xc, 0, 0, 0, 0, host)
}

/// An address of the endpoints' network.
pub const fn endpoint_side(host: u16) -> Ipv6Addr {
    Ipv6Addr::new(0xfd00, 0xe, 0, 0, 0, 0, 0, host)
}

impl Topology {
    /// Gives every interface of the two networks its IPv6 addresses. Before a daemon looks at its interfaces.
    pub fn add_ipv6(&self) -> anyhow::Result<()> {
        for node in self.balancers() {
            self.add_ipv6_at(node, Side::Client)?;
            self.add_ipv6_at(node, Side::Endpoint)?;
        }
        give(&self.clients, "eth0", &CLIENTS6)?;
        for (namespace, address) in self.endpoints.iter().zip(ENDPOINTS6) {
            give(namespace, "eth0", &[address])?;
            batch(namespace.name(), &[format!("route add ::/0 via {FLOATING6}")])?;
        }
        debug_assert_eq!(ENDPOINTS.len(), ENDPOINTS6.len());
        debug_assert!(CLIENTS.len() >= CLIENTS6.len());
        Ok(())
    }

    /// Gives one interface of a balancer its IPv6 address; nothing on the management network.
    pub fn add_ipv6_at(&self, node: Node, side: Side) -> anyhow::Result<()> {
        let host = u16::from(node.host());
        match side {
            Side::Client => give(self.node(node), "eth0", &[client_side(host)]),
            Side::Endpoint => give(self.node(node), "eth1", &[endpoint_side(host)]),
            Side::Management => Ok(()),
        }
    }
}

fn give(namespace: &Handle, interface: &str, addresses: &[Ipv6Addr]) -> anyhow::Result<()> {
    let set = |name: &str| format!("net/ipv6/conf/{interface}/{name}");
    namespace.sysctl(&[
        (&set("accept_dad"), "0"),
        (&set("accept_ra"), "0"),
        (&set("router_solicitations"), "0"),
        (&set("disable_ipv6"), "0"),
        ("net/ipv6/conf/lo/disable_ipv6", "0"),
    ])?;
    let lines: Vec<String> =
        addresses.iter().map(|a| format!("address add {a}/64 dev {interface} nodad")).collect();
    batch(namespace.name(), &lines)
}
