//! The flow tables as `lockstepd --dump-flows` reads them from pinned maps, of a node that lives or is dead.

use std::collections::HashMap;
use std::net::SocketAddrV4;
use std::process::Stdio;

use anyhow::{Context, bail, ensure};
use serde::Deserialize;

use crate::cluster::Cluster;
use crate::process;
use crate::topology::Node;

/// One line of the dump; fields that are not judged are left out.
#[derive(Debug, Clone, Deserialize)]
struct Line {
    protocol: String,
    client: String,
    vip: String,
    endpoint: String,
    state: String,
    birth: u64,
}

/// A flow's 5-tuple.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Key {
    protocol: String,
    client: String,
    vip: String,
}

impl Key {
    /// Where a TCP connection comes from; none of another protocol.
    pub fn tcp_client(&self) -> Option<SocketAddrV4> {
        (self.protocol == "tcp").then(|| self.client.parse().ok())?
    }
}

/// What is compared of a flow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The endpoint it goes to.
    pub endpoint: String,
    /// Its state.
    pub state: String,
    /// When its first owner made it.
    pub birth: u64,
}

impl Entry {
    fn alive(&self) -> bool {
        !matches!(self.state.as_str(), "closed" | "reset-pending")
    }
}

/// All flows of a node.
pub type Table = HashMap<Key, Entry>;

/// Reads a node's table.
pub fn table(cluster: &Cluster, node: Node) -> anyhow::Result<Table> {
    let mut command = cluster.daemon(node, &["--dump-flows"])?;
    command.stdin(Stdio::null());
    cluster.topology.node(node).place(&mut command);
    process::die_with_parent(&mut command);
    let output = command.output().context("cannot run `lockstepd --dump-flows`")?;
    if !output.status.success() {
        bail!(
            "`lockstepd --dump-flows` of node {}: {} {}",
            node.name(),
            output.status,
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    parse(&String::from_utf8_lossy(&output.stdout))
}

fn parse(text: &str) -> anyhow::Result<Table> {
    text.lines()
        .filter(|line| line.starts_with('{'))
        .map(|line| {
            let flow: Line = serde_json::from_str(line).with_context(|| format!("not a flow: {line}"))?;
            let key = Key { protocol: flow.protocol, client: flow.client, vip: flow.vip };
            Ok((key, Entry { endpoint: flow.endpoint, state: flow.state, birth: flow.birth }))
        })
        .collect()
}

/// How many flows that live at `origin` the other table does not have: absent, or of another birth, which is
/// a flow that was made anew under the same 5-tuple.
pub fn missing(origin: &Table, other: &Table) -> usize {
    origin
        .iter()
        .filter(|(_, entry)| entry.alive())
        .filter(|(key, entry)| other.get(*key).is_none_or(|found| found.birth != entry.birth))
        .count()
}

/// An error unless owner and standby hold the same flows.
pub fn demand_same(cluster: &Cluster, owner: Node, standby: Node) -> anyhow::Result<()> {
    let (ours, theirs) = (table(cluster, owner)?, table(cluster, standby)?);
    ensure!(!ours.is_empty(), "the owner has no flow");
    let differ = differences(&ours, &theirs);
    ensure!(
        differ.is_empty(),
        "of {} and {} flows {} differ, such as {}",
        ours.len(),
        theirs.len(),
        differ.len(),
        differ[0]
    );
    Ok(())
}

fn differences(ours: &Table, theirs: &Table) -> Vec<String> {
    let here = ours.iter().filter(|(key, entry)| theirs.get(*key) != Some(*entry));
    let there = theirs.iter().filter(|(key, _)| !ours.contains_key(*key));
    let told = here.map(|(key, entry)| format!("{key:?}: {entry:?}, there {:?}", theirs.get(key)));
    told.chain(there.map(|(key, entry)| format!("{key:?}: nothing, there {entry:?}"))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(port: u16, state: &str, birth: u64) -> String {
        format!(
            r#"{{"protocol":"tcp","client":"192.0.2.101:{port}","vip":"192.0.2.10:443","group":1,"service":2,"endpoint":"10.0.0.11:8443","state":"{state}","birth":{birth},"n":3,"epoch":9,"replicated":true,"remaining_ms":5}}"#
        )
    }

    #[test]
    fn only_live_flows_are_missed() {
        let origin = parse(
            &[line(1, "established", 10), line(2, "closed", 11), line(3, "new", 12), line(4, "new", 13)]
                .join("\n"),
        )
        .unwrap();
        let other = parse(&[line(1, "established", 10), line(4, "new", 99)].join("\n")).unwrap();
        assert_eq!(missing(&origin, &other), 2);
        assert_eq!(differences(&origin, &other).len(), 3);
        assert!(differences(&other, &other).is_empty());
        assert_eq!(missing(&other, &other), 0);
    }
}
