//! What endpoints need for direct server return: the VIP on their loopback, where it is announced to nobody, and a
//! way of their own to the clients, taken by what they send from it.

use std::net::IpAddr;

use super::Topology;
use crate::ip::batch;

/// The endpoints' second interface.
const INTERFACE: &str = "eth9";
/// The routing table of what endpoints send from such a VIP.
const TABLE: u16 = 100;

impl Topology {
    /// Lets every endpoint accept packets to `vips` and answer clients by itself.
    pub fn add_direct_return(&self, vips: &[IpAddr]) -> anyhow::Result<()> {
        for (i, namespace) in self.endpoints.iter().enumerate() {
            let (name, port) = (namespace.name(), format!("e{}-c", i + 1));
            batch(
                self.switch.name(),
                &[
                    format!("link add {port} type veth peer name {INTERFACE} netns {name}"),
                    format!("link set {port} master br-c up"),
                ],
            )?;
            let set = |name: &str| format!("net/ipv6/conf/{INTERFACE}/{name}");
            namespace.sysctl(&[
                // A loopback address is nobody's neighbour, and no interface asks on its behalf.
                ("net/ipv4/conf/all/arp_ignore", "1"),
                ("net/ipv4/conf/all/arp_announce", "2"),
                ("net/ipv4/conf/all/rp_filter", "0"),
                ("net/ipv4/conf/eth0/rp_filter", "0"),
                (&set("accept_dad"), "0"),
                (&set("accept_ra"), "0"),
                (&set("router_solicitations"), "0"),
                (&set("disable_ipv6"), "0"),
            ])?;
            let mut lines = vec![
                format!("address add 192.0.2.{}/32 dev {INTERFACE}", 201 + i),
                format!("link set {INTERFACE} up"),
                format!("route add 192.0.2.0/24 dev {INTERFACE} table {TABLE}"),
                format!("route add 2001:db8:c::/64 dev {INTERFACE} table {TABLE}"),
            ];
            for vip in vips {
                let length = if vip.is_ipv4() { 32 } else { 128 };
                let nodad = if vip.is_ipv4() { "" } else { " nodad" };
                lines.push(format!("address add {vip}/{length} dev lo{nodad}"));
            }
            batch(name, &lines)?;
            for vip in vips {
                let family = if vip.is_ipv4() { "-4" } else { "-6" };
                let (vip, table) = (vip.to_string(), TABLE.to_string());
                crate::ip::ip(&[family, "-n", name, "rule", "add", "from", &vip, "table", &table])?;
            }
        }
        Ok(())
    }
}
