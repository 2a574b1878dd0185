//! Two power cuts: the first owner dies, comes back empty, catches up, and takes over again when the second dies.
//! Flows that were opened before the first cut live through both.

use std::time::Duration;

use crate::cluster::Cluster;
use crate::harm::{Harm, heal};
use crate::manifest::{EXAMPLE, Profile};
use crate::session::Session;
use crate::topology::Node;
use crate::wait;

pub(super) fn run() -> anyhow::Result<()> {
    let mut cluster = Cluster::start(EXAMPLE, Profile::Lan)?;
    let first = cluster.wait_ready()?;
    let mut session = Session::start(&cluster, 100)?;
    let result = there_and_back(&mut cluster, &mut session, first).and_then(|()| session.finish());
    result.map_err(|error| cluster.explain(error))
}

fn there_and_back(cluster: &mut Cluster, session: &mut Session, first: Node) -> anyhow::Result<()> {
    wait::pass(Duration::from_secs(1))?;
    let harm = cut(cluster, first)?;
    println!("{} comes back", first.name());
    heal(cluster, vec![harm])?;
    cluster.wait_ready()?;
    session.next_stretch();
    cut(cluster, first.other())?;
    wait::pass(Duration::from_secs(2))
}

fn cut(cluster: &mut Cluster, node: Node) -> anyhow::Result<Harm> {
    println!("power cut of {}", node.name());
    let harm = Harm::cut_power(cluster, node)?;
    cluster.wait_takeover(node.other())?;
    Ok(harm)
}
