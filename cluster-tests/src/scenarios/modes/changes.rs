//! A service is changed while its connections talk: none of them breaks or moves (I9), and new ones go where the
//! service now says.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use anyhow::{Context, ensure};

use super::intent::{CHANGING, ServiceText, changing};
use super::{Checks, Family};
use crate::cluster::Cluster;
use crate::topology::Node;
use crate::traffic::talk::held::{Flows, Held};
use crate::traffic::talk::{Talk, any_port};

/// Of each family, each with a TCP and a UDP flow.
const HELD: usize = 8;
/// New connections after each change.
const NEW: usize = 6;

/// One edit, and what must be true of new connections after it.
struct Step {
    name: &'static str,
    service: ServiceText,
    /// Servers that new connections may reach; all of them where `all`.
    servers: &'static [u64],
    all: bool,
    sees: fn(&Family, SocketAddr) -> IpAddr,
}

const fn client(_: &Family, local: SocketAddr) -> IpAddr {
    local.ip()
}

fn steps() -> Vec<Step> {
    let three = ServiceText { weights: [Some(100); 3], ..changing() };
    let weighted = ServiceText {
        algorithm: "weighted-round-robin",
        weights: [Some(1), Some(1), Some(4)],
        ..three.clone()
    };
    let step = |name, service, servers, all| Step { name, service, servers, all, sees: client };
    let without = ServiceText { weights: [None, Some(100), Some(100)], ..three.clone() };
    let mode = |mode| ServiceText { mode, ..without.clone() };
    vec![
        step("an endpoint more", three.clone(), &[1, 2, 3], true),
        step("other weights, another algorithm", weighted, &[1, 2, 3], true),
        step("maglev", ServiceText { algorithm: "maglev", ..three.clone() }, &[1, 2, 3], false),
        step("source-hash", ServiceText { algorithm: "source-hash", ..three.clone() }, &[1, 2, 3], false),
        step(
            "least-connections",
            ServiceText { algorithm: "least-connections", ..three.clone() },
            &[1, 2, 3],
            false,
        ),
        step(
            "an endpoint drained",
            ServiceText { states: ["drain", "active", "active"], ..three.clone() },
            &[2, 3],
            true,
        ),
        step(
            "an endpoint with weight 0",
            ServiceText { weights: [Some(0), Some(100), Some(100)], ..three.clone() },
            &[2, 3],
            true,
        ),
        step("an endpoint removed", without.clone(), &[2, 3], true),
        Step { sees: |family, _| family.vip, ..step("mode fullnat", mode("fullnat"), &[2, 3], true) },
        Step { sees: |family, _| family.floating, ..step("mode one-arm", mode("one-arm"), &[2, 3], true) },
        step("as it was", changing(), &[1, 2], true),
    ]
}

pub(super) fn run(cluster: &Cluster, checks: &mut Checks) -> anyhow::Result<()> {
    let families = Family::both();
    let mut flows = Flows::default();
    for family in &families {
        let to = SocketAddr::new(family.vip, CHANGING);
        for i in 0..HELD {
            let from = family.clients[i % family.clients.len()];
            let name = format!("{} flow {i} to the changing service", family.name);
            if let Err(error) = flows.open(&name, &cluster.topology.clients, from, to) {
                return checks.check("flows to change under", Err(error));
            }
        }
    }
    let held = Held::start(flows)?;
    for step in steps() {
        let name = format!("under load: {}", step.name);
        checks.check(&name, change(cluster, &families, &held, &step))?;
    }
    checks.check("under load: no live flow moves", held.stop().map(drop))
}

fn change(cluster: &Cluster, families: &[Family], held: &Held, step: &Step) -> anyhow::Result<()> {
    cluster.apply(Node::A, &step.service.text())?;
    cluster.wait_programmed()?;
    held.rounds(2)?;
    for family in families {
        let to = SocketAddr::new(family.vip, CHANGING);
        let mut servers = BTreeSet::new();
        for i in 0..NEW {
            let from = any_port(family.clients[i % family.clients.len()]);
            let mut talk = Talk::connect(&cluster.topology.clients, from, to)?;
            talk.exchange(100).with_context(|| format!("a new connection to {to}"))?;
            let (seen, expected) = (talk.hello.peer.ip(), (step.sees)(family, talk.local));
            ensure!(seen == expected, "the endpoint sees {seen}, not {expected}");
            servers.insert(talk.hello.server);
        }
        let allowed: BTreeSet<u64> = step.servers.iter().copied().collect();
        ensure!(servers.is_subset(&allowed), "new {} connections reach {servers:?}", family.name);
        ensure!(!step.all || servers == allowed, "new {} connections reach only {servers:?}", family.name);
    }
    Ok(())
}
