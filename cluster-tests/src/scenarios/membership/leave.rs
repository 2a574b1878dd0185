//! The owner leaves under traffic, after it has handed over, and starts over empty; then the witness; the last node is kept,
//! and serves alone.

use std::time::Duration;

use super::{demand_refused, demand_voters};
use crate::api;
use crate::cluster::Cluster;
use crate::manifest::{EXAMPLE, Profile};
use crate::session::Session;
use crate::topology::Node;
use crate::wait;

const LIMIT: Duration = Duration::from_secs(15);

pub(in crate::scenarios) fn run() -> anyhow::Result<()> {
    let mut cluster = Cluster::start(EXAMPLE, Profile::Lan)?;
    let owner = cluster.wait_ready()?;
    let session = Session::start(&cluster, 50)?;
    let result = leave(&cluster, owner).and_then(|()| session.finish());
    result.map_err(|error| cluster.explain(error))
}

fn leave(cluster: &Cluster, owner: Node) -> anyhow::Result<()> {
    let other = owner.other();
    // Not from elsewhere: nobody but the owner itself can hand over in order.
    let output = cluster.try_lockstep(Node::W, &["cluster", "leave", owner.name()], "")?;
    demand_refused(
        "taking an owner out from elsewhere",
        &output,
        &[owner.name(), "edge", "hands over first"],
    )?;

    let said = cluster.lockstep(owner, &["cluster", "leave"])?;
    anyhow::ensure!(
        said.contains("2 voter") && said.contains("neither's death"),
        "two voters are left: {said}"
    );
    cluster.wait_serving(other)?;
    let mut left = [other.name(), "w"];
    left.sort_unstable();
    demand_voters(cluster, other, &left)?;
    wait::until_ok("the former owner to be an empty node", LIMIT, || {
        let status = api::cluster_status(cluster.topology.node(owner))?;
        anyhow::ensure!(status.cluster_id.is_empty(), "it is a member still");
        Ok(())
    })?;

    cluster.lockstep(Node::W, &["cluster", "leave"])?;
    demand_voters(cluster, other, &[other.name()])?;
    wait::until_ok("the last node to need nobody", LIMIT, || {
        anyhow::ensure!(cluster.group(other)?.lease_unbounded, "its lease has an end");
        Ok(())
    })?;
    let output = cluster.try_lockstep(other, &["cluster", "leave"], "")?;
    demand_refused("the last voter leaves", &output, &["last voter"])?;
    wait::pass(Duration::from_secs(1))
}
