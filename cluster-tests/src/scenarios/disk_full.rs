//! A full disk under a running cluster. When it is the owner's, that node gives its group away, and the others go on
//! writing; when it is everybody's, writes are refused with the reason, while leases are renewed and every flow goes on.
//! In both cases the daemons go on by themselves once there is space.

use std::time::Duration;

use anyhow::{Context, ensure};

use crate::api;
use crate::cluster::Cluster;
use crate::disk::FULL;
use crate::manifest::{EXAMPLE, Profile};
use crate::session::Session;
use crate::topology::Node;
use crate::wait;

const LIMIT: Duration = Duration::from_secs(20);
/// Many leases.
const A_WHILE: Duration = Duration::from_secs(3);

pub(super) fn run() -> anyhow::Result<()> {
    let mut cluster = Cluster::start_on_small_disks(EXAMPLE, Profile::Lan)?;
    let session = Session::start(&cluster, 50)?;
    let result = check(&mut cluster).and_then(|()| session.finish());
    result.map_err(|error| cluster.explain(error))
}

fn check(cluster: &mut Cluster) -> anyhow::Result<()> {
    let owner = cluster.wait_ready()?;
    the_owners(cluster, owner)?;
    everybodys(cluster)
}

fn the_owners(cluster: &mut Cluster, owner: Node) -> anyhow::Result<()> {
    let pid = cluster.process(owner)?.pid();
    cluster.disks()?.fill(owner)?;
    // A node notices when the log's last page has no room left for what it has to write.
    let mut limit = 1000;
    wait::until_ok("the owner to say that its disk is full", LIMIT, || {
        limit += 1;
        cluster.apply(Node::W, &with_limit(limit))?;
        let status = api::node_status(cluster.topology.node(owner))?;
        ensure!(status.not_ready.contains(FULL), "it says {:?}", status.not_ready);
        let unfit: Vec<_> = status.groups.iter().map(|g| g.reason.as_str()).collect();
        ensure!(unfit == ["disk_full"], "it is unfit for {unfit:?}");
        Ok(())
    })?;
    println!("{}", cluster.lockstep(owner, &["node", "status"])?);
    cluster.wait_serving(owner.other())?;
    cluster.apply(Node::W, &with_limit(2000))?;
    demand_limit(cluster, owner.other(), 2000)?;

    cluster.disks()?.free(owner)?;
    wait_resumed(cluster, owner, 1)?;
    wait::until_ok("the former owner to know what it missed", LIMIT, || demand_limit(cluster, owner, 2000))?;
    ensure!(cluster.process(owner)?.pid() == pid, "the daemon was restarted");
    cluster.wait_ready().map(drop)
}

fn everybodys(cluster: &mut Cluster) -> anyhow::Result<()> {
    let owner = cluster.wait_ready()?;
    let before = cluster.group(owner)?;
    for node in Node::ALL {
        cluster.disks()?.fill(node)?;
    }
    // Two are no majority without the third, which then has nothing to write.
    let mut limit = 3000;
    let full = wait::until("two disks to be full", LIMIT, || {
        limit += 1;
        // A node whose disk is full refuses; the first of them that still takes a write fills the others'.
        for node in Node::ALL {
            if cluster.try_lockstep(node, &["apply", "-f", "-"], &with_limit(limit))?.status.success() {
                break;
            }
        }
        let mut full = Vec::new();
        for node in cluster.with_full_disks()? {
            full.push((node, api::counter(cluster.topology.node(node), "resumed")?));
        }
        Ok((full.len() >= 2).then_some(full))
    })?;
    for node in Node::ALL {
        let output = cluster.try_lockstep(node, &["apply", "-f", "-"], &with_limit(4000))?;
        ensure!(!output.status.success(), "{} takes a write without a majority", node.name());
    }
    for (node, _) in &full {
        let output = cluster.try_lockstep(*node, &["apply", "-f", "-"], &with_limit(4000))?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(said.contains(FULL), "{} refuses without the reason: {said}", node.name());
        println!("{}: {}", node.name(), said.trim());
    }
    wait::pass(A_WHILE)?;
    let now = cluster.group(owner)?;
    ensure!(now.lease_held && now.epoch == before.epoch, "{before:?} became {now:?}");

    for node in Node::ALL {
        cluster.disks()?.free(node)?;
    }
    for (node, before) in full {
        wait_resumed(cluster, node, before + 1)?;
    }
    wait::until_ok("writes to be taken again", LIMIT, || cluster.apply(Node::W, &with_limit(5000)))?;
    for node in Node::ALL {
        wait::until_ok("all to know the same", LIMIT, || demand_limit(cluster, node, 5000))?;
    }
    Ok(())
}

/// The example, in which the service allows this many connections.
fn with_limit(connections: u32) -> String {
    EXAMPLE.replacen("  endpoints:", &format!("  limits: {{connections: {connections}}}\n  endpoints:"), 1)
}

fn demand_limit(cluster: &Cluster, node: Node, wanted: u32) -> anyhow::Result<()> {
    let text = cluster.lockstep(node, &["--stale", "get", "services", "-o", "json"])?;
    let services: serde_json::Value = serde_json::from_str(&text).context("no JSON")?;
    let limits: Vec<_> = services
        .as_array()
        .context("no list")?
        .iter()
        .filter_map(|s| s["spec"]["limits"]["connections"].as_u64())
        .collect();
    ensure!(limits.contains(&u64::from(wanted)), "{} knows limits {limits:?}, not {wanted}", node.name());
    Ok(())
}

fn wait_resumed(cluster: &Cluster, node: Node, times: u64) -> anyhow::Result<()> {
    wait::until_ok(&format!("{} to go on", node.name()), LIMIT, || {
        let resumed = api::counter(cluster.topology.node(node), "resumed")?;
        ensure!(resumed == times, "it has gone on {resumed} times, not {times}");
        Ok(())
    })
}
