//! SIGTERM of the owner: it flushes, gives the group away and ends; the standby carries on.

use std::time::Duration;

use super::group_move::HANDED_OVER;
use crate::cluster::Cluster;
use crate::manifest::{EXAMPLE, Profile};
use crate::session::Session;
use crate::wait;

const LIMIT: Duration = Duration::from_secs(15);

pub(super) fn run() -> anyhow::Result<()> {
    let mut cluster = Cluster::start(EXAMPLE, Profile::Lan)?;
    let owner = cluster.wait_ready()?;
    let session = Session::start(&cluster, 100)?;
    let result = terminate(&mut cluster, owner).and_then(|()| session.finish());
    result.map_err(|error| cluster.explain(error))
}

fn terminate(cluster: &mut Cluster, owner: crate::topology::Node) -> anyhow::Result<()> {
    wait::pass(Duration::from_secs(1))?;
    let status = cluster.process(owner)?.terminate(LIMIT)?;
    anyhow::ensure!(status.success(), "after SIGTERM lockstepd of {} ended with {status}", owner.name());
    let log = cluster.process(owner)?.tail(usize::MAX);
    anyhow::ensure!(log.contains(HANDED_OVER), "{} stopped without saying {HANDED_OVER:?}", owner.name());
    cluster.wait_takeover(owner.other())?;
    wait::pass(Duration::from_secs(2))
}
