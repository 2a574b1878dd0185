//! Connections that begin at endpoints: to the outside by each kind of SNAT rule, and to their own VIP.

use std::net::SocketAddr;

use anyhow::ensure;

use super::intent::{ENDPOINT_PORT, HAIRPIN, NAT, egress, exempt, static_addresses};
use super::{Checks, Family};
use crate::cluster::Cluster;
use crate::ip::batch;
use crate::traffic::talk::server::Server;
use crate::traffic::talk::{Datagrams, Hello, Talk, any_port};

const OUTSIDE_PORT: u16 = 9100;
const OUTSIDE: u64 = 99;
const BYTES: usize = 20_000;
const DATAGRAM: usize = 500;

pub(super) fn run(cluster: &Cluster, checks: &mut Checks) -> anyhow::Result<()> {
    let clients = &cluster.topology.clients;
    let families = Family::both();
    let mut server = Server::start(clients, OUTSIDE, &[])?;
    for address in [families[0].clients[0], families[1].clients[0], exempt()] {
        server.add(clients, OUTSIDE, SocketAddr::new(address, OUTSIDE_PORT))?;
    }
    for (i, family) in families.iter().enumerate() {
        let (snat, fixed) = (egress()[i], static_addresses()[i]);
        let outside = SocketAddr::new(family.clients[0], OUTSIDE_PORT);
        let name = |what: &str| format!("{what} {}", family.name);
        let first = both(cluster, 0, family, outside).and_then(|seen| {
            seen.iter().try_for_each(|(_, hello)| {
                ensure!(hello.peer.ip() == snat, "the outside sees {}, not {snat}", hello.peer);
                ensure!(hello.server == OUTSIDE, "server {} answered", hello.server);
                Ok(())
            })
        });
        checks.check(&name("snat"), first)?;
        let third = both(cluster, 2, family, outside).and_then(|seen| {
            seen.iter().try_for_each(|(local, hello)| {
                let expected = SocketAddr::new(fixed, local.port());
                ensure!(hello.peer == expected, "the outside sees {}, not {expected}", hello.peer);
                Ok(())
            })
        });
        checks.check(&name("static, outwards"), third)?;
        checks.check(
            &name("static, inwards"),
            inwards(cluster, family, SocketAddr::new(fixed, ENDPOINT_PORT)),
        )?;
        checks.check(&name("hairpin"), hairpin(cluster, family, HAIRPIN))?;
        checks.check(&name("hairpin over several endpoints"), hairpin(cluster, family, NAT))?;
    }
    checks.check("exempt IPv4", exempted(cluster, &families[0]))?;
    server.stop()
}

/// One TCP and one UDP conversation of an endpoint with `to`.
fn both(
    cluster: &Cluster,
    endpoint: usize,
    family: &Family,
    to: SocketAddr,
) -> anyhow::Result<[(SocketAddr, Hello); 2]> {
    let namespace = &cluster.topology.endpoints[endpoint];
    let from = any_port(family.endpoints[endpoint]);
    let mut talk = Talk::connect(namespace, from, to)?;
    talk.exchange(BYTES)?;
    let mut datagrams = Datagrams::open(namespace, from, to)?;
    let hello = datagrams.exchange(DATAGRAM)?;
    ensure!(datagrams.exchange(DATAGRAM)? == hello, "a UDP flow moved");
    Ok([(talk.local, talk.hello), (datagrams.local, hello)])
}

/// What comes to the static address goes to the third endpoint, from who sent it.
fn inwards(cluster: &Cluster, family: &Family, to: SocketAddr) -> anyhow::Result<()> {
    let clients = &cluster.topology.clients;
    let from = any_port(family.clients[1]);
    let mut talk = Talk::connect(clients, from, to)?;
    talk.exchange(BYTES)?;
    let mut datagrams = Datagrams::open(clients, from, to)?;
    let hello = datagrams.exchange(DATAGRAM)?;
    for (local, hello) in [(talk.local, talk.hello), (datagrams.local, hello)] {
        ensure!(hello.server == 3, "server {} answered", hello.server);
        ensure!(hello.peer == local, "the host sees {}, the client is {local}", hello.peer);
    }
    Ok(())
}

/// An endpoint that reaches its service by the VIP is seen as the VIP: else it would answer itself directly.
fn hairpin(cluster: &Cluster, family: &Family, port: u16) -> anyhow::Result<()> {
    for _ in 0..3 {
        for (_, hello) in both(cluster, 0, family, SocketAddr::new(family.vip, port))? {
            ensure!(hello.peer.ip() == family.vip, "the endpoint sees {}", hello.peer);
        }
    }
    Ok(())
}

/// The client that is exempt sees the endpoint itself, and answers by way of the group.
fn exempted(cluster: &Cluster, family: &Family) -> anyhow::Result<()> {
    let route = format!("route add 10.0.0.0/24 via {}", family.vip);
    batch(cluster.topology.clients.name(), std::slice::from_ref(&route))?;
    let result = both(cluster, 1, family, SocketAddr::new(exempt(), OUTSIDE_PORT)).and_then(|seen| {
        seen.iter().try_for_each(|(local, hello)| {
            ensure!(hello.peer == *local, "the outside sees {}, the endpoint is {local}", hello.peer);
            Ok(())
        })
    });
    batch(cluster.topology.clients.name(), &[route.replace("add", "delete")])?;
    result
}
