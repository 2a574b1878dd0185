//! Traffic and captures over several disturbances of one cluster, for tests that do more than one thing.

use std::sync::atomic::Ordering;

use crate::capture::judge;
use crate::capture::watch::{Capture, Seen};
use crate::clock::{self, Nanos};
use crate::cluster::Cluster;
use crate::stats::{Percentiles, longest_gap};
use crate::topology::CLIENTS;
use crate::traffic::load::{Clients, Endpoints, Outcome, Volume};
use crate::traffic::stray::Strays;
use crate::traffic::tcp_client::{Flow, corrupted};
use crate::trial::{DNS, WEB};

/// ICMP messages and lost flows that are told in full.
const SAID: usize = 5;

/// Running traffic.
#[derive(Debug)]
pub struct Session {
    clients: Clients,
    strays: Strays,
    capture: Capture,
    endpoints: Endpoints,
    from: Nanos,
    changes: Vec<Nanos>,
}

impl Session {
    /// Opens `flows` TCP flows and a quarter as many UDP flows; all talk when this returns.
    pub fn start(cluster: &Cluster, flows: usize) -> anyhow::Result<Self> {
        let endpoints = Endpoints::start(&cluster.topology)?;
        let capture = Capture::start(&cluster.topology)?;
        let volume = Volume::new(flows, flows / 4, WEB, DNS);
        let clients = Clients::start(&cluster.topology, volume)?;
        let strays = Strays::start(&cluster.topology, CLIENTS[CLIENTS.len() - 1], DNS)?;
        Ok(Session { clients, strays, capture, endpoints, from: clock::now(), changes: Vec::new() })
    }

    /// Says that ownership changes at most once from here to the next call: each stretch is judged by itself.
    pub fn next_stretch(&mut self) {
        self.changes.push(clock::now());
    }

    /// Waits until every flow goes on.
    pub fn wait_awake(&self) -> anyhow::Result<()> {
        self.clients.wait_awake()
    }

    /// Ends it and demands that nothing was lost, wrong, or answered with a reset, and that no two nodes served at
    /// once.
    pub fn finish(self) -> anyhow::Result<()> {
        self.finish_measured().map(drop)
    }

    /// As [`Session::finish`]; the longest silences of the UDP probes.
    pub fn finish_measured(self) -> anyhow::Result<Percentiles> {
        let until = clock::now();
        let outcome = self.clients.finish()?;
        self.strays.stop()?;
        let seen = self.capture.finish()?;
        let wrong = self.endpoints.counts.corrupted.load(Ordering::Relaxed);
        let result = demand_unharmed(&outcome, &seen, wrong, self.from);
        let (mut from, mut judged) = (self.from, 0);
        for to in self.changes.into_iter().chain([until]) {
            let verdict = judge::judge(&seen, from, to);
            judged += verdict.judged;
            anyhow::ensure!(verdict.overlap == 0, "two owners overlapped by {} ns", verdict.overlap);
            from = to;
        }
        anyhow::ensure!(judged > 0, "no packet was judged");
        let probes = outcome.udp.iter().filter(|flow| flow.is_probe());
        let gaps = Percentiles::of(probes.map(|flow| longest_gap(&flow.heard, self.from, until)).collect());
        drop(outcome);
        self.endpoints.stop()?;
        result.map(|()| gaps)
    }
}

/// Demands that nothing was lost, wrong, answered with a reset, or forwarded untranslated.
/// `from`: when the traffic began.
pub(crate) fn demand_unharmed(outcome: &Outcome, seen: &Seen, wrong: u64, from: Nanos) -> anyhow::Result<()> {
    let tcp = outcome.tcp.iter().filter(|flow| !flow.intact()).count();
    let udp = outcome.udp.iter().filter(|flow| !flow.intact()).count();
    let bytes = corrupted(outcome.tcp.iter()) as u64 + wrong;
    let untranslated: usize = seen.nodes.values().map(|node| node.untranslated.len()).sum();
    let mut problems = Vec::new();
    for (count, what) in [
        (tcp, "TCP flows lost"),
        (udp, "UDP flows lost or moved"),
        (bytes as usize, "flows with wrong bytes"),
        (seen.rst.len(), "RST segments"),
        (seen.unreachable.len(), "ICMP destination-unreachable messages"),
        (untranslated, "untranslated packets"),
    ] {
        if count > 0 {
            problems.push(format!("{count} {what}"));
        }
    }
    let seconds = |time: Nanos| time.saturating_sub(from) as f64 / 1e9;
    for flow in outcome.tcp.iter().filter(|flow| !flow.intact()).take(SAID) {
        problems.push(describe(flow, seconds));
    }
    for (time, message) in seen.unreachable.iter().take(SAID) {
        let seconds = seconds(*time);
        problems.push(format!("{seconds:.3} s after the traffic began: unreachable, {message}"));
    }
    anyhow::ensure!(
        problems.is_empty(),
        "of {} TCP and {} UDP flows: {}",
        outcome.tcp.len(),
        outcome.udp.len(),
        problems.join(", ")
    );
    Ok(())
}

/// How a connection stands; times in seconds.
fn describe(flow: &Flow, seconds: impl Fn(Nanos) -> f64) -> String {
    let talk = &flow.conversation;
    let end = talk.end().map_or("open".to_owned(), |end| format!("{end:?}").to_lowercase());
    let heard = flow.heard.last().map_or("never".to_owned(), |at| format!("at {:.3} s", seconds(*at)));
    format!(
        "{}, opened at {:.3} s, last heard {heard}, {end}, {} of {} bytes written were answered, {}",
        flow.local,
        seconds(flow.opened_at),
        talk.received(),
        talk.sent(),
        talk.kernel()
    )
}
