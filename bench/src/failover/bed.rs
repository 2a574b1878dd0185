//! A cluster under traffic that takes one fault after the other.

use std::time::Duration;

use anyhow::{Context, ensure};
use lockstep_cluster_tests::clock::{self, Nanos, between_ms, nanos};
use lockstep_cluster_tests::cluster::{Cluster, GROUP};
use lockstep_cluster_tests::fault::{self, inject};
use lockstep_cluster_tests::manifest::{EXAMPLE, Profile};
use lockstep_cluster_tests::topology::{CLIENTS, Node};
use lockstep_cluster_tests::traffic::load::Endpoints;
use lockstep_cluster_tests::traffic::probe::Probe;
use lockstep_cluster_tests::traffic::tcp_client::{FAST_FLOWS, Pace, SLOW_INTERVAL, TcpClients};
use lockstep_cluster_tests::trial::{DNS, WEB};
use lockstep_cluster_tests::{api, wait};

use super::kind::Kind;
use super::tally::{Measured, Phases};
use crate::report::{Better, Report, Row};

/// How long the standby may take to serve, an election and the longest lease included.
const TAKEOVER_LIMIT: Duration = Duration::from_secs(10);
/// How long a flow may take to retransmit what was lost.
const RESUME_LIMIT: Duration = Duration::from_secs(15);
/// The probe is answered so often before a fault, which is the silence without one, …
const ANSWERS_BEFORE: u64 = 200;
/// … and after it, before it counts as over.
const ANSWERS_AFTER: u64 = 100;

/// The cluster, its traffic, and what it counted.
pub(crate) struct Bed {
    probe: Probe,
    tcp: TcpClients,
    endpoints: Endpoints,
    cluster: Cluster,
    lease: Duration,
    runs: usize,
}

impl Bed {
    /// A cluster that is ready, and flows that all talk.
    pub(crate) fn start(profile: Profile) -> anyhow::Result<Self> {
        let cluster = Cluster::start(EXAMPLE, profile)?;
        let endpoints = Endpoints::start(&cluster.topology)?;
        endpoints.hurry()?;
        let clients = &cluster.topology.clients;
        let tcp = TcpClients::start(clients, WEB, &CLIENTS)?;
        // As many as write at 100 Hz.
        tcp.hold(FAST_FLOWS, Pace { fast: FAST_FLOWS, slow: SLOW_INTERVAL })?;
        let probe = Probe::start(clients, CLIENTS[0], DNS)?;
        let lease = Duration::from_millis(profile.lease_ms());
        let bed = Bed { probe, tcp, endpoints, cluster, lease, runs: 0 };
        bed.all_talk(clock::now())?;
        Ok(bed)
    }

    /// Waits until every flow was answered after `since`; one that ended never will be.
    fn all_talk(&self, since: Nanos) -> anyhow::Result<()> {
        wait::until("every TCP flow to be answered", RESUME_LIMIT, || {
            let talking = self.tcp.talking_since(since)?;
            ensure!(talking.ended == 0, "{} of {} TCP flows ended", talking.ended, talking.held);
            Ok((talking.held == FAST_FLOWS && talking.heard == talking.held).then_some(()))
        })
    }

    /// One fault, from a cluster at rest to a cluster that was brought back.
    pub(crate) fn fail_over(&mut self, kind: Kind) -> anyhow::Result<Measured> {
        let mut laps = Laps::start();
        let (owner, leader) = self.rest(kind)?;
        laps.end("rest");
        let next = owner.other();
        let epoch = self.cluster.group(next)?.epoch;
        let quiet_from = clock::now();
        self.probe.answered(ANSWERS_BEFORE, RESUME_LIMIT)?;
        let at = self.hit(kind, owner)?;
        let quiet_ms = self.probe.silence_ms(quiet_from, at);
        // Nobody is asked anything while the silence is measured: the machine has two processors for all.
        self.probe.answered(ANSWERS_AFTER, RESUME_LIMIT)?;
        wait::until_ok("the standby to take over", TAKEOVER_LIMIT, || {
            let group = self.cluster.group(next)?;
            ensure!(group.epoch > epoch && group.lease_held, "it is at epoch {}", group.epoch);
            Ok(())
        })?;
        let over = self.probe.answered(ANSWERS_AFTER, RESUME_LIMIT)?;
        let mut measured = Measured {
            gap_ms: self.probe.silence_ms(at, over),
            quiet_ms,
            lost: self.probe.lost(at, over)?,
            phases: self.phases(next, epoch, at)?,
            leader,
            laps: Vec::new(),
        };
        laps.end("fault");
        // Flows that wait for their retransmission do so while the node comes back; they are the next owner's already.
        fault::heal(&mut self.cluster, owner, kind.fault())?;
        laps.end("heal");
        self.all_talk(over)?;
        laps.end("flows");
        self.probe.forget_before(over);
        self.runs += 1;
        measured.laps = laps.0;
        Ok(measured)
    }

    /// Waits until nothing is left of the fault before, and leadership is where it shall be: who owns, and who leads.
    fn rest(&mut self, kind: Kind) -> anyhow::Result<(Node, Node)> {
        let owner = self.cluster.wait_ready()?;
        if kind.on_leader() {
            self.cluster.lockstep(owner, &["cluster", "transfer-leader", owner.name()])?;
        }
        let leader = self.cluster.wait_agreed_leader(owner, kind.on_leader())?;
        // On a machine that stands still for longer than a lease, the group has moved meanwhile.
        let still = self.cluster.wait_ready()?;
        ensure!(still == owner, "the group moved from {} to {} by itself", owner.name(), still.name());
        Ok((owner, leader))
    }

    /// The moment before the fault.
    fn hit(&mut self, kind: Kind, owner: Node) -> anyhow::Result<Nanos> {
        // At any point between two renewals: runs are not to keep step with them.
        wait::pass(Duration::from_nanos(clock::now() % nanos(self.lease)))?;
        if kind == Kind::Handover {
            let at = clock::now();
            let next = owner.other();
            api::move_group(self.cluster.topology.node(next), GROUP, next.name())?;
            return Ok(at);
        }
        Ok(inject(&mut self.cluster, owner, kind.fault())?.at)
    }

    fn phases(&self, next: Node, epoch: u64, at: Nanos) -> anyhow::Result<Phases> {
        let records = api::failovers(self.cluster.topology.node(next))?;
        let record = records.into_iter().rfind(|record| record.epoch_after > epoch);
        let record = record.with_context(|| format!("{} recorded no takeover", next.name()))?;
        let ms = |phase: Option<Nanos>| phase.map(|phase| between_ms(at, phase));
        Ok([
            ("last_renewal", ms(record.last_renewal_ns)),
            ("suspected", ms(record.suspected_ns)),
            ("committed", ms(record.committed_ns)),
            ("promised", ms(record.promised_ns)),
            ("map_written", ms(record.map_written_ns)),
            ("announced", ms(record.announced_ns)),
        ])
    }

    /// Adds the nodes' logs to an error.
    pub(crate) fn explain(&mut self, error: anyhow::Error) -> anyhow::Error {
        self.cluster.explain(error)
    }

    /// Ends the traffic, and reports how many flows lived through every run. The result is how many did not.
    pub(crate) fn finish(self, profile: Profile, report: &mut Report) -> anyhow::Result<usize> {
        let flows = self.tcp.finish(RESUME_LIMIT)?;
        let intact = flows.iter().filter(|flow| flow.intact()).count();
        let name = format!("tcp_survived/{}", profile.name());
        let sample = [100.0 * intact as f64 / flows.len() as f64].into_iter().collect();
        let note = format!("{intact} of {} flows, each through all {} runs", flows.len(), self.runs);
        report.rows.push(Row::new(name, "%", Better::Higher, &sample).note(note));
        self.probe.stop()?;
        let lost = flows.len() - intact;
        drop(flows);
        self.endpoints.stop()?;
        Ok(lost)
    }
}

/// What a run's time is spent on.
struct Laps(Vec<(&'static str, f64)>, Nanos);

impl Laps {
    fn start() -> Self {
        Laps(Vec::new(), clock::now())
    }

    fn end(&mut self, name: &'static str) {
        let now = clock::now();
        self.0.push((name, between_ms(self.1, now) / 1000.0));
        self.1 = now;
    }
}
