//! Nodes that join, leave, die for good, and come from elsewhere.

pub(super) mod grow;
pub(super) mod learner;
pub(super) mod leave;
pub(super) mod recover;
pub(super) mod replace;

use std::process::Output;

use crate::api;
use crate::cluster::Cluster;
use crate::topology::Node;

/// The names of those who vote, as a node says.
fn voters(cluster: &Cluster, node: Node) -> anyhow::Result<Vec<String>> {
    let status = api::cluster_status(cluster.topology.node(node))?;
    let mut names: Vec<String> = status.members.into_iter().filter(|m| m.voter).map(|m| m.name).collect();
    names.sort();
    Ok(names)
}

pub(super) fn demand_voters(cluster: &Cluster, node: Node, expected: &[&str]) -> anyhow::Result<()> {
    let voters = voters(cluster, node)?;
    anyhow::ensure!(voters == expected, "{} says that {voters:?} vote, not {expected:?}", node.name());
    Ok(())
}

/// A refusal with exit code 1 whose text has all of `named`.
pub(super) fn demand_refused(what: &str, output: &Output, named: &[&str]) -> anyhow::Result<()> {
    let stderr = String::from_utf8_lossy(&output.stderr);
    println!("{what}: {}", stderr.trim());
    anyhow::ensure!(output.status.code() == Some(1), "{what}: {}, not refused: {stderr}", output.status);
    for word in named {
        anyhow::ensure!(stderr.contains(word), "{what}: the refusal does not name {word:?}: {stderr}");
    }
    Ok(())
}
