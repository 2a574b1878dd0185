//! Negative control: the same power cut with `sync: none` must lose the round-robin flows. If it does not, the
//! harness cannot tell a replicated flow from a lucky one.

use crate::cluster::Cluster;
use crate::fault::Fault;
use crate::manifest::{self, Profile};
use crate::trial::Trial;

pub(super) fn run() -> anyhow::Result<()> {
    let manifest = manifest::without_sync();
    let mut cluster = Cluster::start(&manifest, Profile::Fast)?;
    let trial = Trial { manifest, ..Trial::new(Fault::Power, Profile::Fast) };
    let report = trial.run(&mut cluster)?;
    print!("{}", report.table());
    anyhow::ensure!(report.owner_after != report.owner_before, "nobody took over: nothing is shown");
    anyhow::ensure!(
        report.tcp_survived == 0,
        "{} of {} flows that nobody copied survived",
        report.tcp_survived,
        report.tcp_flows
    );
    anyhow::ensure!(report.result == "fail", "the report passes a run that lost every flow");
    Ok(())
}
