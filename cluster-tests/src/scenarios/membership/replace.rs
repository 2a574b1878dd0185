//! A standby's disk is lost, and a new node takes its place and name under traffic; who does not belong is kept out.

use std::time::Duration;

use anyhow::Context;

use super::{demand_refused, demand_voters};
use crate::api;
use crate::cluster::Cluster;
use crate::manifest::{EXAMPLE, Profile};
use crate::process::Process;
use crate::session::Session;
use crate::topology::Node;
use crate::wait;

const LIMIT: Duration = Duration::from_secs(15);

pub(in crate::scenarios) fn run() -> anyhow::Result<()> {
    let mut cluster = Cluster::start(EXAMPLE, Profile::Lan)?;
    let owner = cluster.wait_ready()?;
    let session = Session::start(&cluster, 50)?;
    let result = replace(&mut cluster, owner).and_then(|()| session.finish());
    result.map_err(|error| cluster.explain(error))
}

fn replace(cluster: &mut Cluster, owner: Node) -> anyhow::Result<()> {
    foreign(cluster)?;
    let dead = owner.other();
    cluster.process(dead)?.kill()?;
    cluster.forget_kernel_state(dead)?;
    std::fs::remove_dir_all(cluster.data_dir(dead)).context("its disk cannot be taken away")?;

    // The same name, and another installation.
    cluster.start_node(dead)?;
    cluster.wait_answering(dead)?;
    let output = cluster.try_lockstep(dead, &["cluster", "join"], "")?;
    let leave = format!("cluster leave {}", dead.name());
    demand_refused("a name that is taken", &output, &["has this one", &leave])?;

    cluster.lockstep(owner, &["cluster", "leave", dead.name()])?;
    let said = cluster.lockstep(dead, &["cluster", "join"])?;
    anyhow::ensure!(said.contains("node 4 ") && said.contains("3 voter"), "its successor is node 4: {said}");
    demand_voters(cluster, owner, &["a", "b", "w"])?;
    anyhow::ensure!(cluster.wait_ready()? == owner, "the owner has not changed");
    Ok(())
}

/// The witness's place is asked for by a node of another cluster.
fn foreign(cluster: &mut Cluster) -> anyhow::Result<()> {
    cluster.process(Node::W)?.kill()?;
    let mut command = cluster.daemon(Node::W, &[])?;
    command
        .env("LOCKSTEP_NODE__DATA_DIR", cluster.run.folder().join("foreign"))
        .env("LOCKSTEP_CLUSTER__NAME", "foreign");
    let log = cluster.run.folder().join("foreign.log");
    let namespace = cluster.topology.node(Node::W);
    let stranger = Process::start("lockstepd of another cluster", command, Some(namespace), &log)?;
    wait::until_ok("the foreign node to answer", LIMIT, || api::cluster_status(namespace))?;
    let output = cluster.try_lockstep(Node::W, &["cluster", "join"], "")?;
    demand_refused("a foreign cluster's node", &output, &["\"foreign\"", "\"edge\""])?;
    drop(stranger);
    cluster.start_node(Node::W)?;
    cluster.wait_answering(Node::W)
}
