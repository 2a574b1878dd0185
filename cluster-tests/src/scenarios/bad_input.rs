//! Bad input is refused with an error that names the place and what is allowed, and changes nothing.

use std::process::Output;
use std::time::Duration;

use anyhow::Context;

use crate::api;
use crate::cluster::Cluster;
use crate::manifest::{EXAMPLE, Profile};
use crate::process::Process;
use crate::topology::Node;
use crate::wait;

/// What is done to the example's manifest, and what the refusal must name.
const MANIFESTS: &[(&str, &str, &str, &[&str])] = &[
    ("an unknown field", "algorithm: maglev", "algorithm: maglev\n  colour: red", &["colour"]),
    ("a port of 70000", "port: 443", "port: 70000", &["spec.port", "70000", "65535"]),
    ("a weight of -1", "weight: 100}", "weight: -1}", &["weight", "-1", "1000"]),
    ("a group that does not exist", "group: edge", "group: nowhere", &["nowhere"]),
];

/// How long a daemon may take to refuse.
const LIMIT: Duration = Duration::from_secs(10);

pub(super) fn run() -> anyhow::Result<()> {
    let mut cluster = Cluster::start(EXAMPLE, Profile::Lan)?;
    check(&mut cluster).map_err(|error| cluster.explain(error))
}

fn check(cluster: &mut Cluster) -> anyhow::Result<()> {
    cluster.wait_ready()?;
    let before = intent(cluster)?;
    for (what, from, to, named) in MANIFESTS {
        anyhow::ensure!(EXAMPLE.contains(from), "the example has no {from:?}");
        let manifest = EXAMPLE.replacen(from, to, 1);
        let output = cluster.try_lockstep(Node::A, &["apply", "-f", "-"], &manifest)?;
        refused(what, &output, named)?;
    }
    let output = cluster.try_lockstep(Node::A, &["cluster", "init"], "")?;
    refused("a second cluster init", &output, &["cluster"])?;
    bad_key(cluster)?;
    unreadable_data(cluster)?;
    foreign_node(cluster)?;
    let after = intent(cluster)?;
    anyhow::ensure!(before == after, "the intent changed:\n{before}\n{after}");
    Ok(())
}

/// Everything operators asked for, with its revision.
fn intent(cluster: &Cluster) -> anyhow::Result<String> {
    let mut text = format!("revision {}\n", api::cluster_status(cluster.topology.node(Node::A))?.revision);
    for kind in ["cluster", "groups", "services", "snatrules", "nodes"] {
        text += &cluster.lockstep(Node::A, &["get", kind, "-o", "json"])?;
    }
    Ok(text)
}

fn refused(what: &str, output: &Output, named: &[&str]) -> anyhow::Result<()> {
    let stderr = String::from_utf8_lossy(&output.stderr);
    println!("{what}: {}", stderr.trim());
    anyhow::ensure!(output.status.code() == Some(1), "{what}: {}, not refused: {stderr}", output.status);
    names(what, &stderr, named)
}

fn names(what: &str, text: &str, named: &[&str]) -> anyhow::Result<()> {
    for word in named {
        anyhow::ensure!(text.contains(word), "{what}: the refusal does not name {word:?}: {text}");
    }
    Ok(())
}

fn bad_key(cluster: &Cluster) -> anyhow::Result<()> {
    let mut command = cluster.daemon(Node::A, &["--check"])?;
    command.env("LOCKSTEP_NODE__COLOUR", "red");
    let output = command.output().context("cannot run lockstepd")?;
    let stderr = String::from_utf8_lossy(&output.stderr);
    println!("a bad TOML key: {}", stderr.trim());
    anyhow::ensure!(!output.status.success(), "a bad TOML key is accepted");
    names("a bad TOML key", &stderr, &["colour", "data_dir"])
}

/// The witness is started on a data directory that is none. It must end, and say which one.
fn unreadable_data(cluster: &mut Cluster) -> anyhow::Result<()> {
    cluster.process(Node::W)?.kill()?;
    let file = cluster.run.folder().join("no-directory");
    std::fs::write(&file, "a file").context("cannot write a file")?;
    let mut command = cluster.daemon(Node::W, &[])?;
    command.env("LOCKSTEP_NODE__DATA_DIR", &file);
    let log = cluster.run.folder().join("unreadable-data.log");
    let mut process =
        Process::start("lockstepd on a bad directory", command, Some(cluster.topology.node(Node::W)), &log)?;
    let status = wait::until("lockstepd to refuse its data directory", LIMIT, || process.exit_status())?;
    println!("an unreadable data directory: {}", process.tail(3));
    anyhow::ensure!(!status.success(), "an unreadable data directory is accepted");
    names("an unreadable data directory", &process.tail(20), &[&file.display().to_string()])
}

/// A node of another cluster, with no data, asks to make one of the same peers.
fn foreign_node(cluster: &mut Cluster) -> anyhow::Result<()> {
    let data = cluster.run.folder().join("foreign");
    let mut command = cluster.daemon(Node::W, &[])?;
    command.env("LOCKSTEP_NODE__DATA_DIR", &data).env("LOCKSTEP_CLUSTER__NAME", "foreign");
    let log = cluster.run.folder().join("foreign.log");
    let _foreign =
        Process::start("lockstepd of another cluster", command, Some(cluster.topology.node(Node::W)), &log)?;
    wait::until_ok("the foreign node to answer", LIMIT, || {
        api::cluster_status(cluster.topology.node(Node::W))
    })?;
    let output = cluster.try_lockstep(Node::W, &["cluster", "init"], "")?;
    refused("a foreign cluster's node", &output, &["foreign", "edge"])
}
