//! What each node of a cluster sends, receives and holds of a group's flows: its owner tells its standby, and nobody else.

use std::time::Duration;

use anyhow::Context;
use lockstep_cluster_tests::cluster::Cluster;
use lockstep_cluster_tests::manifest::Profile;
use lockstep_cluster_tests::topology::Node;
use lockstep_cluster_tests::wait;
use lockstep_loader::FlowTable;

use super::bed::{OUTER, SERVICE, WIRE, counts, silence};
use super::cost::wire_bytes;
use super::generator::Generator;
use crate::interface::interface;
use crate::report::{Better, Row};
use crate::statistics::Sample;

/// Balancers.
pub(crate) const NODES: [usize; 3] = [2, 3, 5];
const RATE: u32 = 10_000;
const FLOWS: u32 = 20_000;
/// How long the nodes are watched with nothing to do.
const IDLE: Duration = Duration::from_secs(2);
const LIMIT: Duration = Duration::from_secs(15);

/// What a node had done at one moment.
struct Reading {
    sent: u64,
    received: u64,
    held: u64,
    wire: u64,
}

/// Of a cluster of so many balancers, with a group of one standby.
pub(crate) fn measure(balancers: usize) -> anyhow::Result<Vec<Row>> {
    let mut cluster = Cluster::start_of(balancers, Profile::Lan)?;
    let rows = on(&cluster, balancers);
    rows.map_err(|error| cluster.explain(error))
}

fn on(cluster: &Cluster, balancers: usize) -> anyhow::Result<Vec<Row>> {
    let owner = cluster.wait_ready()?;
    let standby = *cluster.standbys(owner)?.first().context("the group has no standby")?;
    let mut nodes: Vec<Node> = cluster.topology.balancers().collect();
    nodes.sort_by_key(|node| (*node != owner, *node != standby));
    cluster.topology.endpoints.iter().try_for_each(|endpoint| silence(endpoint))?;
    let mac = cluster.topology.node(owner).run(|| Ok(interface(OUTER)?.1))?;
    let mut generator = Generator::open(&cluster.topology.clients, OUTER, mac, SERVICE)?;
    wait::until("the first flows on the standby", LIMIT, || {
        generator.run(Some(100), 10, None)?;
        Ok((read(cluster, standby)?.received > 0).then_some(()))
    })?;

    let idle = all(cluster, &nodes)?;
    wait::pass(IDLE)?;
    let before = all(cluster, &nodes)?;
    let sent = generator.run(Some(RATE), FLOWS, None)?;
    let come = before[1].received + sent.flows;
    wait::until("the standby to be told of every flow", LIMIT, || {
        Ok((read(cluster, standby)?.received >= come).then_some(()))
    })?;
    let after = all(cluster, &nodes)?;

    let mut rows = Vec::new();
    for (at, node) in nodes.iter().enumerate() {
        let role = ["owner".to_owned(), "standby".to_owned()].get(at).cloned();
        let role = role.unwrap_or_else(|| format!("other_{}", node.name()));
        let values = [
            ("records_sent", "records", after[at].sent - before[at].sent),
            ("records_received", "records", after[at].received - before[at].received),
            ("flows_held", "flows", after[at].held),
            ("wire", "B", after[at].wire - before[at].wire),
            ("wire_idle", "B/s", (before[at].wire - idle[at].wire) / IDLE.as_secs()),
        ];
        for (what, unit, value) in values {
            let name = format!("sync/scale/nodes={balancers}/{role}/{what}");
            let row = Row::new(&name, unit, Better::Lower, &Sample::from_iter([value as f64]));
            rows.push(row.note(format!("{} new flows", sent.flows)));
        }
    }
    Ok(rows)
}

fn all(cluster: &Cluster, nodes: &[Node]) -> anyhow::Result<Vec<Reading>> {
    nodes.iter().map(|node| read(cluster, *node)).collect()
}

fn read(cluster: &Cluster, node: Node) -> anyhow::Result<Reading> {
    let counted = counts(cluster, node)?;
    Ok(Reading {
        sent: counted.get("origin_records_sent")?,
        received: counted.get("receiver_records_received")?,
        held: FlowTable::open_pinned(&cluster.pin_dir(node))?.count()?,
        wire: wire_bytes(cluster.topology.node(node).handle(), WIRE)?,
    })
}
