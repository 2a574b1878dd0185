//! The nodes, and which of them a cluster has.

use std::net::Ipv4Addr;

use anyhow::Context;

/// A node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Node {
    /// First balancer.
    A,
    /// Second balancer.
    B,
    /// Witness.
    W,
    /// Third balancer, where there are more than a pair.
    C,
    /// Fourth balancer.
    D,
    /// Fifth balancer.
    E,
}

impl Node {
    /// Those of the usual cluster: a pair of balancers and a witness.
    pub const ALL: [Node; 3] = [Node::A, Node::B, Node::W];
    /// Those of the pair, which carry traffic.
    pub const DATAPLANE: [Node; 2] = [Node::A, Node::B];
    /// Every node that carries traffic in the largest cluster: as many as may vote.
    pub const BALANCERS: [Node; 5] = [Node::A, Node::B, Node::C, Node::D, Node::E];

    /// The nodes of a cluster with so many balancers: two need a witness.
    ///
    /// # Panics
    ///
    /// If there are none, or more than [`Node::BALANCERS`].
    pub fn cluster_of(balancers: usize) -> &'static [Node] {
        assert_ne!(balancers, 0, "somebody has to serve");
        match balancers {
            2 => &Node::ALL,
            _ => {
                const LARGEST: &[Node] = &Node::BALANCERS;
                &LARGEST[..balancers]
            }
        }
    }

    /// Its name in configuration, certificates and reports.
    pub const fn name(self) -> &'static str {
        match self {
            Node::A => "a",
            Node::B => "b",
            Node::W => "w",
            Node::C => "c",
            Node::D => "d",
            Node::E => "e",
        }
    }

    /// By name.
    pub fn from_name(name: &str) -> anyhow::Result<Self> {
        Node::BALANCERS
            .into_iter()
            .chain([Node::W])
            .find(|n| n.name() == name)
            .with_context(|| format!("no node is called {name:?}"))
    }

    /// Whether it carries traffic.
    pub const fn balances(self) -> bool {
        !matches!(self, Node::W)
    }

    /// The other balancer of a pair.
    pub const fn other(self) -> Node {
        match self {
            Node::A => Node::B,
            _ => Node::A,
        }
    }

    /// Everybody else beside a pair's node.
    pub const fn others(self) -> [Node; 2] {
        match self {
            Node::A => [Node::B, Node::W],
            Node::B => [Node::A, Node::W],
            _ => [Node::A, Node::B],
        }
    }

    /// Its address on the management network.
    pub const fn management(self) -> Ipv4Addr {
        Ipv4Addr::new(10, 9, 0, 1 + self as u8)
    }

    /// The last byte of its addresses on the other networks.
    pub(super) const fn host(self) -> u8 {
        2 + self as u8
    }
}
