//! Where the programs are measured: a balancer with two interfaces, and a namespace at the far end of each.
//!
//! ```text
//!  client ── client0 ──── eth0 192.0.2.2, 2001:db8:2::2 ─ node ─ eth1 10.0.0.2, 2001:db8:a::2 ──── server0 ── server
//!  flows from 198.18.0.0/16, 2001:db8:c::/112            VIPs .10, ::10          endpoint .11, ::11
//! ```

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;

use lockstep_cluster_tests::ip::batch;
use lockstep_cluster_tests::namespace::Namespace;
use lockstep_cluster_tests::run::Run;
use lockstep_loader::SCHEMA;
use lockstep_model::protocol::Protocol;

use crate::interface::interface;
use crate::lockstep::{Family, Hook, Service, Setting};
use crate::packet::{End, Mac};

/// The clients' side.
pub(crate) const OUTER: &str = "eth0";
/// The endpoints' side.
pub(crate) const INNER: &str = "eth1";
/// The far end of [`OUTER`].
pub(crate) const OUTER_PEER: &str = "client0";
/// The far end of [`INNER`].
pub(crate) const INNER_PEER: &str = "server0";

const VIP_PORT: u16 = 80;
const ENDPOINT_PORT: u16 = 8080;
/// Flow 0's.
pub(crate) const CLIENT_PORT: u16 = 20000;
const GATEWAY_MAC: Mac = [2, 0, 0, 0, 0, 0x50];
const ENDPOINT_MAC: Mac = [2, 0, 0, 0, 0, 0x11];

/// The namespaces; gone when dropped.
pub(crate) struct Bed {
    pub(crate) node: Namespace,
    pub(crate) client: Namespace,
    pub(crate) server: Namespace,
    pub(crate) pins: PathBuf,
    outer_mac: Mac,
    inner_mac: Mac,
    pub(crate) outer_index: u32,
    pub(crate) inner_index: u32,
}

impl Bed {
    /// Where the dataplane pins its maps.
    pub(crate) fn pinned_maps(&self) -> PathBuf {
        self.pins.join(format!("v{SCHEMA}")).join("maps")
    }

    pub(crate) fn create(run: &Run, hook: Hook) -> anyhow::Result<Self> {
        let namespace = |what: &str| Namespace::create(&run.namespace(&format!("{}-{what}", hook.name())));
        let (node, client, server) = (namespace("node")?, namespace("client")?, namespace("server")?);
        node.sysctl(&[
            ("net/ipv6/conf/all/disable_ipv6", "0"),
            ("net/ipv6/conf/default/disable_ipv6", "0"),
            // An address that is good only after a while makes every flow ask for its next hop again.
            ("net/ipv6/conf/default/accept_dad", "0"),
            ("net/ipv6/conf/all/forwarding", "1"),
        ])?;
        let mac = |m: Mac| m.map(|byte| format!("{byte:02x}")).join(":");
        let mut lines = Vec::new();
        for (name, peer, inside) in [(OUTER, OUTER_PEER, &client), (INNER, INNER_PEER, &server)] {
            lines.push(format!("link add {name} type veth peer name {peer} netns {}", inside.name()));
            lines.push(format!("link set {name} up"));
        }
        lines.extend(
            [
                "address add 192.0.2.2/24 dev eth0",
                "address add 2001:db8:2::2/64 dev eth0 nodad",
                "address add 10.0.0.2/24 dev eth1",
                "address add 2001:db8:a::2/64 dev eth1 nodad",
            ]
            .map(String::from),
        );
        for (address, m, device) in [
            ("192.0.2.50", GATEWAY_MAC, OUTER),
            ("2001:db8:2::50", GATEWAY_MAC, OUTER),
            ("10.0.0.11", ENDPOINT_MAC, INNER),
            ("2001:db8:a::11", ENDPOINT_MAC, INNER),
        ] {
            lines.push(format!("neighbour add {address} lladdr {} dev {device} nud permanent", mac(m)));
        }
        lines.push("route add 198.18.0.0/16 via 192.0.2.50".into());
        lines.push("route add 2001:db8:c::/64 via 2001:db8:2::50".into());
        batch(node.name(), &lines)?;
        batch(client.name(), &[format!("link set {OUTER_PEER} up")])?;
        batch(server.name(), &[format!("link set {INNER_PEER} up")])?;
        let ((outer_index, outer_mac), (inner_index, inner_mac)) =
            node.run(|| Ok((interface(OUTER)?, interface(INNER)?)))?;
        let pins = run.pins().join(hook.name());
        Ok(Bed { node, client, server, pins, outer_mac, inner_mac, outer_index, inner_index })
    }

    /// What the dataplane under test is to do here.
    pub(crate) fn setting(&self, hook: Hook, families: &[Family], max_flows: u32) -> Setting {
        Setting {
            interfaces: vec![OUTER.into(), INNER.into()],
            hook,
            max_flows,
            floating: families.iter().map(|family| floating(*family)).collect(),
            services: families
                .iter()
                .map(|family| Service {
                    protocol: Protocol::Tcp,
                    vip: (vip(*family), VIP_PORT).into(),
                    endpoint: (endpoint(*family), ENDPOINT_PORT).into(),
                })
                .collect(),
        }
    }

    /// Flow 0's client, as the balancer sees it: behind a gateway.
    pub(crate) fn client_end(&self, family: Family) -> End {
        let address = match family {
            Family::V4 => IpAddr::V4(Ipv4Addr::new(198, 18, 0, 0)),
            Family::V6 => IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0xc, 0, 0, 0, 0, 0)),
        };
        End { mac: GATEWAY_MAC, address, port: CLIENT_PORT }
    }

    /// The same as the endpoint sees it.
    pub(crate) fn client_from_inside(&self, family: Family) -> End {
        End { mac: self.inner_mac, ..self.client_end(family) }
    }

    pub(crate) fn vip_end(&self, family: Family) -> End {
        End { mac: self.outer_mac, address: vip(family), port: VIP_PORT }
    }

    pub(crate) fn endpoint_end(&self, family: Family) -> End {
        End { mac: ENDPOINT_MAC, address: endpoint(family), port: ENDPOINT_PORT }
    }
}

fn vip(family: Family) -> IpAddr {
    match family {
        Family::V4 => IpAddr::V4(Ipv4Addr::new(192, 0, 2, 10)),
        Family::V6 => IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 2, 0, 0, 0, 0, 0x10)),
    }
}

fn floating(family: Family) -> IpAddr {
    match family {
        Family::V4 => IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1)),
        Family::V6 => IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0xa, 0, 0, 0, 0, 1)),
    }
}

fn endpoint(family: Family) -> IpAddr {
    match family {
        Family::V4 => IpAddr::V4(Ipv4Addr::new(10, 0, 0, 11)),
        Family::V6 => IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0xa, 0, 0, 0, 0, 0x11)),
    }
}
