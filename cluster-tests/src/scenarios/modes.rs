//! One cluster with a service per mode, over IPv4 and IPv6, and real clients that ask how their packets arrived.
//! One interface of each balancer has XDP in front of tc, the other tc alone.

use std::net::IpAddr;

use crate::cluster::Cluster;
use crate::manifest::Profile;
use crate::topology::dual::{CLIENTS6, ENDPOINTS6, FLOATING6, VIP6};
use crate::topology::{CLIENTS, ENDPOINTS, FLOATING, Node, VIP};
use crate::traffic::talk::server::Server;

mod changes;
mod direct;
mod failover;
mod intent;
mod outbound;
mod sctp;
mod services;
mod sizes;
mod translating;

/// Every endpoint's server listens here, and on the ports of services that keep the client's.
const SERVER_PORTS: [u16; 3] = [intent::ENDPOINT_PORT, intent::IN_RANGE, intent::WILD];

/// The addresses of one family.
#[derive(Debug, Clone)]
struct Family {
    name: &'static str,
    vip: IpAddr,
    floating: IpAddr,
    clients: Vec<IpAddr>,
    endpoints: Vec<IpAddr>,
}

impl Family {
    fn both() -> [Family; 2] {
        [
            Family {
                name: "IPv4",
                vip: VIP.into(),
                floating: FLOATING.into(),
                clients: CLIENTS.map(IpAddr::from).to_vec(),
                endpoints: ENDPOINTS.map(IpAddr::from).to_vec(),
            },
            Family {
                name: "IPv6",
                vip: VIP6.into(),
                floating: FLOATING6.into(),
                clients: CLIENTS6.map(IpAddr::from).to_vec(),
                endpoints: ENDPOINTS6.map(IpAddr::from).to_vec(),
            },
        ]
    }
}

/// What failed so far: one broken mode shall not hide the others.
#[derive(Debug, Default)]
struct Checks {
    failed: Vec<String>,
    passed: usize,
}

impl Checks {
    fn check(&mut self, name: &str, result: anyhow::Result<()>) -> anyhow::Result<()> {
        crate::interrupt::check()?;
        match result {
            Ok(()) => {
                self.passed += 1;
                println!("ok      {name}");
            }
            Err(error) => {
                println!("FAILED  {name}: {error:#}");
                self.failed.push(format!("{name}: {error:#}"));
            }
        }
        Ok(())
    }

    fn demand(self) -> anyhow::Result<()> {
        anyhow::ensure!(
            self.failed.is_empty(),
            "{} of {} checks failed:\n{}",
            self.failed.len(),
            self.failed.len() + self.passed,
            self.failed.join("\n")
        );
        anyhow::ensure!(self.passed > 0, "nothing was checked");
        Ok(())
    }
}

pub(super) fn run() -> anyhow::Result<()> {
    let mut cluster = Cluster::start_dual(&intent::manifest(), Profile::Lan, mixed_hooks)?;
    check(&mut cluster).map_err(|error| cluster.explain(error))
}

/// Whichever way packets go, they come in by one hook and leave through an interface of the other; and what one
/// node has on the clients' side the other has on the endpoints'.
fn mixed_hooks(node: Node, file: &str) -> String {
    let (clients, endpoints) = match node {
        Node::A => ("xdp-generic", "tc"),
        _ => ("tc", "xdp-generic"),
    };
    file.replace(r#"name = "eth0", hook = "auto""#, &format!(r#"name = "eth0", hook = "{clients}""#))
        .replace(r#"name = "eth1", hook = "auto""#, &format!(r#"name = "eth1", hook = "{endpoints}""#))
}

fn check(cluster: &mut Cluster) -> anyhow::Result<()> {
    cluster.wait_ready()?;
    let servers = cluster
        .topology
        .endpoints
        .iter()
        .zip(1..)
        .map(|(namespace, number)| Server::start(namespace, number, &SERVER_PORTS))
        .collect::<anyhow::Result<Vec<_>>>()?;
    let mut checks = Checks::default();
    translating::run(cluster, &mut checks)?;
    outbound::run(cluster, &mut checks)?;
    services::run(cluster, &mut checks)?;
    sctp::run(cluster, &mut checks)?;
    sizes::run(cluster, &mut checks)?;
    direct::run(cluster, &mut checks)?;
    changes::run(cluster, &mut checks)?;
    services::room(cluster, &mut checks)?;
    failover::run(cluster, &mut checks)?;
    servers.into_iter().try_for_each(Server::stop)?;
    checks.demand()
}
