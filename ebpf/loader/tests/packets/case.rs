//! What each test is run over: at which hook a packet comes in, and of which family it is.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::frame::Mac;

/// Where packets meet the programs first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hook {
    Tc,
    /// In front of tc.
    Xdp,
}

/// Of which family packets are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Family {
    V4,
    V6,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Case {
    pub(crate) hook: Hook,
    pub(crate) family: Family,
}

const fn case(hook: Hook, family: Family) -> Case {
    Case { hook, family }
}

pub(crate) const ALL: [Case; 4] = [
    case(Hook::Tc, Family::V4),
    case(Hook::Tc, Family::V6),
    case(Hook::Xdp, Family::V4),
    case(Hook::Xdp, Family::V6),
];
pub(crate) const BOTH_HOOKS_V4: [Case; 2] = [case(Hook::Tc, Family::V4), case(Hook::Xdp, Family::V4)];
pub(crate) const BOTH_FAMILIES_TC: [Case; 2] = [case(Hook::Tc, Family::V4), case(Hook::Tc, Family::V6)];
pub(crate) const BOTH_FAMILIES_XDP: [Case; 2] = [case(Hook::Xdp, Family::V4), case(Hook::Xdp, Family::V6)];
pub(crate) const TC_V4: [Case; 1] = [case(Hook::Tc, Family::V4)];

/// The balancer's two networks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Clients = 1,
    Endpoints = 2,
}

/// The last byte of the node's own address on each side.
const NODE: u8 = 2;
/// What an endpoint's number must be added to be the last byte of its address.
pub(crate) const FIRST_ENDPOINT: u8 = 10;
/// Endpoints from this number on are beside the clients (one-arm).
const BESIDE_CLIENTS: u8 = 20;

impl Side {
    /// The MAC of the host that ends in `host`.
    pub(crate) fn mac(self, host: u8) -> Mac {
        [2, 0, 0, 0, self as u8, host]
    }

    /// The balancer's own.
    pub(crate) fn own_mac(self) -> Mac {
        self.mac(NODE)
    }

    /// The link's name, before the 0 of the balancer's end and the 1 of the other's.
    pub(crate) fn link(self) -> &'static str {
        match self {
            Side::Clients => "client",
            Side::Endpoints => "endpoint",
        }
    }
}

impl Family {
    pub(crate) fn number(self) -> u32 {
        match self {
            Family::V4 => 4,
            Family::V6 => 6,
        }
    }

    /// Bits of an address.
    pub(crate) fn bits(self) -> u32 {
        match self {
            Family::V4 => 32,
            Family::V6 => 128,
        }
    }

    /// Bytes in front of the transport header.
    pub(crate) fn transport(self) -> usize {
        match self {
            Family::V4 => 34,
            Family::V6 => 54,
        }
    }

    /// The host of a side whose address ends in this byte.
    pub(crate) fn host(self, side: Side, host: u8) -> IpAddr {
        match (self, side) {
            (Family::V4, Side::Clients) => Ipv4Addr::new(192, 0, 2, host).into(),
            (Family::V4, Side::Endpoints) => Ipv4Addr::new(10, 0, 0, host).into(),
            (Family::V6, side) => Ipv6Addr::new(0x2001, 0xdb8, side as u16, 0, 0, 0, 0, host.into()).into(),
        }
    }

    /// Bits of a side's network.
    pub(crate) fn network_bits(self) -> u32 {
        match self {
            Family::V4 => 24,
            Family::V6 => 64,
        }
    }

    /// A host that no route leads to.
    pub(crate) fn unreachable(self) -> IpAddr {
        match self {
            Family::V4 => Ipv4Addr::new(203, 0, 113, 1).into(),
            Family::V6 => Ipv6Addr::new(0x2001, 0xdb8, 0xffff, 0, 0, 0, 0, 1).into(),
        }
    }

    pub(crate) fn client(self) -> IpAddr {
        self.host(Side::Clients, 50)
    }

    /// Another client.
    pub(crate) fn neighbour(self) -> IpAddr {
        self.host(Side::Clients, 51)
    }

    /// A client among the endpoints.
    pub(crate) fn insider(self) -> IpAddr {
        self.host(Side::Endpoints, 60)
    }

    pub(crate) fn vip(self) -> IpAddr {
        self.host(Side::Clients, 10)
    }

    /// An address that connections from behind the balancer are translated to.
    pub(crate) fn outside(self) -> IpAddr {
        self.host(Side::Clients, 20)
    }

    pub(crate) fn floating(self) -> IpAddr {
        self.host(Side::Endpoints, 1)
    }

    /// The node itself on a side.
    pub(crate) fn node(self, side: Side) -> IpAddr {
        self.host(side, NODE)
    }

    /// Endpoint `n` (1..) of the demo service; from 21 on, beside the clients.
    pub(crate) fn endpoint(self, n: u8) -> (IpAddr, u16) {
        (self.host(endpoint_side(n), FIRST_ENDPOINT + n), 8080)
    }

    /// Every host that the balancer knows the MAC of.
    pub(crate) fn hosts(self) -> Vec<(Side, u8)> {
        let clients = [50, 51, FIRST_ENDPOINT + 21, FIRST_ENDPOINT + 22].map(|host| (Side::Clients, host));
        let endpoints = [11, 12, 13, 60].map(|host| (Side::Endpoints, host));
        [clients, endpoints].concat()
    }
}

pub(crate) fn endpoint_side(n: u8) -> Side {
    if n > BESIDE_CLIENTS { Side::Clients } else { Side::Endpoints }
}

pub(crate) fn endpoint_mac(n: u8) -> Mac {
    endpoint_side(n).mac(FIRST_ENDPOINT + n)
}

/// An address as maps of both families have it: network order, IPv4 in the first word.
pub(crate) fn wide(address: IpAddr) -> [u32; 4] {
    match address {
        IpAddr::V4(address) => [u32::from_ne_bytes(address.octets()), 0, 0, 0],
        IpAddr::V6(address) => {
            let bytes = address.octets();
            std::array::from_fn(|i| u32::from_ne_bytes(std::array::from_fn(|j| bytes[4 * i + j])))
        }
    }
}
