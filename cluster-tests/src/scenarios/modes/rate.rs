//! New flows a second: what is above the limit is dropped and counted, one by one; what lives goes on, and other
//! services notice nothing.

use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};

use super::intent::{NAT, NEW_PER_SECOND, RATED};
use super::services::{connect, counter};
use super::{Checks, Family};
use crate::cluster::Cluster;
use crate::traffic::talk::any_port;
use crate::wait;

/// New flows at once.
const BURST: usize = 100;
/// How long an answer to one of them may take.
const ANSWER: Duration = Duration::from_secs(1);
const AGAIN: Duration = Duration::from_secs(5);

pub(super) fn run(cluster: &Cluster, checks: &mut Checks) -> anyhow::Result<()> {
    for family in &Family::both() {
        checks.check(&format!("new flows a second {}", family.name), limited(cluster, family))?;
    }
    Ok(())
}

fn limited(cluster: &Cluster, family: &Family) -> anyhow::Result<()> {
    let to = SocketAddr::new(family.vip, RATED);
    let enter = || connect(cluster, family.clients[0], to);
    let mut lives = wait::until_ok("room in the rate", AGAIN, enter)?;
    let before = counter(cluster, "rate_limit")?;
    let (answered, took) = cluster.topology.clients.run(|| burst(family, to))?;
    let dropped = counter(cluster, "rate_limit")? - before;
    ensure!(
        answered + dropped == BURST as u64,
        "of {BURST} new flows {answered} were answered and {dropped} counted as too many"
    );
    // A tenth of a second's worth at once, then as time goes by.
    let most = NEW_PER_SECOND / 10 + 1 + (took.as_secs_f64() * NEW_PER_SECOND as f64).ceil() as u64;
    ensure!((1..=most).contains(&answered), "{answered} new flows got in within {took:?}, {most} at most");
    lives.exchange(1000).context("a flow that lives")?;
    connect(cluster, family.clients[0], SocketAddr::new(family.vip, NAT))?
        .exchange(100)
        .context("another service")?;
    wait::until_ok("room in the rate again", AGAIN, enter)?.exchange(100)
}

/// One datagram from each of many ports: how many were answered, and how long sending took.
fn burst(family: &Family, to: SocketAddr) -> anyhow::Result<(u64, Duration)> {
    let from = any_port(family.clients[0]);
    let sockets = (0..BURST)
        .map(|_| {
            let socket = UdpSocket::bind(from).with_context(|| format!("cannot bind {from}"))?;
            socket.connect(to)?;
            socket.set_nonblocking(true)?;
            Ok(socket)
        })
        .collect::<anyhow::Result<Vec<_>>>()?;
    let begin = Instant::now();
    for socket in &sockets {
        socket.send(b"one of many").context("cannot send")?;
    }
    let took = begin.elapsed();
    let mut open: Vec<&UdpSocket> = sockets.iter().collect();
    let mut bytes = [0; 256];
    while begin.elapsed() < ANSWER {
        open.retain(|socket| socket.recv(&mut bytes).is_err());
        wait::pass(Duration::from_millis(10))?;
    }
    Ok(((BURST - open.len()) as u64, took))
}
