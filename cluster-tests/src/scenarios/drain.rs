//! `lockstep node drain` of the owner under traffic: its flows go on at the standby, and it is given nothing, also after a
//! restart, until it is undrained; and then the group comes back by itself if it is to (`failback`).

use std::time::{Duration, Instant};

use anyhow::ensure;

use super::demand_pass;
use crate::api;
use crate::cluster::{Cluster, GROUP};
use crate::fault::{self, Fault};
use crate::manifest::{EXAMPLE, Profile};
use crate::topology::Node;
use crate::trial::Trial;
use crate::wait;

const LIMIT: Duration = Duration::from_secs(10);
/// For so long a preferred node has to be able to serve.
const FAILBACK_WAIT: Duration = Duration::from_secs(10);
const FAILBACK_LIMIT: Duration = Duration::from_secs(20);

pub(super) fn run() -> anyhow::Result<()> {
    let mut cluster = Cluster::start(EXAMPLE, Profile::Lan)?;
    refused(&cluster).map_err(|error| cluster.explain(error))?;
    let drained = Node::A;
    if cluster.wait_ready()? != drained {
        cluster.lockstep(drained, &["group", "move", GROUP, "--to", drained.name()])?;
        ensure!(cluster.wait_ready()? == drained, "the group was not moved");
    }
    let report = Trial::new(Fault::Drain, Profile::Lan).run(&mut cluster)?;
    demand_pass(&report)
        .and_then(|()| stays_drained(&mut cluster, drained))
        .map_err(|error| cluster.explain(error))
}

fn refused(cluster: &Cluster) -> anyhow::Result<()> {
    for (node, code, named) in [("nobody", 4, "nobody"), ("w", 1, "a witness owns nothing")] {
        let output = cluster.try_lockstep(Node::A, &["node", "drain", node], "")?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(
            output.status.code() == Some(code) && said.contains(named),
            "{node}: {}: {said}",
            output.status
        );
    }
    Ok(())
}

fn stays_drained(cluster: &mut Cluster, node: Node) -> anyhow::Result<()> {
    let owner = node.other();
    ensure!(cluster.group(owner)?.lease_held, "{} does not serve", owner.name());
    not_given(cluster, node)?;
    cluster.process(node)?.terminate(LIMIT)?;
    cluster.start_node(node)?;
    wait::until("the drained node to answer", LIMIT, || {
        Ok(api::node_status(cluster.topology.node(node)).ok().filter(|status| status.draining).map(drop))
    })?;
    not_given(cluster, node)?;
    fault::heal(cluster, node, Fault::Drain)?;
    ensure!(cluster.group(owner)?.lease_held, "the group left {} before it was to go back", owner.name());
    goes_back(cluster)
}

/// The example's group prefers the node that was drained.
fn goes_back(cluster: &Cluster) -> anyhow::Result<()> {
    let manifest = EXAMPLE.replace("nodes: [a, b]\n", "nodes: [a, b]\n  failback: true\n");
    ensure!(manifest != EXAMPLE, "the example names its nodes otherwise");
    let begun = Instant::now();
    cluster.apply(Node::W, &manifest)?;
    cluster.wait_serving_within(Node::A, FAILBACK_LIMIT)?;
    // Not for another reason, such as the change itself.
    ensure!(begun.elapsed() >= FAILBACK_WAIT, "it went back after {:?}", begun.elapsed());
    Ok(())
}

fn not_given(cluster: &Cluster, node: Node) -> anyhow::Result<()> {
    let output = cluster.try_lockstep(node.other(), &["group", "move", GROUP, "--to", node.name()], "")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.code() == Some(1), "a drained node was given the group: {}: {said}", output.status);
    Ok(())
}
