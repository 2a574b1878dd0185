//! The network of the demo and the tests: three bridges in a switch namespace, and around them balancers, a witness,
//! clients and endpoints; usually two balancers, and what others there are stands beside them in the same way.
//!
//! ```text
//!              br-c 192.0.2.0/24        br-e 10.0.0.0/24
//!   clients ──────┬──────┐          ┌──────┬─────────── e1 .11, e2 .12, e3 .13
//!   .101-.108     │    eth0        eth1    │            default route via 10.0.0.1 (floating)
//!                 │    a .2        a .2    │
//!                 │    b .3        b .3    │
//!                 └──    eth2 │ eth2   ────┘
//!              br-m 10.9.0.0/24: a .1, b .2, w .3
//! ```

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::time::Duration;

use anyhow::Context;

use crate::ip::{batch, ip};
use crate::namespace::Namespace;
use crate::run::Run;
use crate::wait;

pub mod direct;
pub mod dual;
mod node;
pub mod offload;

pub use node::Node;

/// The service address.
pub const VIP: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 10);
/// The endpoints' gateway, which moves with the group.
pub const FLOATING: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
/// Addresses of the client namespace.
pub const CLIENTS: [Ipv4Addr; 8] = {
    let mut all = [Ipv4Addr::UNSPECIFIED; 8];
    let mut i = 0;
    while i < all.len() {
        all[i] = Ipv4Addr::new(192, 0, 2, 101 + i as u8);
        i += 1;
    }
    all
};
/// Addresses of the endpoints.
pub const ENDPOINTS: [Ipv4Addr; 3] =
    [Ipv4Addr::new(10, 0, 0, 11), Ipv4Addr::new(10, 0, 0, 12), Ipv4Addr::new(10, 0, 0, 13)];

/// The networks, by the letter that ends the names of their ports at the switch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// Clients.
    Client,
    /// Endpoints.
    Endpoint,
    /// Management: Raft, leases, flow replication.
    Management,
}

impl Side {
    /// All of them.
    pub const ALL: [Side; 3] = [Side::Client, Side::Endpoint, Side::Management];

    /// Those that a node is on: a witness carries no traffic.
    pub const fn of(node: Node) -> &'static [Side] {
        match node {
            Node::W => &[Side::Management],
            _ => &Side::ALL,
        }
    }

    const fn letter(self) -> &'static str {
        match self {
            Side::Client => "c",
            Side::Endpoint => "e",
            Side::Management => "m",
        }
    }

    /// The switch's port towards a node on this network.
    pub fn port(self, node: Node) -> String {
        format!("{}-{}", node.name(), self.letter())
    }
}

/// The switch's port towards the clients.
pub const CLIENT_PORT: &str = "clients-c";

/// The switch's port towards an endpoint, counted from 0.
pub fn endpoint_port(index: usize) -> String {
    format!("e{}-e", index + 1)
}

/// The whole network; gone when dropped.
#[derive(Debug)]
pub struct Topology {
    nodes: BTreeMap<Node, Namespace>,
    /// The switch: bridges and one port per attached interface.
    pub switch: Namespace,
    /// Clients, with all of [`CLIENTS`].
    pub clients: Namespace,
    /// Endpoints, in the order of [`ENDPOINTS`].
    pub endpoints: Vec<Namespace>,
}

impl Topology {
    /// Makes it, with these nodes.
    pub fn create(run: &Run, nodes: &[Node]) -> anyhow::Result<Self> {
        let switch = Namespace::create(&run.namespace("sw"))?;
        batch(
            switch.name(),
            &Side::ALL.map(|side| {
                format!("link add br-{} up type bridge stp_state 0 mcast_snooping 0", side.letter())
            }),
        )?;
        let make = |node: &Node| Ok((*node, Namespace::create(&run.namespace(node.name()))?));
        let nodes = nodes.iter().map(make).collect::<anyhow::Result<_>>()?;
        let clients = Namespace::create(&run.namespace("clients"))?;
        let endpoints = (1..=ENDPOINTS.len())
            .map(|n| Namespace::create(&run.namespace(&format!("e{n}"))))
            .collect::<anyhow::Result<Vec<_>>>()?;
        let topology = Topology { nodes, switch, clients, endpoints };
        topology.connect()?;
        topology.settle()?;
        Ok(topology)
    }

    /// A node's namespace.
    ///
    /// # Panics
    ///
    /// If the network was made without it.
    pub fn node(&self, node: Node) -> &Namespace {
        &self.nodes[&node]
    }

    /// The nodes that carry traffic.
    pub fn balancers(&self) -> impl Iterator<Item = Node> {
        self.nodes.keys().copied().filter(|node| node.balances())
    }

    /// Sets a port of the switch up or down with `ip`.
    pub fn set_port(&self, port: &str, up: bool) -> anyhow::Result<()> {
        ip(&["-n", self.switch.name(), "link", "set", port, if up { "up" } else { "down" }])
    }

    /// Makes the switch forget behind which port each hardware address is: it floods until it has learnt again.
    pub fn forget_addresses(&self) -> anyhow::Result<()> {
        Side::ALL.into_iter().try_for_each(|side| {
            let bridge = format!("br-{}", side.letter());
            ip(&["-n", self.switch.name(), "link", "set", &bridge, "type", "bridge", "fdb_flush"])
        })
    }

    /// Takes a balancer's cable away, with the interfaces at both its ends.
    pub fn unplug(&self, node: Node, side: Side) -> anyhow::Result<()> {
        ip(&["-n", self.switch.name(), "link", "delete", &side.port(node)])
    }

    /// Puts another in its place, with interfaces of other numbers and hardware addresses.
    pub fn plug(&self, node: Node, side: Side) -> anyhow::Result<()> {
        self.cable(node, side).plug(self.switch.name(), self.run_prefix())?;
        self.settle()
    }

    fn cable(&self, node: Node, side: Side) -> Cable<'_> {
        let host = node.host();
        let (interface, address) = match side {
            Side::Client => ("eth0", [192, 0, 2, host].into()),
            Side::Endpoint => ("eth1", [10, 0, 0, host].into()),
            Side::Management => ("eth2", node.management()),
        };
        Cable::new(self.node(node), side, interface, vec![address])
    }

    fn run_prefix(&self) -> &str {
        self.switch.name().trim_end_matches("sw")
    }

    fn connect(&self) -> anyhow::Result<()> {
        let mut cables = Vec::new();
        for &node in self.nodes.keys() {
            cables.extend(Side::of(node).iter().map(|side| self.cable(node, *side)));
        }
        cables.push(Cable::new(&self.clients, Side::Client, "eth0", CLIENTS.to_vec()));
        for (namespace, address) in self.endpoints.iter().zip(ENDPOINTS) {
            cables.push(Cable::new(namespace, Side::Endpoint, "eth0", vec![address]));
        }
        for cable in &cables {
            cable.plug(self.switch.name(), self.run_prefix())?;
        }
        for namespace in &self.endpoints {
            batch(namespace.name(), &[format!("route add default via {FLOATING}")])?;
        }
        for namespace in self.endpoints.iter().chain([&self.clients]) {
            // Reno, which every namespace may choose, whatever the machine's default is: the figures shall not
            // depend on it. A wide range of ports for runs with many flows.
            namespace.sysctl(&[
                ("net/ipv4/tcp_congestion_control", "reno"),
                ("net/ipv4/ip_local_port_range", "16384 65535"),
            ])?;
        }
        Ok(())
    }

    /// Waits until every port forwards, so that no first packet is lost.
    fn settle(&self) -> anyhow::Result<()> {
        wait::until("the switch's ports to forward", Duration::from_secs(5), || {
            let output = std::process::Command::new("ip")
                .args(["-n", self.switch.name(), "-details", "-oneline", "link", "show", "type", "veth"])
                .output()
                .context("cannot run `ip`")?;
            let text = String::from_utf8_lossy(&output.stdout);
            Ok(text.lines().all(|line| line.contains("state forwarding")).then_some(()))
        })
    }
}

/// One cable from a namespace to the switch.
struct Cable<'a> {
    namespace: &'a Namespace,
    side: Side,
    interface: &'static str,
    addresses: Vec<Ipv4Addr>,
}

impl<'a> Cable<'a> {
    fn new(namespace: &'a Namespace, side: Side, interface: &'static str, addresses: Vec<Ipv4Addr>) -> Self {
        Cable { namespace, side, interface, addresses }
    }

    fn plug(&self, switch: &str, run_prefix: &str) -> anyhow::Result<()> {
        let inside = self.namespace.name();
        let host = inside.strip_prefix(run_prefix).context("a namespace of another run")?;
        let letter = self.side.letter();
        let port = format!("{host}-{letter}");
        batch(
            switch,
            &[
                format!("link add {port} type veth peer name {} netns {inside}", self.interface),
                format!("link set {port} master br-{letter} up"),
            ],
        )?;
        let mut lines: Vec<String> =
            self.addresses.iter().map(|a| format!("address add {a}/24 dev {}", self.interface)).collect();
        lines.push(format!("link set {} up", self.interface));
        batch(inside, &lines)
    }
}
