//! The traffic of one run: endpoints, TCP clients and UDP clients together, and what came of it.

use std::net::SocketAddrV4;
use std::sync::Arc;
use std::time::Duration;

use super::endpoint::{Counts, Endpoint};
use super::tcp_client::{Flow, TcpClients};
use super::udp_client::{UdpClients, UdpFlow};
use crate::clock::Nanos;
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
    /// UDP flows besides the probes.
    pub udp_flows: usize,
    /// The TCP service.
    pub tcp: SocketAddrV4,
    /// The UDP service.
    pub udp: SocketAddrV4,
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
        tcp.hold(volume.tcp_flows)?;
        let clients = Clients { tcp, udp, volume };
        wait::until("every flow to be answered", CONNECT_LIMIT, || Ok(clients.all_talk().then_some(())))
            .map_err(|error| error.context(clients.describe()))?;
        Ok(clients)
    }

    fn all_talk(&self) -> bool {
        let (talking, total) = self.udp.talking();
        talking == total && self.tcp.talking() == self.volume.tcp_flows
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
