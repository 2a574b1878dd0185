//! A standby with an empty kernel joins when its peer holds 100,000 flows, and new ones arrive meanwhile. When it
//! says that it has caught up, it has them all.

use std::time::Duration;

use crate::cluster::Cluster;
use crate::cluster::files::with_room;
use crate::dump;
use crate::manifest::{EXAMPLE, Profile};
use crate::session::Session;
use crate::topology::{CLIENTS, Node};
use crate::traffic::flood;
use crate::trial::DNS;
use crate::wait;

const FLOWS: usize = 100_000;
const LIMIT: Duration = Duration::from_secs(30);

pub(super) fn run() -> anyhow::Result<()> {
    let room = |_: Node, file: &str| with_room(file, 2 * FLOWS as u32);
    let mut cluster = Cluster::start_configured(EXAMPLE, Profile::Lan, room)?;
    let owner = cluster.wait_ready()?;
    let session = Session::start(&cluster, 50)?;
    let result = join(&mut cluster, owner).and_then(|()| session.finish());
    result.map_err(|error| cluster.explain(error))
}

fn join(cluster: &mut Cluster, owner: Node) -> anyhow::Result<()> {
    let standby = owner.other();
    cluster.process(standby)?.kill()?;
    cluster.forget_kernel_state(standby)?;
    let half = CLIENTS.len() / 2;
    wait::until("the owner to hold 100,000 flows", LIMIT, || {
        // Datagrams may be lost to a full backlog; a second one for a flow that exists does no harm.
        flood::udp(&cluster.topology.clients, DNS, &CLIENTS[..half], FLOWS)?;
        Ok((dump::table(cluster, owner)?.len() >= FLOWS).then_some(()))
    })?;
    println!("{} holds {FLOWS} flows; {} joins", owner.name(), standby.name());
    cluster.start_node(standby)?;
    cluster.wait_answering(standby)?;
    flood::udp(&cluster.topology.clients, DNS, &CLIENTS[half..CLIENTS.len() - 1], FLOWS / 10)?;
    cluster.wait_ready()?;
    wait::until("the standby to hold every flow of the owner", LIMIT, || {
        let (ours, theirs) = (dump::table(cluster, owner)?, dump::table(cluster, standby)?);
        let missing = dump::missing(&ours, &theirs);
        println!("{} flows at {}, {missing} missing at {}", ours.len(), owner.name(), standby.name());
        Ok((missing == 0 && ours.len() > FLOWS).then_some(()))
    })
}
