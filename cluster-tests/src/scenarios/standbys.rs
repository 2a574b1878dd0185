//! Three balancers, of which a group wants one as its standby: that one holds all flows and the third none. Given to the third,
//! the group's flows are copied there first. A standby that loses power is replaced, holds nothing when it is back, and its
//! substitute goes on with every flow when the owner loses power.

use std::time::Duration;

use anyhow::{Context, ensure};

use crate::cluster::{Cluster, GROUP};
use crate::dump;
use crate::harm::{Harm, heal};
use crate::manifest::Profile;
use crate::session::Session;
use crate::topology::Node;
use crate::wait;

const BALANCERS: usize = 3;
/// A standby is replaced when it was lost for five seconds, and a surplus goes after two.
const LIMIT: Duration = Duration::from_secs(20);

pub(super) fn run() -> anyhow::Result<()> {
    let mut cluster = Cluster::start_of(BALANCERS, Profile::Lan)?;
    let result = cluster.wait_ready().and_then(|_| Session::start(&cluster, 100));
    let result = result.and_then(|mut session| {
        check(&mut cluster, &mut session)?;
        session.finish()
    });
    result.map_err(|error| cluster.explain(error))
}

fn check(cluster: &mut Cluster, session: &mut Session) -> anyhow::Result<()> {
    let owner = cluster.wait_ready()?;
    let (standby, third) = standby(cluster, owner)?;
    wait_held(cluster, owner, standby, third)?;
    println!("{} serves, {} holds its flows, {} holds none", owner.name(), standby.name(), third.name());

    println!("{}", cluster.lockstep(owner, &["group", "move", GROUP, "--to", third.name()])?.trim());
    cluster.wait_takeover(third)?;
    session.next_stretch();
    let kept = wait::until("one standby to be left", LIMIT, || {
        Ok(standby_of(cluster, third)?.filter(|(kept, _)| *kept == owner || *kept == standby))
    })?;
    wait_held(cluster, third, kept.0, kept.1)?;

    println!("power cut of {}, the standby", kept.0.name());
    let harm = Harm::cut_power(cluster, kept.0)?;
    wait::until("another standby", LIMIT, || {
        Ok(standby_of(cluster, third)?.filter(|(standby, _)| *standby == kept.1))
    })?;
    heal(cluster, vec![harm])?;
    wait_held(cluster, third, kept.1, kept.0)?;
    println!("{} is back, and holds none; power cut of {}", kept.0.name(), third.name());

    Harm::cut_power(cluster, third)?;
    cluster.wait_takeover(kept.1)?;
    session.wait_awake()
}

/// The standby of a group that has one, and the node that is neither.
fn standby(cluster: &Cluster, owner: Node) -> anyhow::Result<(Node, Node)> {
    let found = standby_of(cluster, owner)?;
    found.with_context(|| format!("{} has not one standby: {:?}", owner.name(), cluster.standbys(owner)))
}

fn standby_of(cluster: &Cluster, owner: Node) -> anyhow::Result<Option<(Node, Node)>> {
    let [standby] = cluster.standbys(owner)?[..] else { return Ok(None) };
    let third = cluster.members().iter().copied().find(|node| ![owner, standby].contains(node));
    Ok(Some((standby, third.context("three balancers")?)))
}

fn wait_held(cluster: &Cluster, owner: Node, standby: Node, third: Node) -> anyhow::Result<()> {
    wait::until_ok("one standby with all flows, and nobody else with any", LIMIT, || {
        dump::demand_same(cluster, owner, standby)?;
        let held = dump::table(cluster, third)?.len();
        ensure!(held == 0, "{} holds {held} flows", third.name());
        Ok(())
    })
}
