//! A rolling upgrade of a pair: the standby first, of which nobody may notice anything; then the owner, which hands
//! over to the new build, so that flows pass from one build's kernel to the other's. And back.

use anyhow::Context;

use super::{End, end, start};
use crate::api;
use crate::clock::between_ms;
use crate::cluster::Cluster;
use crate::manifest::Profile;
use crate::other_build;
use crate::scenarios::modes::{intent, mixed_hooks};
use crate::scenarios::traffic::Traffic;
use crate::topology::Node;

pub(in crate::scenarios) fn run() -> anyhow::Result<()> {
    let mut cluster = Cluster::start_dual(&intent::manifest(), Profile::Lan, mixed_hooks)?;
    check(&mut cluster).map_err(|error| cluster.explain(error))
}

fn check(cluster: &mut Cluster) -> anyhow::Result<()> {
    let other = other_build::lockstepd(&cluster.run.folder())?;
    let mut traffic = Traffic::start(cluster, true)?;
    for program in [Some(other), None] {
        let owner = cluster.wait_ready()?;
        cluster.use_program(program);
        let tally = traffic.count(|_| upgrade(cluster, owner.other()))?;
        println!("the standby is replaced: {} datagrams sent, {} lost", tally.sent, tally.lost);
        tally.demand_all()?;
        let tally = traffic.count(|_| upgrade(cluster, owner))?;
        println!("the owner hands over and is replaced: {} datagrams sent, {} lost", tally.sent, tally.lost);
        println!("{}", phases(cluster, owner.other())?);
        tally.demand_right()?;
        let now = cluster.wait_ready()?;
        anyhow::ensure!(now == owner.other(), "{} serves after it was told to end", now.name());
    }
    traffic.stop()
}

/// How long the next owner's parts of a hand-over took.
fn phases(cluster: &Cluster, next: Node) -> anyhow::Result<String> {
    let failovers = api::failovers(cluster.topology.node(next))?;
    let last = failovers.last().context("the next owner recorded no hand-over")?;
    let parts = [
        ("promised", last.promised_ns),
        ("in the kernel", last.map_written_ns),
        ("announced", last.announced_ns),
    ];
    let begin = last.committed_ns.context("no commit was recorded")?;
    let parts = parts.map(|(name, at)| match at {
        Some(at) => format!("{name} after {:.1} ms", between_ms(begin, at)),
        None => format!("not {name}"),
    });
    Ok(format!("hand-over ({}): from the commit on, {}", last.reason, parts.join(", ")))
}

fn upgrade(cluster: &mut Cluster, node: Node) -> anyhow::Result<()> {
    end(cluster, node, End::Term)?;
    start(cluster, node)
}
