//! Two power cuts: the first owner dies, comes back empty, catches up, and takes over again when the second dies.
//! Flows that were opened before the first cut live through both.

use std::time::Duration;

use crate::cluster::Cluster;
use crate::fault::{Fault, heal, inject};
use crate::manifest::{EXAMPLE, Profile};
use crate::session::Session;
use crate::topology::Node;
use crate::wait;

const LIMIT: Duration = Duration::from_secs(10);

pub(super) fn run() -> anyhow::Result<()> {
    let mut cluster = Cluster::start(EXAMPLE, Profile::Lan)?;
    let first = cluster.wait_ready()?;
    let mut session = Session::start(&cluster, 100)?;
    let result = there_and_back(&mut cluster, &mut session, first).and_then(|()| session.finish());
    result.map_err(|error| cluster.explain(error))
}

fn there_and_back(cluster: &mut Cluster, session: &mut Session, first: Node) -> anyhow::Result<()> {
    wait::pass(Duration::from_secs(1))?;
    cut(cluster, first)?;
    bring_back(cluster, first)?;
    session.next_stretch();
    cut(cluster, first.other())?;
    wait::pass(Duration::from_secs(2))
}

fn cut(cluster: &mut Cluster, node: Node) -> anyhow::Result<()> {
    println!("power cut of {}", node.name());
    inject(cluster, node, Fault::Power)?;
    let next = node.other();
    wait::until("the other node to take over", LIMIT, || {
        Ok(cluster.group(next).ok().filter(|g| g.lease_held).map(|_| ()))
    })
}

/// Power returns: links up, an empty kernel, the data on disk.
fn bring_back(cluster: &mut Cluster, node: Node) -> anyhow::Result<()> {
    println!("{} comes back", node.name());
    heal(cluster, node, Fault::Power)
}
