//! `lockstep flows` on the standby shows what the owner shows.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Context;
use serde_json::Value;

use crate::cluster::Cluster;
use crate::manifest::{EXAMPLE, Profile};
use crate::session::Session;
use crate::topology::Node;
use crate::wait;

pub(super) fn run() -> anyhow::Result<()> {
    let mut cluster = Cluster::start(EXAMPLE, Profile::Lan)?;
    let owner = cluster.wait_ready()?;
    let session = Session::start(&cluster, 100)?;
    let result = compare(&cluster, owner).and_then(|()| session.finish());
    result.map_err(|error| cluster.explain(error))
}

fn compare(cluster: &Cluster, owner: Node) -> anyhow::Result<()> {
    wait::until("both nodes to show the same flows", Duration::from_secs(5), || {
        let (ours, theirs) = (shown(cluster, owner)?, shown(cluster, owner.other())?);
        anyhow::ensure!(ours.len() > 100, "the owner shows {} flows", ours.len());
        Ok((ours == theirs).then_some(()))
    })
}

/// Flow to endpoint and state.
fn shown(cluster: &Cluster, node: Node) -> anyhow::Result<BTreeMap<String, String>> {
    let text = cluster.lockstep(node, &["flows", "-o", "json"])?;
    let parsed: Value = serde_json::from_str(&text).context("`lockstep flows -o json` is no JSON")?;
    let list = parsed.as_array().or_else(|| parsed["items"].as_array()).context("not a list of flows")?;
    Ok(list
        .iter()
        .map(|flow| {
            let field = |name: &str| flow[name].as_str().unwrap_or_default().to_owned();
            (
                format!("{} {} {}", field("protocol"), field("client"), field("vip")),
                format!("{} {}", field("endpoint"), field("state")),
            )
        })
        .collect())
}
