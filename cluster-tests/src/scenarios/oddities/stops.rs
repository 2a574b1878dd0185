//! Those who do not own stop for longer than a lease (the owner: `pause`), a switch forgets what it learnt, and hosts miss
//! what they were told.

use std::time::Duration;

use anyhow::ensure;

use super::under_traffic;
use crate::api;
use crate::clock::{self, nanos};
use crate::harm::{Harm, heal};
use crate::neighbours;
use crate::topology::Node;
use crate::wait;

/// Ten leases.
const STOPPED: Duration = Duration::from_millis(1500);
const LIMIT: Duration = Duration::from_secs(10);
/// How long an owner announces again and again after it has taken over, and some more.
const TAKEOVER: Duration = Duration::from_millis(1500);
/// An owner says every five seconds where its addresses are. A host that hears nothing asks after 18 seconds at the
/// earliest: 15 in which it knows, and 3 in which it asks the node that it knows.
const TOLD_WITHIN: Duration = Duration::from_secs(8);
/// How often the switch forgets.
const TIMES: usize = 5;

/// The leader, and then the standby.
pub(in crate::scenarios) fn pause_others() -> anyhow::Result<()> {
    under_traffic(|cluster, _, tenure| {
        let leader = cluster.wait_leader(tenure.owner, false)?;
        let harm = Harm::stop(cluster, leader)?;
        wait::until("another leader", LIMIT, || {
            Ok(cluster.leader(&leader.others()).ok().filter(|now| *now != leader).map(drop))
        })?;
        wait::pass(STOPPED)?;
        tenure.demand_unmoved(cluster)?;
        heal(cluster, vec![harm])?;
        wait::until("it to follow", LIMIT, || {
            Ok(cluster.leader(&[leader]).ok().filter(|now| *now != leader).map(drop))
        })?;
        let harm = Harm::stop(cluster, tenure.owner.other())?;
        wait::pass(STOPPED)?;
        tenure.demand_unmoved(cluster)?;
        heal(cluster, vec![harm])?;
        cluster.wait_ready()?;
        tenure.demand_unmoved(cluster)
    })
}

/// It floods until it has learnt again: both balancers get everything, and one answers.
pub(in crate::scenarios) fn switch_forgets() -> anyhow::Result<()> {
    under_traffic(|cluster, session, tenure| {
        for _ in 0..TIMES {
            cluster.topology.forget_addresses()?;
            wait::pass(Duration::from_millis(100))?;
        }
        session.wait_awake()?;
        tenure.demand_unmoved(cluster)?;
        let leader = cluster.leader(&Node::ALL)?;
        ensure!(leader != tenure.owner, "leadership went to the owner");
        Ok(())
    })
}

/// Clients and endpoints send to the standby, as those do that missed all that the owner said when it took over.
pub(in crate::scenarios) fn missed_announcements() -> anyhow::Result<()> {
    under_traffic(|cluster, _, tenure| {
        wait::until("the takeover's announcements to be over", LIMIT, || {
            let records = api::failovers(cluster.topology.node(tenure.owner))?;
            let announced = records.iter().filter_map(|record| record.announced_ns).max();
            Ok(announced.filter(|at| clock::now() > at + nanos(TAKEOVER)).map(drop))
        })?;
        neighbours::mislead(&cluster.topology, tenure.owner.other())?;
        wait::until_ok("hosts to be told again", TOLD_WITHIN, || {
            neighbours::demand_sent_to(&cluster.topology, tenure.owner)
        })?;
        tenure.demand_unmoved(cluster)
    })
}
