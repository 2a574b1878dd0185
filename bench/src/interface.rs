//! Interfaces of the calling thread's namespace.

use anyhow::Context;

use crate::packet::Mac;

/// Number and hardware address.
pub(crate) fn interface(name: &str) -> anyhow::Result<(u32, Mac)> {
    let found = nix::ifaddrs::getifaddrs().context("cannot list the interfaces")?;
    found
        .filter(|entry| entry.interface_name == name)
        .filter_map(|entry| entry.address)
        .find_map(|address| {
            let link = address.as_link_addr()?;
            Some((link.ifindex() as u32, link.addr()?))
        })
        .with_context(|| format!("there is no interface {name}"))
}
