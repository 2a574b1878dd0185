//! Nodes that do not hear each other on the management network. Clients and endpoints reach both balancers all the
//! time, and send to both (`traffic/stray.rs`).

use std::time::Duration;

use anyhow::ensure;

use super::under_traffic;
use crate::cluster::Cluster;
use crate::dump;
use crate::manifest::{EXAMPLE, reweighted};
use crate::nft::Loss;
use crate::topology::Node;
use crate::wait;

/// Several leases and elections.
const A_WHILE: Duration = Duration::from_millis(1200);
/// Longer than a leader waits for an owner to say that it holds its lease.
const UNHEARD: Duration = Duration::from_millis(2500);
const LIMIT: Duration = Duration::from_secs(10);

/// The owner hears nobody, and nobody hears it.
pub(in crate::scenarios) fn owner_isolated() -> anyhow::Result<()> {
    under_traffic(|cluster, _, tenure| {
        let loss = Loss::around(&cluster.topology, tenure.owner)?;
        cluster.wait_takeover(tenure.owner.other())?;
        wait::pass(A_WHILE)?;
        loss.end()?;
        tenure.demand_moved(cluster).map(drop)
    })
}

/// One broken link is no reason to move a group, whoever leads. A leader at its other end makes way, since what it
/// agrees on does not reach the owner.
pub(in crate::scenarios) fn owner_isolated_from_witness() -> anyhow::Result<()> {
    under_traffic(|cluster, _, tenure| {
        let standby = tenure.owner.other();
        for leader in [standby, Node::W] {
            cluster.lockstep(Node::W, &["cluster", "transfer-leader", leader.name()])?;
            cluster.wait_leader(leader, true)?;
            let loss = Loss::between(&cluster.topology, tenure.owner, &[Node::W])?;
            wait::pass(UNHEARD)?;
            tenure.demand_unmoved(cluster)?;
            let now = cluster.leader(&[Node::W])?;
            ensure!(now == standby, "{} led, and now {} does", leader.name(), now.name());
            cluster.apply(Node::W, &reweighted(EXAMPLE))?;
            loss.end()?;
            wait::pass(A_WHILE)?;
            tenure.demand_unmoved(cluster)?;
        }
        Ok(())
    })
}

/// An owner that is not heard, and one that does not hear: neither can serve on.
pub(in crate::scenarios) fn one_way_loss() -> anyhow::Result<()> {
    under_traffic(|cluster, session, mut tenure| {
        for hears in [true, false] {
            let (owner, others) = (tenure.owner, tenure.owner.others());
            println!("{} {}", owner.name(), if hears { "is not heard" } else { "hears nothing" });
            let loss = match hears {
                true => Loss::one_way(&cluster.topology, &[owner], &others)?,
                false => Loss::one_way(&cluster.topology, &others, &[owner])?,
            };
            cluster.wait_takeover(owner.other())?;
            wait::pass(A_WHILE)?;
            loss.end()?;
            tenure = tenure.demand_moved(cluster)?;
            session.next_stretch();
        }
        Ok(())
    })
}

/// A standby that is away disturbs nobody, and has everything again once it is back.
pub(in crate::scenarios) fn standby_isolated() -> anyhow::Result<()> {
    under_traffic(|cluster, _, tenure| {
        let loss = Loss::around(&cluster.topology, tenure.owner.other())?;
        wait::pass(A_WHILE)?;
        tenure.demand_unmoved(cluster)?;
        loss.end()?;
        cluster.wait_ready()?;
        tenure.demand_unmoved(cluster)?;
        wait::until_ok("the same flows on both", LIMIT, || {
            dump::demand_same(cluster, tenure.owner, tenure.owner.other())
        })
    })
}

/// Owners need no leader; the others elect one; and the one that was cut off answers no read (I2).
pub(in crate::scenarios) fn leader_isolated() -> anyhow::Result<()> {
    under_traffic(|cluster, _, tenure| {
        let leader = cluster.wait_leader(tenure.owner, false)?;
        let rest = leader.others();
        let loss = Loss::around(&cluster.topology, leader)?;
        wait::until("another leader", LIMIT, || {
            Ok(cluster.leader(&rest).ok().filter(|now| *now != leader).map(drop))
        })?;
        cluster.apply(tenure.owner, &reweighted(EXAMPLE))?;
        let read = cluster.try_lockstep(leader, &["--timeout", "1s", "get", "services"], "")?;
        ensure!(read.status.code() == Some(3), "a leader that is cut off answers a read: {}", read.status);
        tenure.demand_unmoved(cluster)?;
        loss.end()?;
        wait::until("it to follow", LIMIT, || {
            Ok(cluster.leader(&[leader]).ok().filter(|now| *now != leader).map(drop))
        })?;
        cluster.wait_programmed()?;
        cluster.wait_ready()?;
        tenure.demand_unmoved(cluster)?;
        same_intent(cluster, leader)
    })
}

fn same_intent(cluster: &Cluster, late: Node) -> anyhow::Result<()> {
    let services = |node| cluster.lockstep(node, &["--stale", "get", "services", "-o", "json"]);
    wait::until_ok("it to hold what was agreed on meanwhile", LIMIT, || {
        ensure!(services(late)? == services(late.others()[0])?, "{} holds something else", late.name());
        Ok(())
    })
}
