//! A full disk under a running cluster. When it is the owner's, that node gives its group away, and the others go on
//! writing; when it is everybody's, writes are refused with the reason, while leases are renewed and every flow goes on.
//! In both cases the daemons go on by themselves once there is space.
//!
//! Each daemon has a small file system in memory under its data directory, in a mount namespace that ends with it.

use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, ensure};

use crate::api;
use crate::cluster::Cluster;
use crate::manifest::{EXAMPLE, Profile};
use crate::programs;
use crate::session::Session;
use crate::topology::Node;
use crate::wait;

/// Above `lockstep_raft_store::config::RESUME_FREE`.
const DISK_MIB: usize = 48;
const LIMIT: Duration = Duration::from_secs(20);
/// Many leases.
const A_WHILE: Duration = Duration::from_secs(3);
const REASON: &str = "the disk is full";

pub(super) fn run() -> anyhow::Result<()> {
    let mut cluster = Cluster::prepare()?;
    let program = wrapper(&cluster)?;
    cluster.use_program(Some(program));
    let started = cluster.bring_up(EXAMPLE, Profile::Lan);
    started.map_err(|error| cluster.explain(error))?;
    let session = Session::start(&cluster, 50)?;
    let result = check(&mut cluster).and_then(|()| session.finish());
    result.map_err(|error| cluster.explain(error))
}

/// A program that puts a small disk under the data directory and becomes the daemon.
fn wrapper(cluster: &Cluster) -> anyhow::Result<PathBuf> {
    let path = cluster.run.folder().join("lockstepd-on-a-small-disk");
    let daemon = programs::lockstepd()?;
    let script = format!(
        "#!/bin/sh\nset -e\nmkdir -p \"$LOCKSTEP_NODE__DATA_DIR\"\n\
         exec unshare --mount sh -ec 'mount -t tmpfs -o size={DISK_MIB}m small \"$LOCKSTEP_NODE__DATA_DIR\"; \
         exec \"$0\" \"$@\"' '{}' \"$@\"\n",
        daemon.display()
    );
    fs::write(&path, script).with_context(|| format!("cannot write {}", path.display()))?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).context("it cannot be made a program")?;
    Ok(path)
}

fn check(cluster: &mut Cluster) -> anyhow::Result<()> {
    let owner = cluster.wait_ready()?;
    the_owners(cluster, owner)?;
    everybodys(cluster)
}

fn the_owners(cluster: &mut Cluster, owner: Node) -> anyhow::Result<()> {
    let pid = cluster.process(owner)?.pid();
    fill(cluster, owner)?;
    // A node notices when the log's last page has no room left for what it has to write.
    let mut limit = 1000;
    wait::until_ok("the owner to say that its disk is full", LIMIT, || {
        limit += 1;
        cluster.apply(Node::W, &with_limit(limit))?;
        let status = api::node_status(cluster.topology.node(owner))?;
        ensure!(status.not_ready.contains(REASON), "it says {:?}", status.not_ready);
        let unfit: Vec<_> = status.groups.iter().map(|g| g.reason.as_str()).collect();
        ensure!(unfit == ["disk_full"], "it is unfit for {unfit:?}");
        Ok(())
    })?;
    println!("{}", cluster.lockstep(owner, &["node", "status"])?);
    cluster.wait_serving(owner.other())?;
    cluster.apply(Node::W, &with_limit(2000))?;
    demand_limit(cluster, owner.other(), 2000)?;

    space(cluster, owner)?;
    wait_resumed(cluster, owner, 1)?;
    wait::until_ok("the former owner to know what it missed", LIMIT, || demand_limit(cluster, owner, 2000))?;
    ensure!(cluster.process(owner)?.pid() == pid, "the daemon was restarted");
    cluster.wait_ready().map(drop)
}

fn everybodys(cluster: &mut Cluster) -> anyhow::Result<()> {
    let owner = cluster.wait_ready()?;
    let before = cluster.group(owner)?;
    for node in Node::ALL {
        fill(cluster, node)?;
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
        for node in Node::ALL {
            if api::node_status(cluster.topology.node(node))?.not_ready.contains(REASON) {
                full.push((node, api::counter(cluster.topology.node(node), "resumed")?));
            }
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
        ensure!(said.contains(REASON), "{} refuses without the reason: {said}", node.name());
        println!("{}: {}", node.name(), said.trim());
    }
    wait::pass(A_WHILE)?;
    let now = cluster.group(owner)?;
    ensure!(now.lease_held && now.epoch == before.epoch, "{before:?} became {now:?}");

    for node in Node::ALL {
        space(cluster, node)?;
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

/// The file that fills a node's disk, as its daemon's mount namespace has it.
fn filler(cluster: &mut Cluster, node: Node) -> anyhow::Result<PathBuf> {
    let folder = cluster.data_dir(node);
    let pid = cluster.process(node)?.pid();
    let inside = folder.strip_prefix("/").context("a path from the root")?.to_owned();
    Ok(PathBuf::from(format!("/proc/{pid}/root")).join(inside).join("filler"))
}

fn fill(cluster: &mut Cluster, node: Node) -> anyhow::Result<()> {
    let path = filler(cluster, node)?;
    let mut file = File::create(&path).with_context(|| format!("cannot make {}", path.display()))?;
    // To the last page.
    for _ in 0..=DISK_MIB << 20 >> 12 {
        match file.write_all(&[0; 4096]) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::StorageFull => return Ok(()),
            Err(error) => return Err(error).context("the disk cannot be filled"),
        }
    }
    anyhow::bail!("{} takes more than {DISK_MIB} MiB", path.display())
}

fn space(cluster: &mut Cluster, node: Node) -> anyhow::Result<()> {
    let path = filler(cluster, node)?;
    fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))
}
