//! What goes wrong in networks and machines, one thing at a time, under traffic: who may serve, who may not, and that
//! all is well again afterwards.

pub(super) mod amnesia;
pub(super) mod deaths;
pub(super) mod partitions;
pub(super) mod stops;

use anyhow::ensure;

use crate::cluster::Cluster;
use crate::manifest::{EXAMPLE, Profile};
use crate::session::Session;
use crate::topology::Node;

/// Held TCP flows: enough to see one lost.
const FLOWS: usize = 50;

/// Runs `disturb` on a cluster that is ready and carries traffic, and demands that nothing of it was harmed.
fn under_traffic(
    disturb: impl FnOnce(&mut Cluster, &mut Session, Tenure) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let mut cluster = Cluster::start(EXAMPLE, Profile::Lan)?;
    let run = |cluster: &mut Cluster| {
        let mut session = Session::start(cluster, FLOWS)?;
        let tenure = Tenure::now(cluster)?;
        disturb(cluster, &mut session, tenure)?;
        session.wait_awake()?;
        session.finish()
    };
    run(&mut cluster).map_err(|error| cluster.explain(error))
}

/// Who serves, since when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Tenure {
    owner: Node,
    epoch: u64,
}

impl Tenure {
    fn now(cluster: &Cluster) -> anyhow::Result<Self> {
        let owner = cluster.wait_ready()?;
        Ok(Tenure { owner, epoch: cluster.group(owner)?.epoch })
    }

    /// Nothing has moved, not even there and back, and the lease is held.
    fn demand_unmoved(self, cluster: &Cluster) -> anyhow::Result<()> {
        let group = cluster.group(self.owner)?;
        ensure!(
            group.lease_held && group.epoch == self.epoch,
            "{} served in epoch {}; now {} in {}, lease held: {}",
            self.owner.name(),
            self.epoch,
            group.owner_name,
            group.epoch,
            group.lease_held
        );
        Ok(())
    }

    /// Once all is well again, the other node serves, in a later epoch: the former owner does not take it back.
    fn demand_moved(self, cluster: &Cluster) -> anyhow::Result<Tenure> {
        let next = Tenure::now(cluster)?;
        ensure!(next.owner == self.owner.other() && next.epoch > self.epoch, "after {self:?} comes {next:?}");
        Ok(next)
    }
}
