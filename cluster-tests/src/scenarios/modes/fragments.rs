//! Datagrams larger than the links: every fragment follows its first, both ways, whatever is translated.

use std::net::SocketAddr;

use anyhow::{Context, ensure};

use super::intent::{FULLNAT, NAT, ONE_ARM};
use super::services::counter;
use super::{Checks, Family};
use crate::cluster::Cluster;
use crate::traffic::talk::{Datagrams, any_port};

/// Two fragments, some, and as many as a datagram of IPv4 may have, almost.
const SIZES: [usize; 3] = [2000, 9000, 60_000];
const FLOWS: usize = 3;

pub(super) fn run(cluster: &Cluster, checks: &mut Checks) -> anyhow::Result<()> {
    let before = counter(cluster, "fragment_without_first")?;
    for family in &Family::both() {
        for (mode, port) in [("nat", NAT), ("fullnat", FULLNAT), ("one-arm", ONE_ARM)] {
            let to = SocketAddr::new(family.vip, port);
            checks.check(&format!("fragments, {mode} {}", family.name), exchange(cluster, family, to))?;
        }
    }
    let lost = counter(cluster, "fragment_without_first")? - before;
    let none = if lost == 0 { Ok(()) } else { Err(anyhow::anyhow!("{lost} came before their first")) };
    checks.check("fragments find their first", none)
}

/// The first datagram of a flow, too, is in fragments.
pub(super) fn exchange(cluster: &Cluster, family: &Family, to: SocketAddr) -> anyhow::Result<()> {
    for i in 0..FLOWS {
        let from = any_port(family.clients[i % family.clients.len()]);
        let mut socket = Datagrams::open(&cluster.topology.clients, from, to)?;
        let mut first = None;
        for size in SIZES {
            let hello = socket.exchange(size).with_context(|| format!("{size} bytes to {to}"))?;
            ensure!(*first.get_or_insert(hello) == hello, "a flow was {first:?} and is {hello:?}");
        }
    }
    Ok(())
}
