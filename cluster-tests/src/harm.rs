//! What is done to a running cluster, and taken back: nodes die and stop, links are cut, packets are lost.

use nix::sys::signal::Signal;

use crate::cluster::Cluster;
use crate::fault::{self, Fault};
use crate::nft::Loss;
use crate::topology::{Node, Side};

/// Something that is wrong now.
#[derive(Debug)]
pub enum Harm {
    /// Its daemon is dead, and its kernel goes on.
    Killed(Node),
    /// It has no power: nothing in its kernel survives, its disk does.
    PowerLost(Node),
    /// It is stopped (SIGSTOP).
    Stopped(Node),
    /// The cable of one of its sides is cut.
    Cut(Node, Side),
    /// Nodes do not hear each other.
    Lost(Loss),
    /// Not a page is left on its disk.
    DiskFull(Node),
    /// Its daemon is dead, and its data directory empty.
    DataDeleted(Node),
}

impl Harm {
    /// SIGKILL of its daemon.
    pub fn kill(cluster: &mut Cluster, node: Node) -> anyhow::Result<Self> {
        cluster.process(node)?.kill()?;
        Ok(Harm::Killed(node))
    }

    /// As [`Fault::Power`], of any node.
    pub fn cut_power(cluster: &mut Cluster, node: Node) -> anyhow::Result<Self> {
        fault::inject(cluster, node, Fault::Power)?;
        cluster.process(node)?.kill()?;
        Ok(Harm::PowerLost(node))
    }

    /// SIGSTOP of its daemon.
    pub fn stop(cluster: &mut Cluster, node: Node) -> anyhow::Result<Self> {
        cluster.process(node)?.signal(Signal::SIGSTOP)?;
        Ok(Harm::Stopped(node))
    }

    /// The cable between a node and the switch is cut on one side.
    pub fn cut(cluster: &Cluster, node: Node, side: Side) -> anyhow::Result<Self> {
        cluster.topology.set_port(&side.port(node), false)?;
        Ok(Harm::Cut(node, side))
    }

    /// Its disk is filled; of a cluster with small disks.
    pub fn fill_disk(cluster: &Cluster, node: Node) -> anyhow::Result<Self> {
        cluster.disks()?.fill(node)?;
        Ok(Harm::DiskFull(node))
    }

    /// SIGKILL of its daemon, and everything on its disk is deleted; of a cluster with small disks.
    pub fn delete_data(cluster: &mut Cluster, node: Node) -> anyhow::Result<Self> {
        cluster.process(node)?.kill()?;
        cluster.disks()?.empty(node)?;
        Ok(Harm::DataDeleted(node))
    }

    fn undo(self, cluster: &mut Cluster) -> anyhow::Result<()> {
        match self {
            Harm::Killed(node) => cluster.start_node(node),
            Harm::PowerLost(node) => {
                if node.balances() {
                    cluster.forget_kernel_state(node)?;
                }
                for side in Side::of(node) {
                    cluster.topology.set_port(&side.port(node), true)?;
                }
                cluster.start_node(node)
            }
            Harm::Stopped(node) => cluster.process(node)?.signal(Signal::SIGCONT),
            Harm::Cut(node, side) => {
                // What waits for a neighbour passed the check of the lease before the cut (docs/invariants.md, I4).
                cluster.forget_neighbours(node)?;
                cluster.topology.set_port(&side.port(node), true)
            }
            Harm::Lost(loss) => loss.end(),
            Harm::DiskFull(node) => cluster.disks()?.free(node),
            Harm::DataDeleted(node) => cluster.replace(node),
        }
    }
}

/// Takes all of it back at once, and waits until every node answers.
pub fn heal(cluster: &mut Cluster, harms: Vec<Harm>) -> anyhow::Result<()> {
    harms.into_iter().try_for_each(|harm| harm.undo(cluster))?;
    cluster.members().iter().try_for_each(|node| cluster.wait_answering(*node))
}
