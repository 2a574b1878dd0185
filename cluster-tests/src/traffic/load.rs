//! The traffic of one run: endpoints, TCP clients and UDP clients together, and what came of it.

use std::net::SocketAddrV4;
use std::sync::Arc;
use std::time::Duration;

use super::endpoint::{Counts, Endpoint};
use super::tcp_client::{FAST_FLOWS, Flow, Pace, SLOW_INTERVAL, TcpClients};
use super::udp_client::{UdpClients, UdpFlow};
use crate::clock::{self, Nanos};
use crate::topology::{CLIENTS, ENDPOINTS, Topology};
use crate::wait;

/// Young flows per second before the fault.
pub const YOUNG_RATE: f64 = 500.0;
/// Young flows at most.
pub const YOUNG_LIMIT: usize = 5_000;
/// New connections per second after the fault.
const NEW_RATE: f64 = 50.0;
/// How long new connections are opened.
const NEW_FOR: Duration = Duration::from_secs(2);
/// How long outstanding bytes are waited for at the end: several retransmissions.
const SETTLE: Duration = Duration::from_secs(4);
/// A flow that had no answer for so long is silent: several of its writes.
const SILENCE: Duration = Duration::from_secs(1);
/// How long a flow may be silent when nothing is broken any more: after an outage of several seconds TCP waits as long
/// again until it retransmits.
const AWAKE_LIMIT: Duration = Duration::from_secs(40);
const CONNECT_LIMIT: Duration = Duration::from_secs(15);

/// Servers on all endpoints; stopped when dropped.
#[derive(Debug)]
pub struct Endpoints {
    endpoints: Vec<Endpoint>,
    /// What they counted together.
    pub counts: Arc<Counts>,
}

impl Endpoints {
    /// Starts them all.
    pub fn start(topology: &Topology) -> anyhow::Result<Self> {
        let counts = Arc::new(Counts::default());
        let endpoints = topology
            .endpoints
            .iter()
            .zip(ENDPOINTS)
            .zip(1..)
            .map(|((namespace, address), number)| {
                Endpoint::start(namespace, address, number, Arc::clone(&counts))
            })
            .collect::<anyhow::Result<_>>()?;
        Ok(Endpoints { endpoints, counts })
    }

    /// Has them answer before anything else runs, where answers are timed: see [`crate::workers::Workers::hurry`].
    pub fn hurry(&self) -> anyhow::Result<()> {
        self.endpoints.iter().try_for_each(Endpoint::hurry)
    }

    /// Stops them and says what went wrong, if anything.
    pub fn stop(self) -> anyhow::Result<()> {
        self.endpoints.into_iter().try_for_each(Endpoint::stop)
    }
}

/// How much traffic, and to where.
#[derive(Debug, Clone, Copy)]
pub struct Volume {
    /// Held TCP flows.
    pub tcp_flows: usize,
    /// How they write.
    pub pace: Pace,
    /// UDP flows besides the probes.
    pub udp_flows: usize,
    /// The TCP service.
    pub tcp: SocketAddrV4,
    /// The UDP service.
    pub udp: SocketAddrV4,
}

impl Volume {
    /// So many TCP and UDP flows to two services, at the usual pace.
    pub const fn new(tcp_flows: usize, udp_flows: usize, tcp: SocketAddrV4, udp: SocketAddrV4) -> Self {
        let pace = Pace { fast: FAST_FLOWS, slow: SLOW_INTERVAL };
        Volume { tcp_flows, pace, udp_flows, tcp, udp }
    }
}

/// The clients, running.
#[derive(Debug)]
pub struct Clients {
    tcp: TcpClients,
    udp: UdpClients,
    volume: Volume,
}

impl Clients {
    /// Opens all flows and waits until each has had an answer.
    pub fn start(topology: &Topology, volume: Volume) -> anyhow::Result<Self> {
        let tcp = TcpClients::start(&topology.clients, volume.tcp, &CLIENTS)?;
        let udp = UdpClients::start(&topology.clients, volume.udp, &CLIENTS, volume.udp_flows)?;
        tcp.hold(volume.tcp_flows, volume.pace)?;
        let clients = Clients { tcp, udp, volume };
        wait::until("every flow to be answered", CONNECT_LIMIT, || Ok(clients.all_talk().then_some(())))
            .map_err(|error| error.context(clients.describe()))?;
        Ok(clients)
    }

    fn all_talk(&self) -> bool {
        let (talking, total) = self.udp.talking();
        talking == total && self.tcp.talking() == self.volume.tcp_flows
    }

    /// Waits until every flow goes on.
    pub fn wait_awake(&self) -> anyhow::Result<()> {
        let mut silent = (0, 0);
        let awake = wait::until("every flow to go on", AWAKE_LIMIT, || {
            let since = clock::now().saturating_sub(clock::nanos(SILENCE));
            silent = (self.tcp.not_heard_since(since), self.udp.not_heard_since(since));
            Ok((silent == (0, 0)).then_some(()))
        });
        awake.map_err(|error| {
            error.context(format!(
                "{} TCP and {} UDP flows are silent, and nothing is broken",
                silent.0, silent.1
            ))
        })
    }

    fn describe(&self) -> String {
        let (talking, total) = self.udp.talking();
        format!(
            "{} of {} TCP flows and {talking} of {total} UDP flows had an answer",
            self.tcp.talking(),
            self.volume.tcp_flows
        )
    }

    /// Begins to open young flows.
    pub fn open_young(&self) -> anyhow::Result<()> {
        self.tcp.open_young(YOUNG_RATE, YOUNG_LIMIT)
    }

    /// Tells when the fault was.
    pub fn fault(&self, at: Nanos) -> anyhow::Result<()> {
        self.tcp.fault(at, NEW_RATE, NEW_FOR)
    }

    /// Ends the traffic.
    pub fn finish(self) -> anyhow::Result<Outcome> {
        let tcp = self.tcp.finish(SETTLE)?;
        let udp = self.udp.finish()?;
        Ok(Outcome { tcp, udp })
    }
}

/// Every flow of a run. The connections stay open for as long as this is held.
#[derive(Debug)]
pub struct Outcome {
    /// TCP.
    pub tcp: Vec<Flow>,
    /// UDP, probes included.
    pub udp: Vec<UdpFlow>,
}
