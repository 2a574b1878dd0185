//! The daemon restarts, and is replaced by one whose programs differ, while datagrams of which every one is counted
//! and connections of which every byte is checked pass through it (I12).

use std::time::Duration;

use crate::cluster::Cluster;
use crate::topology::Node;

pub(super) mod alone;
mod kernel;
pub(super) mod layout;
pub(super) mod pair;

const LIMIT: Duration = Duration::from_secs(15);

/// What a daemon is asked to end by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Term,
    Kill,
}

fn end(cluster: &mut Cluster, node: Node, how: End) -> anyhow::Result<()> {
    let process = cluster.process(node)?;
    match how {
        End::Term => {
            let status = process.terminate(LIMIT)?;
            anyhow::ensure!(
                status.success(),
                "after SIGTERM lockstepd of {} ended with {status}",
                node.name()
            );
        }
        End::Kill => process.kill()?,
    }
    Ok(())
}

fn start(cluster: &mut Cluster, node: Node) -> anyhow::Result<()> {
    cluster.start_node(node)?;
    cluster.wait_answering(node)?;
    cluster.wait_ready()?;
    Ok(())
}
