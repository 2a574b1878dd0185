//! The interfaces the dataplane works on, as the kernel has them now: index, hardware address, connected prefixes.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use nix::ifaddrs::getifaddrs;

use crate::error::DataplaneError;

/// One interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interface {
    /// The kernel's number.
    pub index: u32,
    /// Name.
    pub name: String,
    /// Hardware address; zero where the link has none.
    pub mac: [u8; 6],
    /// Connected IPv4 prefixes.
    pub prefixes: Vec<Prefix>,
}

/// An address with the length of its network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Prefix {
    /// The interface's own address.
    pub address: Ipv4Addr,
    /// 0-32.
    pub length: u8,
}

impl Prefix {
    /// Whether `other` is in the network.
    pub fn contains(&self, other: Ipv4Addr) -> bool {
        self.mask() & u32::from(other) == u32::from(self.network())
    }

    /// The network's first address.
    pub fn network(&self) -> Ipv4Addr {
        Ipv4Addr::from(u32::from(self.address) & self.mask())
    }

    fn mask(&self) -> u32 {
        u32::MAX.checked_shl(32 - u32::from(self.length)).unwrap_or(0)
    }
}

impl Interface {
    /// Reads `names` from the kernel, in their order.
    pub(crate) fn read(names: &[String]) -> Result<Vec<Self>, DataplaneError> {
        let mut found: BTreeMap<String, Self> = BTreeMap::new();
        for entry in getifaddrs().map_err(|errno| DataplaneError::Interfaces { source: errno.into() })? {
            if !names.contains(&entry.interface_name) {
                continue;
            }
            let interface = found.entry(entry.interface_name.clone()).or_insert_with(|| Self {
                index: 0,
                name: entry.interface_name.clone(),
                mac: [0; 6],
                prefixes: Vec::new(),
            });
            let Some(address) = entry.address else { continue };
            if let Some(link) = address.as_link_addr() {
                interface.index = link.ifindex() as u32;
                interface.mac = link.addr().unwrap_or_default();
            } else if let Some(v4) = address.as_sockaddr_in() {
                let mask =
                    entry.netmask.as_ref().and_then(|mask| mask.as_sockaddr_in().map(|mask| mask.ip()));
                let length = mask.map_or(32, |mask| u32::from(mask).leading_ones() as u8);
                interface.prefixes.push(Prefix { address: v4.ip(), length });
            }
        }
        names
            .iter()
            .map(|name| {
                found
                    .remove(name)
                    .filter(|interface| interface.index != 0)
                    .ok_or_else(|| DataplaneError::NoInterface { name: name.clone() })
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_contains_its_network_and_nothing_else() {
        let prefix = Prefix { address: Ipv4Addr::new(192, 0, 2, 2), length: 24 };
        assert!(prefix.contains(Ipv4Addr::new(192, 0, 2, 255)));
        assert!(!prefix.contains(Ipv4Addr::new(192, 0, 3, 2)));
        assert_eq!(prefix.network(), Ipv4Addr::new(192, 0, 2, 0));

        let everything = Prefix { address: Ipv4Addr::new(10, 0, 0, 1), length: 0 };
        assert!(everything.contains(Ipv4Addr::new(203, 0, 113, 9)));
        let host = Prefix { address: Ipv4Addr::new(10, 0, 0, 1), length: 32 };
        assert!(!host.contains(Ipv4Addr::new(10, 0, 0, 2)));
    }
}
