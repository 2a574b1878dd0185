//! Several nodes die, or one dies where it hurts.

use std::time::Duration;

use anyhow::{Context, ensure};

use super::{FLOWS, Tenure, under_traffic};
use crate::api;
use crate::clock::{self, Nanos, nanos};
use crate::cluster::Cluster;
use crate::harm::{Harm, heal};
use crate::manifest::{EXAMPLE, Profile};
use crate::session::Session;
use crate::topology::Node;
use crate::wait;

const LIMIT: Duration = Duration::from_secs(10);
/// `lockstep_model::limits::MAX_LEASE`: a voter promises nothing for so long after its start.
const MAX_LEASE: Duration = Duration::from_secs(1);
/// By how much clocks may differ in rate: the waiting is a little shorter by ours.
const DRIFT_PERCENT: u64 = 1;
/// How long it is watched who serves, and that nobody does.
const WATCHED: Duration = Duration::from_millis(1000);

/// The owner is left alone: it stops serving, and serves again once one of the others is back.
pub(in crate::scenarios) fn two_of_three_down() -> anyhow::Result<()> {
    let mut cluster = Cluster::start(EXAMPLE, Profile::Lan)?;
    let run = |cluster: &mut Cluster| {
        let session = Session::start(cluster, FLOWS)?;
        let tenure = Tenure::now(cluster)?;
        let standby = tenure.owner.other();
        let harms = vec![Harm::cut_power(cluster, standby)?, Harm::cut_power(cluster, Node::W)?];
        wait::until("the owner's lease to end", LIMIT, || {
            Ok((!cluster.group(tenure.owner)?.lease_held).then_some(()))
        })?;
        wait::pass(WATCHED)?;
        heal(cluster, harms)?;
        cluster.wait_ready()?;
        session.wait_awake()?;
        let silence = session.finish_measured()?;
        let watched_ms = WATCHED.as_secs_f64() * 1e3;
        ensure!(silence.p50 >= watched_ms, "without a quorum somebody served: silence {silence:?}");
        Ok(())
    };
    run(&mut cluster).map_err(|error| cluster.explain(error))
}

/// The owner loses power, and its successor's daemon dies as it takes over. Its kernel keeps the flows: it must serve on,
/// whether it returns alone, or together with the former owner, whose kernel is empty.
pub(in crate::scenarios) fn killed_during_failover() -> anyhow::Result<()> {
    under_traffic(|cluster, session, tenure| {
        let next = tenure.owner.other();
        let first = Harm::cut_power(cluster, tenure.owner)?;
        wait::until("its successor to be chosen", LIMIT, || {
            Ok((cluster.group(next)?.epoch > tenure.epoch).then_some(()))
        })?;
        drop(Harm::kill(cluster, next)?);
        // Alone with the witness.
        cluster.start_node(next)?;
        cluster.wait_answering(next)?;
        cluster.wait_takeover(next)?;
        heal(cluster, vec![first])?;
        let tenure = tenure.demand_moved(cluster)?;
        session.wait_awake()?;
        session.next_stretch();

        let next = tenure.owner.other();
        let first = Harm::cut_power(cluster, tenure.owner)?;
        cluster.wait_takeover(next)?;
        let second = Harm::kill(cluster, next)?;
        // The leader is out of patience by then, for lack of anybody to choose.
        wait::pass(WATCHED)?;
        heal(cluster, vec![first, second])?;
        tenure.demand_moved(cluster).map(drop)
    })
}

/// Owner and witness lose power together, so that nobody can take over, and return together. The owner's kernel has no flows
/// any more, the standby's has them all.
pub(in crate::scenarios) fn owner_and_witness() -> anyhow::Result<()> {
    under_traffic(|cluster, _, tenure| {
        let harms = vec![Harm::cut_power(cluster, tenure.owner)?, Harm::cut_power(cluster, Node::W)?];
        wait::pass(WATCHED)?;
        heal(cluster, harms)?;
        tenure.demand_moved(cluster).map(drop)
    })
}

/// The witness forgets what it promised, at the moment when its promise decides: it must not give another until the
/// former has ended, whatever it was.
pub(in crate::scenarios) fn voter_restarts_inside_promise() -> anyhow::Result<()> {
    under_traffic(|cluster, _, tenure| {
        let next = tenure.owner.other();
        drop(Harm::kill(cluster, Node::W)?);
        let started = clock::now();
        cluster.start_node(Node::W)?;
        let harm = Harm::cut_power(cluster, tenure.owner)?;
        cluster.wait_takeover(next)?;
        demand_waited(cluster, next, tenure.epoch, started)?;
        heal(cluster, vec![harm])?;
        tenure.demand_moved(cluster).map(drop)
    })
}

/// Power is lost everywhere, and returns everywhere at once. Flows are gone; nothing that was agreed on is.
pub(in crate::scenarios) fn blackout() -> anyhow::Result<()> {
    let mut cluster = Cluster::start(EXAMPLE, Profile::Lan)?;
    let run = |cluster: &mut Cluster| {
        let before = Tenure::now(cluster)?;
        let intent = |cluster: &Cluster| cluster.lockstep(Node::A, &["get", "services", "-o", "yaml"]);
        let agreed = intent(cluster)?;
        let harms = Node::ALL
            .into_iter()
            .map(|node| Harm::cut_power(cluster, node))
            .collect::<anyhow::Result<Vec<_>>>()?;
        let started = clock::now();
        heal(cluster, harms)?;
        let after = Tenure::now(cluster)?;
        ensure!(after.epoch >= before.epoch, "{after:?} follows {before:?}");
        demand_waited(cluster, after.owner, before.epoch.min(after.epoch - 1), started)?;
        ensure!(intent(cluster)? == agreed, "something else is agreed on");
        // Traffic begins only now: every flow of before is gone.
        let session = Session::start(cluster, FLOWS)?;
        wait::pass(WATCHED)?;
        session.finish()
    };
    run(&mut cluster).map_err(|error| cluster.explain(error))
}

/// The takeover after `epoch` had the promises it needed only `MAX_LEASE` after a voter's start.
fn demand_waited(cluster: &Cluster, owner: Node, epoch: u64, started: Nanos) -> anyhow::Result<()> {
    let records = api::failovers(cluster.topology.node(owner))?;
    let record = records.iter().find(|record| record.epoch_after > epoch);
    let promised = record
        .and_then(|record| record.promised_ns)
        .with_context(|| format!("{} has no record of when it was promised: {records:?}", owner.name()))?;
    let least = started + nanos(MAX_LEASE) * (100 - DRIFT_PERCENT) / 100;
    ensure!(
        promised >= least,
        "promised {:.1} ms after a voter's start",
        clock::between_ms(started, promised)
    );
    Ok(())
}
