//! Each node is restarted in turn under traffic: the witness, the standby, the owner. A restarted daemon adopts
//! what is pinned (I12), and no flow is lost.

use std::time::Duration;

use crate::cluster::Cluster;
use crate::manifest::{EXAMPLE, Profile};
use crate::session::Session;
use crate::topology::Node;
use crate::wait;

const LIMIT: Duration = Duration::from_secs(15);

pub(super) fn run() -> anyhow::Result<()> {
    let mut cluster = Cluster::start(EXAMPLE, Profile::Lan)?;
    let owner = cluster.wait_ready()?;
    let mut session = Session::start(&cluster, 100)?;
    let result = [Node::W, owner.other(), owner]
        .into_iter()
        .try_for_each(|node| {
            println!("restarting {}", node.name());
            session.next_stretch();
            restart(&mut cluster, node)
        })
        .and_then(|()| session.finish());
    result.map_err(|error| cluster.explain(error))
}

fn restart(cluster: &mut Cluster, node: Node) -> anyhow::Result<()> {
    cluster.process(node)?.terminate(LIMIT)?;
    cluster.start_node(node)?;
    cluster.wait_answering(node)?;
    cluster.wait_ready()?;
    wait::pass(Duration::from_secs(1))
}
