//! The interfaces the dataplane works on, as the kernel has them now: index, hardware address, connected prefixes.

use std::collections::BTreeMap;
use std::net::IpAddr;

use lockstep_model::intent::Prefix;
use nix::ifaddrs::getifaddrs;
use nix::sys::socket::SockaddrStorage;

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
    /// Connected prefixes of both families, link-local ones included.
    pub prefixes: Vec<Prefix>,
}

impl Interface {
    /// Reads `names` from the kernel, in their order. All must be there.
    pub(crate) fn read(names: &[String]) -> Result<Vec<Self>, DataplaneError> {
        let found = Self::present(names)?;
        match names.iter().find(|name| found.iter().all(|interface| interface.name != **name)) {
            Some(missing) => Err(DataplaneError::NoInterface { name: missing.clone() }),
            None => Ok(found),
        }
    }

    /// Those of `names` that are there, in their order.
    pub(crate) fn present(names: &[String]) -> Result<Vec<Self>, DataplaneError> {
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
            } else if let Some(address) = ip(&address) {
                let mask = entry.netmask.as_ref().and_then(ip);
                let prefix = mask.map_or_else(|| Prefix::host(address), |mask| network(address, mask));
                if !interface.prefixes.contains(&prefix) {
                    interface.prefixes.push(prefix);
                }
            }
        }
        let there = names.iter().filter_map(|name| found.remove(name));
        Ok(there.filter(|interface| interface.index != 0).collect())
    }
}

fn ip(address: &SockaddrStorage) -> Option<IpAddr> {
    let v4 = address.as_sockaddr_in().map(|v4| IpAddr::V4(v4.ip()));
    v4.or_else(|| address.as_sockaddr_in6().map(|v6| IpAddr::V6(v6.ip())))
}

/// The network of an address with a netmask of its own family.
fn network(address: IpAddr, mask: IpAddr) -> Prefix {
    match (address, mask) {
        (IpAddr::V4(address), IpAddr::V4(mask)) => Prefix {
            address: IpAddr::V4((u32::from(address) & u32::from(mask)).into()),
            length: u32::from(mask).leading_ones() as u8,
        },
        (IpAddr::V6(address), IpAddr::V6(mask)) => Prefix {
            address: IpAddr::V6((u128::from(address) & u128::from(mask)).into()),
            length: u128::from(mask).leading_ones() as u8,
        },
        _ => Prefix::host(address),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_with_a_mask_is_in_its_network() {
        let of =
            |address: &str, mask: &str| network(address.parse().unwrap(), mask.parse().unwrap()).to_string();
        assert_eq!(of("192.0.2.2", "255.255.255.0"), "192.0.2.0/24");
        assert_eq!(of("10.0.0.1", "0.0.0.0"), "0.0.0.0/0");
        assert_eq!(of("10.0.0.1", "255.255.255.255"), "10.0.0.1/32");
        assert_eq!(of("2001:db8::2", "ffff:ffff:ffff:ffff::"), "2001:db8::/64");
        assert_eq!(of("2001:db8::2", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"), "2001:db8::2/128");
    }
}
