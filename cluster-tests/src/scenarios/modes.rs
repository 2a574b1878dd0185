//! One cluster with a service per mode, over IPv4 and IPv6, and real clients that ask how their packets arrived.
//! One interface of each balancer has XDP in front of tc, the other tc alone.

use std::net::IpAddr;

use crate::cluster::Cluster;
use crate::manifest::Profile;
use crate::topology::dual::{CLIENTS6, ENDPOINTS6, FLOATING6, VIP6};
use crate::topology::{CLIENTS, ENDPOINTS, FLOATING, Node, VIP};
use crate::traffic::talk::server::Server;

mod backups;
mod changes;
mod direct;
mod failover;
mod fragments;
pub(super) mod intent;
mod outbound;
mod rate;
mod sctp;
mod services;
mod sizes;
mod translating;

/// Every endpoint's server listens here, and on the ports of services that keep the client's.
const SERVER_PORTS: [u16; 3] = [intent::ENDPOINT_PORT, intent::IN_RANGE, intent::WILD];

/// The addresses of one family.
#[derive(Debug, Clone)]
pub(super) struct Family {
    pub(super) name: &'static str,
    pub(super) vip: IpAddr,
    floating: IpAddr,
    pub(super) clients: Vec<IpAddr>,
    endpoints: Vec<IpAddr>,
}

impl Family {
    pub(super) fn both() -> [Family; 2] {
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
pub(super) struct Checks {
    failed: Vec<String>,
    passed: usize,
}

impl Checks {
    pub(super) fn check(&mut self, name: &str, result: anyhow::Result<()>) -> anyhow::Result<()> {
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

    pub(super) fn demand(self) -> anyhow::Result<()> {
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
pub(super) fn mixed_hooks(node: Node, file: &str) -> String {
    match node {
        Node::A => with_hooks(file, "xdp-generic", "tc"),
        _ => with_hooks(file, "tc", "xdp-generic"),
    }
}

/// A node's file with these hooks on the clients' and on the endpoints' side.
pub(super) fn with_hooks(file: &str, clients: &str, endpoints: &str) -> String {
    file.replace(r#"name = "eth0", hook = "auto""#, &format!(r#"name = "eth0", hook = "{clients}""#))
        .replace(r#"name = "eth1", hook = "auto""#, &format!(r#"name = "eth1", hook = "{endpoints}""#))
}

/// A server on each endpoint, on the ports that the services of [`intent`] send to.
pub(super) fn start_servers(cluster: &Cluster) -> anyhow::Result<Vec<Server>> {
    let numbered = cluster.topology.endpoints.iter().zip(1..);
    numbered.map(|(namespace, number)| Server::start(namespace, number, &SERVER_PORTS)).collect()
}

fn check(cluster: &mut Cluster) -> anyhow::Result<()> {
    cluster.wait_ready()?;
    let servers = start_servers(cluster)?;
    let mut checks = Checks::default();
    translating::run(cluster, &mut checks)?;
    outbound::run(cluster, &mut checks)?;
    services::run(cluster, &mut checks)?;
    sctp::run(cluster, &mut checks)?;
    fragments::run(cluster, &mut checks)?;
    sizes::run(cluster, &mut checks)?;
    direct::run(cluster, &mut checks)?;
    backups::run(cluster, &mut checks)?;
    rate::run(cluster, &mut checks)?;
    changes::run(cluster, &mut checks)?;
    services::room(cluster, &mut checks)?;
    failover::run(cluster, &mut checks)?;
    servers.into_iter().try_for_each(Server::stop)?;
    checks.demand()
}
