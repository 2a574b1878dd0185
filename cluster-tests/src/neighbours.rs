//! Where clients and endpoints think that the group's addresses live.

use std::net::Ipv4Addr;
use std::process::Command;

use anyhow::{Context, ensure};

use crate::ip::batch;
use crate::namespace::Handle;
use crate::topology::{FLOATING, Node, Topology, VIP};
use crate::traffic::stray::{Mac, mac};

/// Hosts' interface.
const INTERFACE: &str = "eth0";

/// A host that sends to the group, to which of its addresses, and by which of a balancer's interfaces it gets there.
fn hosts(topology: &Topology) -> impl Iterator<Item = (&Handle, Ipv4Addr, &'static str)> {
    let endpoints = topology.endpoints.iter().map(|endpoint| (&**endpoint, FLOATING, "eth1"));
    [(&*topology.clients, VIP, "eth0")].into_iter().chain(endpoints)
}

/// Has every host send to this node what is for the group, as if the node had just been heard to own it.
pub fn mislead(topology: &Topology, node: Node) -> anyhow::Result<()> {
    hosts(topology).try_for_each(|(host, address, interface)| {
        let mac = text(mac(topology.node(node), interface)?);
        let entry = format!("neigh replace {address} lladdr {mac} nud reachable dev {INTERFACE}");
        batch(host.name(), &[entry])
    })
}

/// An error unless every host sends to this node.
pub fn demand_sent_to(topology: &Topology, node: Node) -> anyhow::Result<()> {
    for (host, address, interface) in hosts(topology) {
        let mac = text(mac(topology.node(node), interface)?);
        let said = entry(host, address)?;
        ensure!(said.contains(&mac), "{}, and {} has {mac}: {said:?}", host.name(), node.name());
    }
    Ok(())
}

/// What every host knows, a line each.
pub fn describe(topology: &Topology) -> String {
    let line = |(host, address, _): (&Handle, Ipv4Addr, &str)| {
        let said = entry(host, address).unwrap_or_else(|error| format!("{error:#}"));
        format!("{}: {said}\n", host.name())
    };
    hosts(topology).map(line).collect()
}

fn entry(host: &Handle, address: Ipv4Addr) -> anyhow::Result<String> {
    let address = address.to_string();
    let output = Command::new("ip")
        .args(["-n", host.name(), "-statistics", "neigh", "show", &address, "dev", INTERFACE])
        .output()
        .context("cannot run `ip` (iproute2)")?;
    ensure!(output.status.success(), "`ip neigh`: {}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

fn text(mac: Mac) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}
