//! The harness itself, with plain forwarding in the balancers' place: what is sent arrives and is found right, an
//! interruption shows as a gap of its length, and two nodes that forward at once show as an overlap.

use std::net::SocketAddrV4;
use std::time::Duration;

use crate::capture::judge;
use crate::capture::watch::Capture;
use crate::clock::{self, nanos};
use crate::ip::batch;
use crate::run::Run;
use crate::stats::{Percentiles, longest_gap};
use crate::topology::{CLIENTS, ENDPOINTS, FLOATING, Node, Topology};
use crate::traffic::endpoint::{TCP_PORT, UDP_PORT};
use crate::traffic::load::{Clients, Endpoints, Volume};
use crate::traffic::stray::Strays;
use crate::wait;

const CUT: Duration = Duration::from_millis(150);
const AROUND: Duration = Duration::from_secs(2);

pub(super) fn run() -> anyhow::Result<()> {
    let run = Run::begin()?;
    let topology = Topology::create(&run, &Node::DATAPLANE)?;
    let a = topology.node(Node::A);
    for node in Node::DATAPLANE {
        topology.node(node).sysctl(&[("net/ipv4/ip_forward", "1")])?;
    }
    batch(a.name(), &[format!("address add {FLOATING}/32 dev eth1")])?;
    batch(topology.clients.name(), &["route add 10.0.0.0/24 via 192.0.2.2".to_owned()])?;

    let endpoints = Endpoints::start(&topology)?;
    let capture = Capture::start(&topology)?;
    let (tcp, udp) = (SocketAddrV4::new(ENDPOINTS[0], TCP_PORT), SocketAddrV4::new(ENDPOINTS[1], UDP_PORT));
    let volume = Volume::new(64, 16, tcp, udp);
    let clients = Clients::start(&topology, volume)?;
    wait::pass(AROUND)?;
    let at = clock::now();
    topology.set_port("a-c", false)?;
    clients.fault(at)?;
    wait::pass(CUT)?;
    topology.set_port("a-c", true)?;
    wait::pass(AROUND)?;
    let alone_until = clock::now();
    // Both nodes get the same packets now, and both forward them.
    let strays = Strays::start(&topology, CLIENTS[7], volume.udp)?;
    wait::pass(Duration::from_millis(300))?;
    strays.stop()?;
    let outcome = clients.finish()?;
    let seen = capture.finish()?;
    let end = clock::now();

    let lost = outcome.tcp.iter().filter(|f| !f.intact()).count();
    anyhow::ensure!(lost == 0, "{lost} of {} TCP flows were lost", outcome.tcp.len());
    let lost = outcome.udp.iter().filter(|f| !f.intact()).count();
    anyhow::ensure!(lost == 0, "{lost} of {} UDP flows were lost", outcome.udp.len());
    let probes = || outcome.udp.iter().filter(|f| f.is_probe());
    let window = nanos(AROUND);
    let gap = Percentiles::of(probes().map(|p| longest_gap(&p.heard, at, at + window)).collect());
    anyhow::ensure!(gap.p50 >= CUT.as_secs_f64() * 1e3, "an interruption of {CUT:?} shows as {gap:?}");
    let alone = judge::judge(&seen, at - window, alone_until);
    anyhow::ensure!(alone.judged > 0 && alone.overlap == 0, "one forwarder is judged as {alone:?}");
    let both = judge::judge(&seen, alone_until, end);
    anyhow::ensure!(both.overlap > 0, "two forwarders at once are judged as {both:?}");
    println!("gap {gap:?}; alone {alone:?}; both {both:?}; frames lost {}", seen.lost);
    drop(outcome);
    endpoints.stop()
}
