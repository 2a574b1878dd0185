//! A data-plane node without a vote: it is given a group with all flows, serves it under promises of the voters alone, and
//! when it loses power a voter goes on with them.

use std::time::Duration;

use anyhow::{Context, ensure};

use super::demand_voters;
use crate::cluster::{Cluster, GROUP};
use crate::fault::{Fault, inject};
use crate::manifest::{self, Profile};
use crate::session::Session;
use crate::topology::Node;
use crate::wait;

const LIMIT: Duration = Duration::from_secs(10);

pub(in crate::scenarios) fn run() -> anyhow::Result<()> {
    let mut cluster = Cluster::start_first(&manifest::for_any_node(), Profile::Lan)?;
    let mut session = Session::start(&cluster, 50)?;
    let result = serve(&mut cluster, &mut session).and_then(|()| session.finish());
    result.map_err(|error| cluster.explain(error))
}

fn serve(cluster: &mut Cluster, session: &mut Session) -> anyhow::Result<()> {
    cluster.join(Node::W, &[])?;
    let said = cluster.join(Node::B, &["--learner"])?;
    ensure!(said.contains("without a vote") && said.contains("2 voter"), "a learner: {said}");
    for node in Node::ALL {
        demand_voters(cluster, node, &["a", "w"])?;
    }
    let owner = cluster.wait_ready()?;
    ensure!(owner == Node::A, "{} serves, not a", owner.name());

    wait::until_ok("the learner to be given the group", LIMIT, || {
        cluster.lockstep(Node::A, &["group", "move", GROUP, "--to", Node::B.name()])
    })?;
    cluster.wait_serving_within(Node::B, LIMIT)?;
    session.next_stretch();
    // The learner itself is not told how others stand.
    wait::until("the former owner to hold all flows", LIMIT, || {
        let standbys = cluster.group(Node::W)?.standbys;
        Ok(standbys.iter().any(|s| s.node_name == Node::A.name() && s.caught_up).then_some(()))
    })?;
    let reason = cluster.group(Node::B)?.standbys.pop().context("no standby")?.reason;
    ensure!(reason.contains("ask one that votes"), "the learner says of the standby: {reason}");

    inject(cluster, Node::B, Fault::Power)?;
    cluster.wait_serving_within(Node::A, LIMIT)
}
