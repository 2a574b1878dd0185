//! A node that serves alone, with a lease that needs nobody, becomes one of three under traffic. Its lease gets an end
//! before anybody else has a vote, and never lapses on the way; and when the first node then loses power, another goes on
//! with its flows.

use std::time::Duration;

use super::demand_voters;
use crate::api;
use crate::cluster::Cluster;
use crate::fault::{Fault, inject};
use crate::manifest::{self, Profile};
use crate::session::Session;
use crate::topology::Node;
use crate::wait;

const TAKEOVER: Duration = Duration::from_secs(10);

pub(in crate::scenarios) fn run() -> anyhow::Result<()> {
    let mut cluster = Cluster::start_first(&manifest::for_any_node(), Profile::Lan)?;
    let session = Session::start(&cluster, 50)?;
    let result = grow(&mut cluster).and_then(|()| session.finish_measured());
    let gaps = result.map_err(|error| cluster.explain(error))?;
    println!("longest silences while one node became three: {gaps:?}");
    let session = Session::start(&cluster, 50)?;
    let result = lose(&mut cluster).and_then(|()| session.finish());
    result.map_err(|error| cluster.explain(error))
}

fn grow(cluster: &mut Cluster) -> anyhow::Result<()> {
    let a = Node::A;
    let before = cluster.group(a)?;
    anyhow::ensure!(before.lease_unbounded, "a sole voter's lease has an end: {before:?}");
    let counted = |cluster: &Cluster, name| api::counter(cluster.topology.node(a), name);
    let (opened, lapsed) = (counted(cluster, "owner_opened")?, counted(cluster, "owner_lapsed")?);

    let said = cluster.join(Node::B, &[])?;
    anyhow::ensure!(said.contains("2 voter") && said.contains("neither's death"), "two voters: {said}");
    let group = cluster.group(a)?;
    anyhow::ensure!(group.lease_held && !group.lease_unbounded, "with another voter: {group:?}");
    demand_voters(cluster, a, &["a", "b"])?;

    let said = cluster.join(Node::W, &[])?;
    anyhow::ensure!(said.contains("3 voter") && !said.contains("death"), "three voters: {said}");
    for node in Node::ALL {
        demand_voters(cluster, node, &["a", "b", "w"])?;
    }
    wait::pass(Duration::from_secs(2))?;

    let after = cluster.group(a)?;
    anyhow::ensure!(after.lease_held && after.epoch == before.epoch, "{before:?} became {after:?}");
    let now = (counted(cluster, "owner_opened")?, counted(cluster, "owner_lapsed")?);
    anyhow::ensure!(
        now == (opened, lapsed),
        "leases opened and lapsed on the way: {now:?}, not {:?}",
        (opened, lapsed)
    );
    Ok(())
}

fn lose(cluster: &mut Cluster) -> anyhow::Result<()> {
    anyhow::ensure!(cluster.wait_ready()? == Node::A, "the first node owns the group still");
    wait::pass(Duration::from_secs(1))?;
    inject(cluster, Node::A, Fault::Power)?;
    cluster.wait_serving_within(Node::B, TAKEOVER)?;
    wait::pass(Duration::from_secs(2))
}
