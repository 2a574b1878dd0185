//! What must be the same everywhere once everything is healed.

use std::time::Duration;

use anyhow::{Context, ensure};

use crate::cluster::Cluster;
use crate::comparisons::Comparisons;
use crate::dump;
use crate::topology::Node;
use crate::wait;

const LIMIT: Duration = Duration::from_secs(15);
const KINDS: [&str; 4] = ["cluster", "groups", "services", "snatrules"];

/// Waits until all nodes hold the same intent, and owner and standby the same flows. What is equal only because a comparison
/// of digests repaired it was lost before.
pub(super) fn wait(cluster: &Cluster) -> anyhow::Result<()> {
    wait::until_ok("the same intent on all nodes", LIMIT, || same_intent(cluster))?;
    let owner = cluster.wait_ready()?;
    wait::until_ok("the same flows on owner and standby", LIMIT, || {
        dump::demand_same(cluster, owner, owner.other())
    })?;
    for node in [owner, owner.other()] {
        let diverged = Comparisons::of(cluster, node)?.diverged;
        ensure!(
            diverged == 0,
            "{diverged} flows on {} had diverged: see the warnings in its log",
            node.name()
        );
    }
    Ok(())
}

fn same_intent(cluster: &Cluster) -> anyhow::Result<()> {
    let first = intent(cluster, Node::A)?;
    for node in [Node::B, Node::W] {
        let other = intent(cluster, node)?;
        ensure!(first == other, "a and {} differ:\n{first}\n{other}", node.name());
    }
    Ok(())
}

/// What a node itself holds, without asking the leader.
fn intent(cluster: &Cluster, node: Node) -> anyhow::Result<String> {
    let mut text = String::new();
    for kind in KINDS {
        let shown = cluster.lockstep(node, &["--stale", "get", kind, "-o", "json"])?;
        let mut objects: serde_json::Value =
            serde_json::from_str(&shown).with_context(|| format!("`get {kind}` is no JSON"))?;
        // What each node observes may differ.
        for object in objects.as_array_mut().into_iter().flatten() {
            object.as_object_mut().map(|object| object.remove("status"));
        }
        text += &format!("{kind}: {objects}\n");
    }
    Ok(text)
}
