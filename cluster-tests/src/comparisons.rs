//! What a node says of its comparisons with owners of other nodes' flows.

use anyhow::Context;
use serde_json::Value;

use crate::cluster::Cluster;
use crate::topology::Node;

/// Since the daemon's start.
#[derive(Debug, Clone, Copy)]
pub struct Comparisons {
    /// Digests compared.
    pub made: u64,
    /// Flows that had diverged, and were repaired.
    pub diverged: u64,
}

impl Comparisons {
    /// Asks a node.
    pub fn of(cluster: &Cluster, node: Node) -> anyhow::Result<Self> {
        let text = cluster.lockstep(node, &["--stale", "cluster", "status", "-o", "json"])?;
        let status: Value = serde_json::from_str(&text).context("`cluster status -o json` is no JSON")?;
        let count = |name: &str| {
            status["replication"][name].as_u64().with_context(|| format!("no replication.{name} in {status}"))
        };
        Ok(Self { made: count("comparisons")?, diverged: count("diverged_flows")? })
    }
}
