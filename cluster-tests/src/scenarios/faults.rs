//! The demo's faults, as tests.

use super::demand_pass;
use crate::cluster::Cluster;
use crate::fault::Fault;
use crate::manifest::{EXAMPLE, Profile};
use crate::trial::{Leader, Trial};

pub(super) fn power_owner_not_leader() -> anyhow::Result<()> {
    run(&Trial::new(Fault::Power, Profile::Fast))
}

pub(super) fn power_owner_leads() -> anyhow::Result<()> {
    run(&Trial { leader: Leader::OnOwner, ..Trial::new(Fault::Power, Profile::Fast) })
}

pub(super) fn kill() -> anyhow::Result<()> {
    run(&Trial::new(Fault::Kill, Profile::Lan))
}

pub(super) fn pause() -> anyhow::Result<()> {
    run(&Trial::new(Fault::Pause, Profile::Lan))
}

pub(super) fn link() -> anyhow::Result<()> {
    run(&Trial::new(Fault::Link, Profile::Lan))
}

pub(super) fn none() -> anyhow::Result<()> {
    run(&Trial::new(Fault::None, Profile::Lan))
}

fn run(trial: &Trial) -> anyhow::Result<()> {
    let mut cluster = Cluster::start(EXAMPLE, trial.profile)?;
    let report = trial.run(&mut cluster)?;
    demand_pass(&report)
        .and_then(|()| new_connections_were_tried(&report))
        .map_err(|error| cluster.explain(error))
}

/// Clients that connect during the fault are part of every trial.
fn new_connections_were_tried(report: &crate::report::Report) -> anyhow::Result<()> {
    anyhow::ensure!(report.new_connections.attempted > 0, "no connection was tried during the fault");
    Ok(())
}
