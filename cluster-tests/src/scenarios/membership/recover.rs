//! Two of three are gone for good: the third begins a new cluster with all that was agreed on, in epochs beyond the old
//! ones, and nodes of the old cluster stay out until they are empty. And a backup brings a lost cluster back.

use std::time::Duration;

use anyhow::Context;

use super::{demand_refused, demand_voters};
use crate::api;
use crate::cluster::Cluster;
use crate::manifest::{EXAMPLE, Profile};
use crate::topology::Node;
use crate::wait;

const LIMIT: Duration = Duration::from_secs(20);
/// `lockstep_raft_store::config::EPOCH_JUMP`.
const EPOCH_JUMP: u64 = 1 << 32;

pub(in crate::scenarios) fn run() -> anyhow::Result<()> {
    let mut cluster = Cluster::start(EXAMPLE, Profile::Lan)?;
    recover(&mut cluster).map_err(|error| cluster.explain(error))
}

fn recover(cluster: &mut Cluster) -> anyhow::Result<()> {
    let owner = cluster.wait_ready()?;
    let survivor = owner.other();
    let before = cluster.group(owner)?;
    let (id, intent) = (cluster_id(cluster, survivor)?, intent(cluster, survivor)?);
    let backup = cluster.run.folder().join("cluster.backup");
    let backup = backup.to_str().context("a path of plain characters")?.to_owned();
    cluster.lockstep(survivor, &["cluster", "backup", &backup])?;

    let forced = ["cluster", "recover", "--force-new-cluster"];
    let output = cluster.try_lockstep(survivor, &forced, "")?;
    demand_refused("recovery of a cluster that works", &output, &["nothing to recover"])?;
    for dead in [owner, Node::W] {
        cluster.process(dead)?.kill()?;
    }
    cluster.forget_kernel_state(owner)?;
    let output = cluster.try_lockstep(survivor, &["cluster", "recover"], "")?;
    demand_refused("recovery by mistake", &output, &["--force-new-cluster"])?;
    println!("{}", cluster.lockstep(survivor, &forced)?.trim());
    serving_anew(cluster, survivor, &id)?;
    let after = cluster.group(survivor)?;
    anyhow::ensure!(
        after.epoch > before.epoch + EPOCH_JUMP,
        "epoch {} follows {}",
        after.epoch,
        before.epoch
    );
    anyhow::ensure!(self::intent(cluster, survivor)? == intent, "the intent is another");

    // One of the dead comes back with the old cluster's data.
    cluster.start_node(owner)?;
    cluster.wait_answering(owner)?;
    wait::until_ok("the survivor to refuse the old cluster's node", LIMIT, || {
        let refused = api::counter(cluster.topology.node(survivor), "foreign_cluster")?;
        anyhow::ensure!(refused > 0, "nothing is refused");
        Ok(())
    })?;
    let output = cluster.try_lockstep(owner, &["cluster", "join"], "")?;
    demand_refused("joining with the old cluster's data", &output, &["already"])?;
    demand_voters(cluster, survivor, &[survivor.name()])?;
    empty(cluster, owner)?;
    cluster.join(owner, &[])?;
    demand_voters(cluster, survivor, &["a", "b"])?;

    for node in Node::DATAPLANE {
        cluster.process(node)?.kill()?;
        cluster.forget_kernel_state(node)?;
    }
    empty(cluster, survivor)?;
    cluster.start_node(survivor)?;
    cluster.wait_answering(survivor)?;
    println!("{}", cluster.lockstep(survivor, &["cluster", "restore", &backup])?.trim());
    serving_anew(cluster, survivor, &id)?;
    anyhow::ensure!(self::intent(cluster, survivor)? == intent, "the restored intent is another");
    Ok(())
}

fn serving_anew(cluster: &Cluster, node: Node, old: &[u8]) -> anyhow::Result<()> {
    wait::until_ok("the new cluster to serve", LIMIT, || {
        let id = cluster_id(cluster, node)?;
        anyhow::ensure!(!id.is_empty() && id != old, "it is not the new cluster");
        anyhow::ensure!(cluster.group(node)?.lease_held, "the lease is not held");
        Ok(())
    })
}

fn cluster_id(cluster: &Cluster, node: Node) -> anyhow::Result<Vec<u8>> {
    Ok(api::cluster_status(cluster.topology.node(node))?.cluster_id)
}

/// What operators asked for, without what the cluster observes.
fn intent(cluster: &Cluster, node: Node) -> anyhow::Result<Vec<serde_json::Value>> {
    let mut all = Vec::new();
    for kind in ["groups", "services", "snatrules"] {
        let text = cluster.lockstep(node, &["get", kind, "-o", "json"])?;
        let mut objects: Vec<serde_json::Value> = serde_json::from_str(&text).context("no JSON")?;
        objects
            .iter_mut()
            .filter_map(|object| object.as_object_mut())
            .for_each(|object| drop(object.remove("status")));
        all.append(&mut objects);
    }
    anyhow::ensure!(!all.is_empty(), "there is no intent");
    Ok(all)
}

fn empty(cluster: &mut Cluster, node: Node) -> anyhow::Result<()> {
    cluster.process(node)?.kill()?;
    std::fs::remove_dir_all(cluster.data_dir(node)).context("a data directory cannot be removed")
}
