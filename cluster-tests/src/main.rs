//! Drives clusters of the real binaries in network namespaces.
use std::time::Duration;
use lockstep_cluster_tests::{capture::{judge, watch::Capture}, clock, interrupt, run::Run, stats, topology::*, traffic::{endpoint, load::*}, wait};
use std::net::SocketAddrV4;
fn main() -> anyhow::Result<()> {
    interrupt::install()?;
    let t=clock::now();
    let run = Run::begin()?;
    let topology = Topology::create(&run)?;
    println!("topology {} ms", clock::to_ms(clock::now()-t));
    topology.node(Node::A).sysctl(&[("net/ipv4/ip_forward","1")])?;
    lockstep_cluster_tests::ip::batch(topology.node(Node::A).name(), &["address add 10.0.0.1/32 dev eth1".into()])?;
    lockstep_cluster_tests::ip::batch(topology.clients.name(), &["route add 10.0.0.0/24 via 192.0.2.2".into()])?;
    let endpoints = Endpoints::start(&topology)?;
    let capture = Capture::start(&topology)?;
    let clients = Clients::start(&topology, Volume{tcp_flows:200, udp_flows:50, tcp: SocketAddrV4::new(ENDPOINTS[0], endpoint::TCP_PORT), udp: SocketAddrV4::new(ENDPOINTS[1], endpoint::UDP_PORT)})?;
    println!("talking {} ms", clock::to_ms(clock::now()-t));
    wait::pass(Duration::from_secs(3))?;
    clients.open_young()?;
    wait::pass(Duration::from_secs(2))?;
    let at = clock::now();
    topology.set_port("a-c", false)?;
    clients.fault(at)?;
    wait::pass(Duration::from_millis(150))?;
    topology.set_port("a-c", true)?;
    wait::pass(Duration::from_secs(4))?;
    let out = clients.finish()?;
    let seen = capture.finish()?;
    println!("judge {:?} lost {} rst {} unreachable {}", judge::judge(&seen, 0, u64::MAX), seen.lost, seen.rst.len(), seen.unreachable.len());
    for (k, n) in &seen.nodes { println!("{k}: {} {} {}", n.translated.len(), n.untranslated.len(), n.claims.len()); }
    use lockstep_cluster_tests::traffic::tcp_client::Kind;
    for kind in [Kind::Held, Kind::Young, Kind::New] {
        let f: Vec<_> = out.tcp.iter().filter(|f| f.kind==kind).collect();
        println!("{kind:?}: {} intact {}", f.len(), f.iter().filter(|f| f.intact()).count());
    }
    println!("udp {} intact {}", out.udp.len(), out.udp.iter().filter(|f| f.intact()).count());
    let w = 3_000_000_000;
    let gaps: Vec<_> = out.udp.iter().filter(|f| f.is_probe()).map(|f| stats::longest_gap(&f.heard, at, at+w)).collect();
    let before: Vec<_> = out.udp.iter().filter(|f| f.is_probe()).map(|f| stats::longest_gap(&f.heard, at-w, at)).collect();
    println!("gap {:?}\nbefore {:?}", stats::Percentiles::of(gaps), stats::Percentiles::of(before));
    let stalls: Vec<_> = out.tcp.iter().filter(|f| f.is_fast()).map(|f| stats::longest_gap(&f.heard, at, at+w)).collect();
    println!("stall {:?}", stats::Percentiles::of(stalls));
    drop(out);
    endpoints.stop()?;
    println!("end {} ms", clock::to_ms(clock::now()-t));
    Ok(())
}
