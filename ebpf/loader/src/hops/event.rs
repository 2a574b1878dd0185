//! What the kernel says about links and neighbours, and what becomes of it.

use std::net::IpAddr;

use lockstep_abi::hop::HopKey;

/// `NUD_*` of `linux/neighbour.h`: states in which the kernel itself would send to the neighbour's MAC.
/// `NUD_NOARP` is not among them: such an entry stands for a multicast group or a loopback.
const NUD_USABLE: u16 = NUD_REACHABLE | NUD_STALE | NUD_DELAY | NUD_PROBE | NUD_PERMANENT;
pub(super) const NUD_REACHABLE: u16 = 0x02;
pub(super) const NUD_STALE: u16 = 0x04;
pub(super) const NUD_DELAY: u16 = 0x08;
pub(super) const NUD_PROBE: u16 = 0x10;
pub(super) const NUD_PERMANENT: u16 = 0x80;

/// One link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Link {
    /// The kernel's number.
    pub(super) ifindex: u32,
    /// Its name now.
    pub(super) name: String,
    /// Whether it carries Ethernet frames and asks for neighbours.
    pub(super) ethernet: bool,
    /// Up, with carrier.
    pub(super) running: bool,
    /// Its own MAC; `None` if it has none of six bytes.
    pub(super) mac: Option<[u8; 6]>,
    /// Bytes.
    pub(super) mtu: u32,
    /// The bond, bridge or VRF it belongs to; 0: none.
    pub(super) master: u32,
    /// The driver's name for software devices (`veth`, `vlan`, `bond`); `None` for hardware.
    pub(super) kind: Option<String>,
}

impl Link {
    /// Whether neighbours on it can be hops: its MAC.
    pub(super) fn source_mac(&self) -> Option<[u8; 6]> {
        self.mac.filter(|_| self.ethernet && self.running)
    }

    /// Whether its driver can take frames from an XDP program once that interface has one of its own: hardware,
    /// veth and tun. VLAN devices, bonds, bridges, macvlans, dummies and the rest have no `ndo_xdp_xmit`.
    pub(super) fn may_take_xdp(&self) -> bool {
        matches!(self.kind.as_deref(), None | Some("veth" | "tun"))
    }

    /// Whether the kernel may route differently because of the change.
    pub(super) fn routes_differ(&self, other: &Self) -> bool {
        let name = self.name.clone();
        *self != Self { name, ..other.clone() }
    }
}

/// One neighbour entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Neighbour {
    /// Where it is.
    pub(super) key: HopKey,
    /// `None` if unknown or not of six bytes.
    pub(super) mac: Option<[u8; 6]>,
    /// `NUD_*`.
    pub(super) state: u16,
    /// Somebody else keeps the entry (permanent, learned by a routing daemon, managed by the kernel): it must not
    /// be refreshed, which would take that property away.
    pub(super) kept: bool,
}

impl Neighbour {
    /// The MAC, if packets may be sent there.
    pub(super) fn usable(&self) -> Option<[u8; 6]> {
        self.mac.filter(|_| self.state & NUD_USABLE != 0)
    }
}

/// News of the kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum HopEvent {
    /// A link is there, or changed.
    Link(Link),
    /// A link is gone from this namespace.
    LinkGone(u32),
    /// A neighbour is there, or changed.
    Neighbour(Neighbour),
    /// A neighbour entry is gone.
    NeighbourGone(HopKey),
    /// A route, a next hop object, an address or a forwarding setting changed.
    Routes,
    /// A routing rule is there; whether it looks at more than the destination.
    Rule(bool),
    /// A routing rule is gone.
    RuleGone,
}

/// The key of an address on an interface.
#[cfg(test)]
pub(super) fn key(ifindex: u32, address: IpAddr) -> HopKey {
    match address {
        IpAddr::V4(address) => {
            HopKey { ifindex, family: 4, address: [u32::from_ne_bytes(address.octets()), 0, 0, 0] }
        }
        IpAddr::V6(address) => {
            let octets = address.octets();
            let word =
                |i: usize| u32::from_ne_bytes([octets[i], octets[i + 1], octets[i + 2], octets[i + 3]]);
            HopKey { ifindex, family: 6, address: [word(0), word(4), word(8), word(12)] }
        }
    }
}

/// The address in a key.
pub(super) fn address(key: &HopKey) -> IpAddr {
    let mut octets = [0; 16];
    for (four, word) in octets.chunks_exact_mut(4).zip(key.address) {
        four.copy_from_slice(&word.to_ne_bytes());
    }
    match key.family {
        4 => IpAddr::from([octets[0], octets[1], octets[2], octets[3]]),
        _ => IpAddr::from(octets),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_holds_the_address_as_the_packet_has_it() {
        for text in ["10.0.0.11", "2001:db8::1", "fe80::2"] {
            let parsed: IpAddr = text.parse().unwrap();
            assert_eq!(address(&key(3, parsed)), parsed);
        }
        let v4 = key(3, "10.0.0.11".parse().unwrap());
        assert_eq!(v4.address[0].to_ne_bytes(), [10, 0, 0, 11]);
        assert_eq!((v4.ifindex, v4.family), (3, 4));
    }
}
