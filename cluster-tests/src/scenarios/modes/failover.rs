//! Flows of every mode live through a restart of the standby, without losing a packet, and through a hand-over and
//! a power cut of the owner, without losing a flow.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::intent::{
    AFFINITY, ENDPOINT_PORT, FULLNAT, HAIRPIN, HOST_ONE_ARM, IN_RANGE, NAT, ONE_ARM, static_addresses,
};
use super::{Checks, Family, sizes};
use crate::cluster::Cluster;
use crate::fault::{Fault, inject};
use crate::topology::Node;
use crate::traffic::talk::held::{Flows, Held};
use crate::traffic::talk::server::Server;
use crate::traffic::talk::{Talk, any_port};

const LIMIT: Duration = Duration::from_secs(15);
const OUTSIDE_PORT: u16 = 9200;
/// Flows of each kind and family, each TCP and UDP.
const EACH: usize = 3;
/// Rounds of every flow around each event.
const ROUNDS: u64 = 5;

pub(super) fn run(cluster: &mut Cluster, checks: &mut Checks) -> anyhow::Result<()> {
    let mut outside = Server::start(&cluster.topology.clients, 99, &[])?;
    for family in Family::both() {
        let address = SocketAddr::new(family.clients[0], OUTSIDE_PORT);
        outside.add(&cluster.topology.clients, 99, address)?;
    }
    let owner = cluster.wait_ready()?;
    let flows = match open(cluster) {
        Ok(flows) => flows,
        Err(error) => return checks.check("flows of every mode", Err(error)),
    };
    let held = Held::start(flows)?;
    let restarted = restart(cluster, owner.other()).and_then(|()| held.rounds(ROUNDS));
    checks.check("the standby's daemon restarts", restarted)?;
    let strict = held.stop();
    let flows = match strict {
        Ok(flows) => {
            checks.check("the standby's restart loses no packet", Ok(()))?;
            flows
        }
        Err(error) => {
            checks.check("the standby's restart loses no packet", Err(error))?;
            open(cluster)?
        }
    };
    let held = Held::start(Flows { patient: true, ..flows })?;
    let handed = hand_over(cluster, owner).and_then(|()| held.rounds(ROUNDS));
    checks.check("the owner's daemon hands over and restarts", handed)?;
    let flows = match held.stop() {
        Ok(flows) => {
            checks.check("a hand-over breaks no flow of any mode", Ok(()))?;
            flows
        }
        Err(error) => {
            checks.check("a hand-over breaks no flow of any mode", Err(error))?;
            Flows { patient: true, ..open(cluster)? }
        }
    };
    sizes::streams(cluster, checks)?;
    let homes = homes(cluster)?;
    let held = Held::start(flows)?;
    held.rounds(ROUNDS)?;
    cluster.wait_ready()?;
    let cut = power(cluster, owner.other()).and_then(|()| held.rounds(ROUNDS));
    checks.check("the owner loses power", cut)?;
    checks.check("a power cut breaks no flow of any mode", held.stop().map(drop))?;
    let kept = self::homes(cluster).and_then(|now| {
        anyhow::ensure!(now == homes, "clients were with {homes:?} and are with {now:?}");
        Ok(())
    });
    checks.check("affinity lives through a power cut", kept)?;
    outside.stop()
}

/// The server that each client keeps to.
fn homes(cluster: &Cluster) -> anyhow::Result<Vec<(IpAddr, u64)>> {
    let mut homes = Vec::new();
    for family in Family::both() {
        for client in family.clients {
            let to = SocketAddr::new(family.vip, AFFINITY);
            let talk = Talk::connect(&cluster.topology.clients, any_port(client), to)?;
            homes.push((client, talk.hello.server));
        }
    }
    Ok(homes)
}

fn open(cluster: &Cluster) -> anyhow::Result<Flows> {
    let topology = &cluster.topology;
    let mut flows = Flows::default();
    for (family, fixed) in Family::both().iter().zip(static_addresses()) {
        let to = |port| SocketAddr::new(family.vip, port);
        let outside = SocketAddr::new(family.clients[0], OUTSIDE_PORT);
        let (clients, endpoints) = (&topology.clients, &topology.endpoints);
        let cases = [
            ("nat", clients, family.clients[0], to(NAT)),
            ("fullnat", clients, family.clients[0], to(FULLNAT)),
            ("one-arm", clients, family.clients[1], to(ONE_ARM)),
            ("host-one-arm", clients, family.clients[1], to(HOST_ONE_ARM)),
            ("port range", clients, family.clients[1], to(IN_RANGE)),
            ("static, inwards", clients, family.clients[1], SocketAddr::new(fixed, ENDPOINT_PORT)),
            ("hairpin", &endpoints[0], family.endpoints[0], to(HAIRPIN)),
            ("snat", &endpoints[1], family.endpoints[1], outside),
            ("static, outwards", &endpoints[2], family.endpoints[2], outside),
        ];
        for (name, namespace, from, to) in cases {
            for _ in 0..EACH {
                flows.open(&format!("{name} {}", family.name), namespace, from, to)?;
            }
        }
    }
    Ok(flows)
}

fn restart(cluster: &mut Cluster, node: Node) -> anyhow::Result<()> {
    cluster.process(node)?.terminate(LIMIT)?;
    cluster.start_node(node)?;
    cluster.wait_answering(node)?;
    cluster.wait_ready()?;
    Ok(())
}

fn hand_over(cluster: &mut Cluster, owner: Node) -> anyhow::Result<()> {
    restart(cluster, owner)?;
    let now = cluster.wait_ready()?;
    anyhow::ensure!(now == owner.other(), "{} serves after it was told to end", now.name());
    Ok(())
}

fn power(cluster: &mut Cluster, owner: Node) -> anyhow::Result<()> {
    inject(cluster, owner, Fault::Power)?;
    cluster.wait_serving_within(owner.other(), LIMIT)
}
