//! SCTP: associations are opened, used and closed, the checksum right at both ends, with and without another port.

use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::ensure;

use super::intent::{ENDPOINT_PORT, SCTP_FULLNAT, SCTP_NAT, SCTP_SAME_PORT};
use super::{Checks, Family};
use crate::cluster::Cluster;
use crate::traffic::sctp::{Server, associate};
use crate::wait;

const ASSOCIATIONS: u16 = 3;
const FIRST_PORT: u16 = 5000;
const LIMIT: Duration = Duration::from_secs(2);

pub(super) fn run(cluster: &Cluster, checks: &mut Checks) -> anyhow::Result<()> {
    let servers = cluster
        .topology
        .endpoints
        .iter()
        .zip(1..)
        .map(|(namespace, number)| Server::start(namespace, number, &[ENDPOINT_PORT, SCTP_SAME_PORT]))
        .collect::<anyhow::Result<Vec<_>>>()?;
    for family in &Family::both() {
        for (what, port) in
            [("nat", SCTP_NAT), ("nat, the port kept", SCTP_SAME_PORT), ("fullnat", SCTP_FULLNAT)]
        {
            let result = associations(cluster, family, port, &servers);
            checks.check(&format!("SCTP {what} {}", family.name), result)?;
        }
    }
    let stopped = servers.into_iter().try_for_each(Server::stop);
    checks.check("SCTP servers saw nothing wrong", stopped)
}

fn associations(cluster: &Cluster, family: &Family, port: u16, servers: &[Server]) -> anyhow::Result<()> {
    let closed = || servers.iter().map(|server| server.closed.load(Ordering::Relaxed)).sum::<u64>();
    let before = closed();
    let to = SocketAddr::new(family.vip, port);
    for i in 0..ASSOCIATIONS {
        let from = SocketAddr::new(family.clients[1], FIRST_PORT + i);
        let hello = associate(&cluster.topology.clients, from, to)?;
        let expected = if port == SCTP_FULLNAT { family.vip } else { from.ip() };
        ensure!(hello.peer.ip() == expected, "the endpoint sees {}, not {expected}", hello.peer);
        ensure!(port == SCTP_FULLNAT || hello.peer == from, "the endpoint sees {}, not {from}", hello.peer);
    }
    let all = before + u64::from(ASSOCIATIONS);
    wait::until("every association to be closed", LIMIT, || Ok((closed() == all).then_some(())))
}
