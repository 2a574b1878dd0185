//! Backup endpoints get new flows only while no primary takes any; live flows stay where they are, both times.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use anyhow::{Context, ensure};

use super::intent::{BACKUP, with_backup};
use super::services::connect;
use super::{Checks, Family};
use crate::cluster::Cluster;
use crate::topology::Node;
use crate::traffic::talk::held::{Flows, Held};

/// New connections after each change, of each family.
const NEW: usize = 6;
const ROUNDS: u64 = 2;

pub(super) fn run(cluster: &Cluster, checks: &mut Checks) -> anyhow::Result<()> {
    let families = Family::both();
    let mut flows = Flows::default();
    let opened = open(cluster, &families, &mut flows);
    checks.check("backups: primaries take all", opened.and_then(|()| reach(cluster, &families, &[1, 2])))?;
    let held = Held::start(flows)?;
    let steps: [(&str, [&'static str; 3], &[u64]); 5] = [
        ("one primary disabled", ["disabled", "active", "active"], &[2]),
        ("both disabled", ["disabled", "disabled", "active"], &[3]),
        ("one drained, one disabled", ["drain", "disabled", "active"], &[3]),
        ("one primary back", ["active", "disabled", "active"], &[1]),
        ("both back", ["active"; 3], &[1, 2]),
    ];
    for (name, states, servers) in steps {
        let changed = cluster
            .apply(Node::A, &with_backup(states).text())
            .and_then(|()| cluster.wait_programmed())
            .and_then(|()| held.rounds(ROUNDS))
            .and_then(|()| reach(cluster, &families, servers));
        checks.check(&format!("backups: {name}"), changed)?;
    }
    checks.check("backups: no live flow moves", held.stop().map(drop))
}

fn open(cluster: &Cluster, families: &[Family], flows: &mut Flows) -> anyhow::Result<()> {
    for family in families {
        let to = SocketAddr::new(family.vip, BACKUP);
        for client in family.clients.iter().take(2) {
            flows.open(
                &format!("{} flow to primaries", family.name),
                &cluster.topology.clients,
                *client,
                to,
            )?;
        }
    }
    Ok(())
}

/// New connections reach all of these, and no others.
fn reach(cluster: &Cluster, families: &[Family], servers: &[u64]) -> anyhow::Result<()> {
    let expected: BTreeSet<u64> = servers.iter().copied().collect();
    for family in families {
        let to = SocketAddr::new(family.vip, BACKUP);
        let reached = (0..NEW)
            .map(|i| {
                let mut talk = connect(cluster, family.clients[i % family.clients.len()], to)?;
                talk.exchange(100).with_context(|| format!("a new connection to {to}"))?;
                Ok(talk.hello.server)
            })
            .collect::<anyhow::Result<BTreeSet<u64>>>()?;
        ensure!(reached == expected, "new {} connections reach {reached:?}, not {expected:?}", family.name);
    }
    Ok(())
}
