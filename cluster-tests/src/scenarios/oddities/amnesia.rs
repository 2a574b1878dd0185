//! A voter's data directory is deleted. It does not know what it promised and voted for, so it is nobody: it counts for
//! nothing until it is let in again, under another number.

use std::time::Duration;

use anyhow::{Context, ensure};

use super::under_traffic;
use crate::api;
use crate::harm::{Harm, heal};
use crate::scenarios::membership::{demand_refused, demand_voters};
use crate::topology::Node;
use crate::wait;

const LIMIT: Duration = Duration::from_secs(10);
/// Longer than a voter waits after its start before it promises anything.
const A_WHILE: Duration = Duration::from_millis(1500);

pub(in crate::scenarios) fn run() -> anyhow::Result<()> {
    under_traffic(|cluster, _, tenure| {
        drop(Harm::kill(cluster, Node::W)?);
        std::fs::remove_dir_all(cluster.data_dir(Node::W)).context("its data cannot be deleted")?;
        cluster.start_node(Node::W)?;
        cluster.wait_answering(Node::W)?;
        wait::pass(A_WHILE)?;
        tenure.demand_unmoved(cluster)?;
        let status = api::cluster_status(cluster.topology.node(Node::W))?;
        ensure!(status.cluster_id.is_empty(), "it says that it is of cluster {:?}", status.cluster_id);

        // The owner and a voter that forgot everything are no majority.
        let harm = Harm::stop(cluster, tenure.owner.other())?;
        wait::until("the owner's lease to end", LIMIT, || {
            Ok((!cluster.group(tenure.owner)?.lease_held).then_some(()))
        })?;
        heal(cluster, vec![harm])?;
        cluster.wait_ready()?;

        let output = cluster.try_lockstep(Node::W, &["cluster", "join"], "")?;
        demand_refused("its own place", &output, &["cluster leave w"])?;
        cluster.lockstep(tenure.owner, &["cluster", "leave", "w"])?;
        let said = cluster.lockstep(Node::W, &["cluster", "join"])?;
        ensure!(said.contains("3 voter"), "it joins, and: {said}");
        demand_voters(cluster, tenure.owner, &["a", "b", "w"])?;
        cluster.wait_ready().map(drop)
    })
}
