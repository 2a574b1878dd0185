//! The modes that translate: what is sent comes back, and each endpoint sees the source that its mode says.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use anyhow::ensure;

use super::intent::{FULLNAT, HOST_ONE_ARM, IN_RANGE, NAT, ONE_ARM, WILD, egress, wild_vips, wildcard};
use super::{Checks, Family};
use crate::cluster::Cluster;
use crate::topology::Node;
use crate::traffic::talk::{Datagrams, Talk, any_port};

/// More than one segment, less than what fills a socket's buffers.
const TCP_BYTES: usize = 48 * 1024;
const UDP_BYTES: usize = 700;
const CONNECTIONS: usize = 6;

/// The source that an endpoint sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sees {
    Client,
    Address(IpAddr),
}

pub(super) fn run(cluster: &Cluster, checks: &mut Checks) -> anyhow::Result<()> {
    for (family, another) in Family::both().iter().zip(egress()) {
        let cases = [
            ("nat", family.vip, NAT, Sees::Client),
            ("fullnat", family.vip, FULLNAT, Sees::Address(family.vip)),
            ("one-arm", family.vip, ONE_ARM, Sees::Address(family.floating)),
            ("host-one-arm", family.vip, HOST_ONE_ARM, Sees::Address(family.floating)),
            ("host-one-arm, another address", another, HOST_ONE_ARM, Sees::Address(family.floating)),
            ("port range", family.vip, IN_RANGE, Sees::Client),
        ];
        for (mode, vip, port, sees) in cases {
            both(cluster, checks, family, mode, SocketAddr::new(vip, port), sees)?;
        }
    }
    cluster.apply(Node::A, &wildcard())?;
    cluster.wait_programmed()?;
    for (family, wild) in Family::both().iter().zip(wild_vips()) {
        both(cluster, checks, family, "wildcard", SocketAddr::new(wild, WILD), Sees::Client)?;
    }
    Ok(())
}

fn both(
    cluster: &Cluster,
    checks: &mut Checks,
    family: &Family,
    mode: &str,
    to: SocketAddr,
    sees: Sees,
) -> anyhow::Result<()> {
    checks.check(&format!("{mode} {} TCP", family.name), tcp(cluster, family, to, sees))?;
    checks.check(&format!("{mode} {} UDP", family.name), udp(cluster, family, to, sees))
}

fn tcp(cluster: &Cluster, family: &Family, to: SocketAddr, sees: Sees) -> anyhow::Result<()> {
    let mut servers = BTreeSet::new();
    for i in 0..CONNECTIONS {
        let from = any_port(family.clients[i % family.clients.len()]);
        let mut talk = Talk::connect(&cluster.topology.clients, from, to)?;
        expect(talk.local, talk.hello.peer, sees)?;
        talk.exchange(TCP_BYTES)?;
        servers.insert(talk.hello.server);
    }
    ensure!(servers.len() == family.endpoints.len(), "{CONNECTIONS} connections in turn reached {servers:?}");
    Ok(())
}

fn udp(cluster: &Cluster, family: &Family, to: SocketAddr, sees: Sees) -> anyhow::Result<()> {
    let mut servers = BTreeSet::new();
    for i in 0..CONNECTIONS {
        let from = any_port(family.clients[i % family.clients.len()]);
        let mut socket = Datagrams::open(&cluster.topology.clients, from, to)?;
        let first = socket.exchange(UDP_BYTES)?;
        expect(socket.local, first.peer, sees)?;
        let second = socket.exchange(UDP_BYTES)?;
        ensure!(first == second, "a flow was {first:?} and is {second:?}");
        servers.insert(first.server);
    }
    ensure!(servers.len() == family.endpoints.len(), "{CONNECTIONS} flows in turn reached {servers:?}");
    Ok(())
}

fn expect(local: SocketAddr, seen: SocketAddr, sees: Sees) -> anyhow::Result<()> {
    match sees {
        Sees::Client => ensure!(seen == local, "the endpoint sees {seen}, the client is {local}"),
        Sees::Address(address) => {
            ensure!(seen.ip() == address, "the endpoint sees {seen}, not an address of {address}");
        }
    }
    Ok(())
}
