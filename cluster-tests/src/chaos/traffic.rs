//! The traffic of a run: flows that live through everything but a blackout, and the captures that judge who forwarded.

use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::Context;

use crate::capture::judge::Verdict;
use crate::capture::judge::periods::judge_throughout;
use crate::capture::watch::Capture;
use crate::clock::{Nanos, nanos};
use crate::cluster::Cluster;
use crate::session::demand_unharmed;
use crate::stats::{Percentiles, longest_gap};
use crate::topology::CLIENTS;
use crate::traffic::load::{Clients, Endpoints, Outcome, Volume};
use crate::traffic::stray::Strays;
use crate::traffic::tcp_client::Pace;
use crate::trial::{DNS, WEB};

/// Held TCP flows; with the UDP flows and the probes, about 500.
const TCP_FLOWS: usize = 390;
const UDP_FLOWS: usize = 102;
/// Two cores carry it, with three daemons, for minutes.
const PACE: Pace = Pace { fast: 8, slow: Duration::from_millis(200) };
/// What an ownership lasts at least: a third of the lease, which is renewed that often and runs on whatever happens.
const SHORTEST_OWNERSHIP: Duration = Duration::from_millis(50);

/// Running traffic.
pub(super) struct Traffic {
    clients: Option<Clients>,
    /// Of flows that ended before a blackout. Held: closing them makes packets.
    ended: Vec<Outcome>,
    strays: Strays,
    capture: Capture,
    endpoints: Endpoints,
}

/// What came of it.
pub(super) struct Result {
    pub(super) tcp_flows: usize,
    pub(super) udp_flows: usize,
    pub(super) harm: Option<String>,
    pub(super) verdict: Verdict,
    /// When the longest overlap ended.
    pub(super) overlap_until: Nanos,
    /// Frames that the captures lost.
    pub(super) frames_lost: u64,
    probes: Vec<Vec<Nanos>>,
}

impl Traffic {
    pub(super) fn start(cluster: &Cluster) -> anyhow::Result<Self> {
        let endpoints = Endpoints::start(&cluster.topology)?;
        let capture = Capture::start(&cluster.topology)?;
        let strays = Strays::start(&cluster.topology, CLIENTS[CLIENTS.len() - 1], DNS)?;
        let mut traffic = Traffic { clients: None, ended: Vec::new(), strays, capture, endpoints };
        traffic.open(cluster)?;
        Ok(traffic)
    }

    /// Opens all flows; all talk when this returns.
    pub(super) fn open(&mut self, cluster: &Cluster) -> anyhow::Result<()> {
        let volume = Volume { pace: PACE, ..Volume::new(TCP_FLOWS, UDP_FLOWS, WEB, DNS) };
        self.clients = Some(Clients::start(&cluster.topology, volume)?);
        Ok(())
    }

    /// Ends them: nothing that comes after is held against them.
    pub(super) fn close(&mut self) -> anyhow::Result<()> {
        if let Some(clients) = self.clients.take() {
            self.ended.push(clients.finish()?);
        }
        Ok(())
    }

    /// Waits until every flow goes on.
    pub(super) fn wait_awake(&self) -> anyhow::Result<()> {
        self.clients.as_ref().context("no flow is open")?.wait_awake()
    }

    /// Ends everything and judges it. Times are told from `from` on.
    pub(super) fn finish(mut self, from: Nanos) -> anyhow::Result<Result> {
        self.close()?;
        self.strays.stop()?;
        let seen = self.capture.finish()?;
        let mut all = Outcome { tcp: Vec::new(), udp: Vec::new() };
        for outcome in self.ended {
            all.tcp.extend(outcome.tcp);
            all.udp.extend(outcome.udp);
        }
        let wrong = self.endpoints.counts.corrupted.load(Ordering::Relaxed);
        let harm = demand_unharmed(&all, &seen, wrong, from).err().map(|error| format!("{error:#}"));
        let (verdict, overlap_until) = judge_throughout(&seen, nanos(SHORTEST_OWNERSHIP));
        let probes = all.udp.iter().filter(|flow| flow.is_probe()).map(|flow| flow.heard.clone()).collect();
        let (tcp_flows, udp_flows) = (all.tcp.len(), all.udp.len());
        drop(all);
        self.endpoints.stop()?;
        Ok(Result { tcp_flows, udp_flows, harm, verdict, overlap_until, frames_lost: seen.lost, probes })
    }
}

impl Result {
    /// How long probes heard nothing at most, in the median over those that were open.
    pub(super) fn silence_ms(&self, from: Nanos, to: Nanos) -> f64 {
        let open = |heard: &&Vec<Nanos>| heard.first().is_some_and(|at| *at < from);
        let open = |heard: &&Vec<Nanos>| open(heard) && heard.last().is_some_and(|at| *at > to);
        let probes = self.probes.iter().filter(open);
        Percentiles::of(probes.map(|heard| longest_gap(heard, from, to)).collect()).p50
    }
}
