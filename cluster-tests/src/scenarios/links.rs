//! What happens to interfaces and neighbours while the daemon runs and connections talk: a cable is replaced, hardware
//! addresses change at either end. Nothing has to be restarted, and no flow is lost.

use std::time::Duration;

use anyhow::{Context, ensure};

use super::interfaces::{METRICS, http_get};
use super::modes::{Checks, intent, mixed_hooks, with_hooks};
use super::traffic::Traffic;
use crate::api;
use crate::cluster::Cluster;
use crate::ip::batch;
use crate::manifest::Profile;
use crate::topology::{Node, Side};
use crate::wait;

const LIMIT: Duration = Duration::from_secs(10);
const SIDES: [(Side, &str); 2] = [(Side::Endpoint, "eth1"), (Side::Client, "eth0")];

/// A node alone, which has to live with it.
pub(super) fn alone() -> anyhow::Result<()> {
    let hooks = |file: &str| with_hooks(file, "xdp-generic", "tc");
    let mut cluster = Cluster::start_alone(&intent::manifest(), hooks)?;
    check_alone(&cluster).map_err(|error| cluster.explain(error))
}

/// An owner, whose group goes to the other node.
pub(super) fn pair() -> anyhow::Result<()> {
    let mut cluster = Cluster::start_dual(&intent::manifest(), Profile::Lan, mixed_hooks)?;
    check_pair(&cluster).map_err(|error| cluster.explain(error))
}

fn check_alone(cluster: &Cluster) -> anyhow::Result<()> {
    let mut checks = Checks::default();
    let traffic = Traffic::start(cluster, true)?;
    for (side, interface) in SIDES {
        let replaced = replace(cluster, Node::A, side, interface).and_then(|()| traffic.goes_on());
        checks.check(&format!("{interface} is taken away and returns"), replaced)?;
    }
    for (_, interface) in SIDES {
        let changed = own_address(cluster, interface).and_then(|()| traffic.goes_on());
        checks.check(&format!("{interface} gets another hardware address"), changed)?;
    }
    let changed = next_hops(cluster).and_then(|()| traffic.goes_on());
    checks.check("clients and endpoints get other hardware addresses", changed)?;
    checks.check("no flow notices", traffic.stop())?;
    checks.demand()
}

fn replace(cluster: &Cluster, node: Node, side: Side, interface: &str) -> anyhow::Result<()> {
    let namespace = cluster.topology.node(node);
    let reattached = || api::counter(namespace, "reattached");
    let before = reattached()?;
    cluster.topology.unplug(node, side)?;
    wait::until("the missing interface to be noticed", LIMIT, || {
        let ready = namespace.run(|| http_get(METRICS, "/readyz"));
        let told = ready.is_err_and(|error| format!("{error:#}").contains(interface));
        Ok((told && !attached(cluster, node, interface)?).then_some(()))
    })?;
    cluster.topology.plug(node, side)?;
    cluster.topology.add_ipv6_at(node, side)?;
    wait::until("the programs to be attached again", LIMIT, || {
        Ok((reattached()? > before && attached(cluster, node, interface)?).then_some(()))
    })?;
    ensure!(reattached()? == before + 1, "attached again {} times, not once", reattached()? - before);
    Ok(())
}

/// Whether a node says that an interface has its programs and carrier.
fn attached(cluster: &Cluster, node: Node, interface: &str) -> anyhow::Result<bool> {
    let status = api::node_status(cluster.topology.node(node))?;
    let found = status.interfaces.iter().find(|found| found.name == interface);
    let found = found.with_context(|| format!("{} says nothing of {interface}", node.name()))?;
    Ok(found.attached && found.carrier)
}

/// Neighbours learn the new one by what the balancer announces.
fn own_address(cluster: &Cluster, interface: &str) -> anyhow::Result<()> {
    let namespace = cluster.topology.node(Node::A);
    let sent = || api::counter(namespace, "sent");
    let before = sent()?;
    batch(namespace.name(), &[format!("link set {interface} address 02:00:00:00:0a:01")])?;
    wait::until("announcements", LIMIT, || Ok((sent()? > before).then_some(())))
}

/// Those who get another say so, as a machine does that takes over for another.
fn next_hops(cluster: &Cluster) -> anyhow::Result<()> {
    let topology = &cluster.topology;
    for (host, number) in topology.endpoints.iter().chain([&topology.clients]).zip(1..) {
        host.sysctl(&[("net/ipv4/conf/eth0/arp_notify", "1"), ("net/ipv6/conf/eth0/ndisc_notify", "1")])?;
        batch(host.name(), &[format!("link set eth0 address 02:00:00:00:0b:{number:02x}")])?;
    }
    Ok(())
}

fn check_pair(cluster: &Cluster) -> anyhow::Result<()> {
    let traffic = Traffic::start(cluster, true)?;
    for (side, interface) in SIDES {
        let owner = cluster.wait_ready()?;
        let next = owner.other();
        cluster.topology.unplug(owner, side)?;
        cluster
            .wait_serving_within(next, LIMIT)
            .with_context(|| format!("{interface} of {} is taken away", owner.name()))?;
        traffic.goes_on()?;
        cluster.topology.plug(owner, side)?;
        cluster.topology.add_ipv6_at(owner, side)?;
        let now = cluster.wait_ready()?;
        ensure!(now == next, "{} serves again without being asked", now.name());
        ensure!(attached(cluster, owner, interface)?, "{interface} of {} has no program", owner.name());
        traffic.goes_on()?;
    }
    traffic.stop()
}
