//! Direct server return: endpoints hold the VIP, see the client, and answer it by a way of their own.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::ensure;

use super::intent::{DSR_GUE, DSR_IPIP, DSR_L2, DSR_OVER_IPV6, direct_vips};
use super::{Checks, Family, fragments};
use crate::cluster::Cluster;
use crate::topology::offload::{self, Offload};
use crate::traffic::talk::server::Server;
use crate::traffic::talk::{Datagrams, Talk, any_port};
use crate::traffic::tunnel::{Counts, Tunnel};

const CONNECTIONS: usize = 6;
const BYTES: usize = 1000;
/// Whole segments, which do not fit with an outer header: the client must hear of it.
const BULK: usize = 64 * 1024;

pub(super) fn run(cluster: &Cluster, checks: &mut Checks) -> anyhow::Result<()> {
    let topology = &cluster.topology;
    topology.add_direct_return(&direct_vips())?;
    let counts = Arc::new(Counts::default());
    let mut servers = Vec::new();
    let mut tunnels = Vec::new();
    for (namespace, number) in topology.endpoints.iter().zip(1..) {
        let mut server = Server::start(namespace, number, &[])?;
        for vip in direct_vips() {
            for port in [DSR_L2, DSR_IPIP, DSR_GUE, DSR_OVER_IPV6] {
                server.add(namespace, number, SocketAddr::new(vip, port))?;
            }
        }
        servers.push(server);
        tunnels.push(Tunnel::start(namespace, &counts)?);
    }
    offload::set(&topology.clients, "eth0", Offload::SendChecksums, false)?;
    for (family, vip) in Family::both().iter().zip(direct_vips()) {
        let inside = if vip.is_ipv4() { &counts.ipip } else { &counts.ipv6_in_ipv6 };
        let mut cases = vec![
            ("dsr-l2", DSR_L2, None),
            ("dsr-ipip", DSR_IPIP, Some(inside)),
            ("dsr-gue", DSR_GUE, Some(&counts.gue)),
        ];
        if vip.is_ipv4() {
            cases.push(("dsr-ipip over IPv6", DSR_OVER_IPV6, Some(&counts.ipv4_in_ipv6)));
        }
        for (mode, port, counter) in cases {
            let to = SocketAddr::new(vip, port);
            let name = |what: &str| format!("{mode} {} {what}", family.name);
            let small = counted(counter, || tcp(cluster, family, to, BYTES));
            checks.check(&name("TCP"), small)?;
            checks.check(&name("UDP"), counted(counter, || udp(cluster, family, to)))?;
            if port == DSR_L2 {
                // Encapsulated, a fragment that fills the link does not fit.
                checks.check(&name("fragments"), fragments::exchange(cluster, family, to))?;
            }
            checks.check(&name("whole segments"), counted(counter, || tcp(cluster, family, to, BULK)))?;
        }
    }
    offload::set(&topology.clients, "eth0", Offload::SendChecksums, true)?;
    let malformed = counts.malformed.load(Ordering::Relaxed);
    let none = if malformed == 0 { Ok(()) } else { Err(anyhow::anyhow!("{malformed} malformed packets")) };
    checks.check("what is in tunnels is well formed", none)?;
    tunnels.into_iter().try_for_each(Tunnel::stop)?;
    servers.into_iter().try_for_each(Server::stop)
}

/// Demands that the packets came by the tunnel.
fn counted(counter: Option<&AtomicU64>, work: impl FnOnce() -> anyhow::Result<()>) -> anyhow::Result<()> {
    let before = counter.map(|c| c.load(Ordering::Relaxed));
    work()?;
    if let (Some(counter), Some(before)) = (counter, before) {
        ensure!(counter.load(Ordering::Relaxed) > before, "nothing came by the tunnel");
    }
    Ok(())
}

fn tcp(cluster: &Cluster, family: &Family, to: SocketAddr, bytes: usize) -> anyhow::Result<()> {
    let mut servers = BTreeSet::new();
    for i in 0..CONNECTIONS {
        let from = any_port(family.clients[i % family.clients.len()]);
        let mut talk = Talk::connect(&cluster.topology.clients, from, to)?;
        ensure!(talk.hello.peer == talk.local, "the endpoint sees {}", talk.hello.peer);
        talk.exchange(bytes)?;
        servers.insert(talk.hello.server);
    }
    ensure!(servers.len() == family.endpoints.len(), "{CONNECTIONS} connections in turn reached {servers:?}");
    Ok(())
}

fn udp(cluster: &Cluster, family: &Family, to: SocketAddr) -> anyhow::Result<()> {
    for i in 0..CONNECTIONS {
        let from = any_port(family.clients[i % family.clients.len()]);
        let mut socket = Datagrams::open(&cluster.topology.clients, from, to)?;
        let hello = socket.exchange(BYTES)?;
        ensure!(hello.peer == socket.local, "the endpoint sees {}", hello.peer);
        ensure!(socket.exchange(BYTES)? == hello, "a UDP flow moved");
    }
    Ok(())
}
