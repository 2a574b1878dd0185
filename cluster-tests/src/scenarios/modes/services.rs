//! What a service says beside its mode: who may connect, how many, and which endpoint gets them.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::{Context, ensure};

use super::intent::{AFFINITY, CONNECTION_LIMIT, LEAST, LIMITED, SOURCES, WEIGHTED, echo_vips};
use super::{Checks, Family};
use crate::api;
use crate::cluster::Cluster;
use crate::namespace::Handle;
use crate::traffic::ping::ping;
use crate::traffic::talk::{Talk, any_port};
use crate::wait;

/// Long enough that a SYN that was dropped would have been answered many times over.
const REFUSED: Duration = Duration::from_millis(400);
/// More than how long a connection counts that was reset; one that both sides have closed counts no more.
const FORGOTTEN: Duration = Duration::from_secs(15);
const ROUNDS: usize = 4;
const PINGS: u16 = 3;

pub(super) fn run(cluster: &Cluster, checks: &mut Checks) -> anyhow::Result<()> {
    for ((family, echo), limit) in Family::both().iter().zip(echo_vips()).zip(LIMITED) {
        let name = |what: &str| format!("{what} {}", family.name);
        checks.check(&name("sources"), sources(cluster, family))?;
        checks.check(&name("affinity"), affinity(cluster, family))?;
        checks.check(&name("least connections"), least(cluster, family))?;
        checks.check(&name("weighted round robin"), weighted(cluster, family))?;
        checks.check(&name("ping to the VIP"), vip_answers(cluster, family))?;
        checks.check(&name("echo service"), echo_service(cluster, family, echo))?;
        checks.check(&name("connection limit"), limited(cluster, family, limit))?;
    }
    Ok(())
}

pub(super) fn connect(cluster: &Cluster, from: IpAddr, to: SocketAddr) -> anyhow::Result<Talk> {
    Talk::connect(&cluster.topology.clients, any_port(from), to)
}

/// An error if somebody answers, or if what is sent is dropped for anything but `reason`.
fn refused(cluster: &Cluster, from: IpAddr, to: SocketAddr, reason: &str) -> anyhow::Result<()> {
    let before = counter(cluster, reason)?;
    nobody_answers(cluster, from, to)?;
    ensure!(counter(cluster, reason)? > before, "what {from} sent to {to} was not counted as {reason}");
    Ok(())
}

/// One of the owner's.
pub(super) fn counter(cluster: &Cluster, reason: &str) -> anyhow::Result<u64> {
    api::counter(cluster.topology.node(cluster.owner()?), reason)
}

fn nobody_answers(cluster: &Cluster, from: IpAddr, to: SocketAddr) -> anyhow::Result<()> {
    let answered = cluster.topology.clients.run(|| {
        let socket = socket2::Socket::new(socket2::Domain::for_address(to), socket2::Type::STREAM, None)?;
        socket.bind(&any_port(from).into())?;
        match socket.connect_timeout(&to.into(), REFUSED) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == std::io::ErrorKind::TimedOut => Ok(false),
            Err(error) => Err(error).context("cannot connect"),
        }
    })?;
    ensure!(!answered, "{from} got through to {to}");
    Ok(())
}

fn sources(cluster: &Cluster, family: &Family) -> anyhow::Result<()> {
    let to = SocketAddr::new(family.vip, SOURCES);
    let allowed = if family.vip.is_ipv4() { family.clients[3] } else { family.clients[1] };
    connect(cluster, allowed, to)?.exchange(100)?;
    refused(cluster, family.clients[0], to, "source_not_allowed")
}

fn affinity(cluster: &Cluster, family: &Family) -> anyhow::Result<()> {
    let to = SocketAddr::new(family.vip, AFFINITY);
    for client in &family.clients[..2] {
        let first = connect(cluster, *client, to)?.hello.server;
        for _ in 0..ROUNDS {
            let now = connect(cluster, *client, to)?.hello.server;
            ensure!(now == first, "{client} was with {first} and is with {now}");
        }
    }
    Ok(())
}

fn counted(talks: &[Talk]) -> BTreeMap<u64, usize> {
    let mut counts = BTreeMap::new();
    for talk in talks {
        *counts.entry(talk.hello.server).or_default() += 1;
    }
    counts
}

/// Held connections spread evenly, and those that end make room.
fn least(cluster: &Cluster, family: &Family) -> anyhow::Result<()> {
    let to = SocketAddr::new(family.vip, LEAST);
    let endpoints = family.endpoints.len();
    let open = |n: usize| {
        (0..n).map(|_| connect(cluster, family.clients[0], to)).collect::<anyhow::Result<Vec<_>>>()
    };
    let talks = open(ROUNDS * endpoints)?;
    let counts = counted(&talks);
    ensure!(
        counts.len() == endpoints && counts.values().all(|n| *n == ROUNDS),
        "held connections by endpoint: {counts:?}"
    );
    Ok(())
}

/// 1 to 2 to 3, exactly over whole cycles.
fn weighted(cluster: &Cluster, family: &Family) -> anyhow::Result<()> {
    let to = SocketAddr::new(family.vip, WEIGHTED);
    let talks = (0..6 * ROUNDS)
        .map(|_| connect(cluster, family.clients[0], to))
        .collect::<anyhow::Result<Vec<_>>>()?;
    let counts = counted(&talks);
    let expected = BTreeMap::from([(1, ROUNDS), (2, 2 * ROUNDS), (3, 3 * ROUNDS)]);
    ensure!(counts == expected, "connections by endpoint: {counts:?}, not {expected:?}");
    Ok(())
}

/// Connections beyond the limit are refused, and those within it go on.
fn limited(cluster: &Cluster, family: &Family, port: u16) -> anyhow::Result<()> {
    let to = SocketAddr::new(family.vip, port);
    let mut talks = (0..CONNECTION_LIMIT)
        .map(|_| connect(cluster, family.clients[0], to))
        .collect::<anyhow::Result<Vec<_>>>()?;
    refused(cluster, family.clients[0], to, "connection_limit")?;
    talks.iter_mut().try_for_each(|talk| talk.exchange(100))
}

/// Connections that ended make room.
pub(super) fn room(cluster: &Cluster, checks: &mut Checks) -> anyhow::Result<()> {
    for (family, port) in Family::both().iter().zip(LIMITED) {
        let to = SocketAddr::new(family.vip, port);
        let again = wait::until_ok("room for a connection", FORGOTTEN, || {
            connect(cluster, family.clients[0], to)?.exchange(100)
        });
        checks.check(&format!("connection limit, room again {}", family.name), again)?;
    }
    Ok(())
}

/// Pings that endpoints' kernels have had.
fn echoes(cluster: &Cluster) -> anyhow::Result<u64> {
    cluster.topology.endpoints.iter().map(|namespace| namespace.run(echoes_here)).sum()
}

fn echoes_here() -> anyhow::Result<u64> {
    // The calling thread's namespace; /proc/net is the process's.
    let text4 = std::fs::read_to_string("/proc/thread-self/net/snmp").context("cannot read snmp")?;
    let mut lines = text4.lines().filter(|line| line.starts_with("Icmp:"));
    let (names, values) = (lines.next().context("no Icmp")?, lines.next().context("no Icmp")?);
    let at = names.split(' ').position(|name| name == "InEchos").context("no InEchos")?;
    let four: u64 = values.split(' ').nth(at).context("no InEchos")?.parse()?;
    let text6 = std::fs::read_to_string("/proc/thread-self/net/snmp6").context("cannot read snmp6")?;
    let six = text6.lines().find_map(|line| line.strip_prefix("Icmp6InEchos")).context("no Icmp6InEchos")?;
    Ok(four + six.trim().parse::<u64>()?)
}

fn vip_answers(cluster: &Cluster, family: &Family) -> anyhow::Result<()> {
    let before = echoes(cluster)?;
    pings(&cluster.topology.clients, family.clients[0], family.vip)?;
    ensure!(echoes(cluster)? == before, "an endpoint had the ping");
    Ok(())
}

fn echo_service(cluster: &Cluster, family: &Family, vip: IpAddr) -> anyhow::Result<()> {
    let before = echoes(cluster)?;
    pings(&cluster.topology.clients, family.clients[0], vip)?;
    let had = echoes(cluster)? - before;
    ensure!(had == u64::from(PINGS), "endpoints had {had} of {PINGS} pings");
    Ok(())
}

fn pings(namespace: &Handle, from: IpAddr, to: IpAddr) -> anyhow::Result<()> {
    namespace.run(|| ping(from, to, PINGS))
}
