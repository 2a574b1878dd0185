//! Five balancers that all vote, each with a group of its own. Two lose power at once, one of them the owner of the group
//! with the services: the other three are a majority, serve every group, and take writes.

use anyhow::ensure;

use crate::cluster::Cluster;
use crate::harm::Harm;
use crate::manifest::{self, Profile};
use crate::topology::Node;

pub(super) fn run() -> anyhow::Result<()> {
    let mut cluster = Cluster::start_of(Node::BALANCERS.len(), Profile::Lan)?;
    lose_two(&mut cluster).map_err(|error| cluster.explain(error))
}

fn lose_two(cluster: &mut Cluster) -> anyhow::Result<()> {
    let owner = cluster.owner()?;
    let others: Vec<Node> = cluster.members().iter().copied().filter(|node| *node != owner).collect();
    let (second, survivors) = others.split_first().expect("five are more than one");
    for node in [owner, *second] {
        // Neither comes back.
        drop(Harm::cut_power(cluster, node)?);
    }
    cluster.wait_all_served(survivors)?;
    cluster.apply(survivors[0], &manifest::cluster(Profile::Fast))?;
    let leader = cluster.leader(survivors)?;
    ensure!(survivors.contains(&leader), "{} is said to lead, and is dead", leader.name());
    Ok(())
}
