//! Much data, in segments that the kernel keeps together, and packets that are too big for the endpoints' side.

use std::net::SocketAddr;
use std::process::Command;

use anyhow::{Context, ensure};

use super::intent::{FULLNAT, HAIRPIN, NAT};
use super::{Checks, Family};
use crate::api;
use crate::cluster::Cluster;
use crate::ip::batch;
use crate::topology::{FLOATING, Node, dual::FLOATING6};
use crate::traffic::talk::{Talk, any_port};

const STREAM_BYTES: u64 = 50 << 20;
const SMALL_STREAM_BYTES: u64 = 4 << 20;
/// Above the least that IPv6 allows.
const SMALL_MTU: u32 = 1300;
const USUAL_MTU: u32 = 1500;

pub(super) fn run(cluster: &Cluster, checks: &mut Checks) -> anyhow::Result<()> {
    streams(cluster, checks)?;
    narrow(cluster, SMALL_MTU, " advmss 1440")?;
    for family in &Family::both() {
        checks
            .check(&format!("smaller MTU behind the balancer {}", family.name), too_big(cluster, family))?;
    }
    narrow(cluster, USUAL_MTU, "")
}

/// Through whichever node serves.
pub(super) fn streams(cluster: &Cluster, checks: &mut Checks) -> anyhow::Result<()> {
    let owner = cluster.owner()?.name();
    for family in &Family::both() {
        let to = |port| SocketAddr::new(family.vip, port);
        let name = |what: &str| format!("{what} through {owner} {}", family.name);
        checks.check(&name("50 MiB there and back, nat"), stream(cluster, family, to(NAT), STREAM_BYTES))?;
        checks.check(&name("4 MiB, fullnat"), stream(cluster, family, to(FULLNAT), SMALL_STREAM_BYTES))?;
    }
    Ok(())
}

fn stream(cluster: &Cluster, family: &Family, to: SocketAddr, bytes: u64) -> anyhow::Result<()> {
    Talk::connect(&cluster.topology.clients, any_port(family.clients[0]), to)?.stream(bytes)
}

/// The link between the balancers and the first endpoint. The endpoint goes on saying that it takes big segments, so
/// that only the balancer can tell a client otherwise.
fn narrow(cluster: &Cluster, mtu: u32, advertised: &str) -> anyhow::Result<()> {
    for node in Node::DATAPLANE {
        batch(cluster.topology.node(node).name(), &[format!("link set eth1 mtu {mtu}")])?;
    }
    batch(
        cluster.topology.endpoints[0].name(),
        &[
            format!("link set eth0 mtu {mtu}"),
            format!("route replace 0.0.0.0/0 via {FLOATING} dev eth0{advertised}"),
            format!("route replace ::/0 via {FLOATING6} dev eth0{advertised}"),
        ],
    )
}

fn too_big(cluster: &Cluster, family: &Family) -> anyhow::Result<()> {
    let owner = cluster.owner()?;
    let count = || api::counter(cluster.topology.node(owner), "sent_too_big");
    let before = count()?;
    stream(cluster, family, SocketAddr::new(family.vip, HAIRPIN), 1 << 20)?;
    ensure!(count()? > before, "{} told no client that its packets are too big", owner.name());
    let output = Command::new("ip")
        .args(["-n", cluster.topology.clients.name(), "route", "get", &family.vip.to_string()])
        .args(["from", &family.clients[0].to_string()])
        .output()
        .context("cannot run `ip`")?;
    let route = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(route.contains(&format!("mtu {SMALL_MTU}")), "the client's route is {route:?}");
    Ok(())
}
