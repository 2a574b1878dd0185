//! All UDP clients of a run, on one thread: flows that must keep their endpoint, and probes, each a flow of its
//! own that asks every 2 ms, on whose answers the gap is measured.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::Context;

use super::heard::Heard;
use super::reactor::Reactor;
use super::udp::{LENGTH, Message};
use crate::clock::{self, Nanos, nanos};
use crate::namespace::Handle;
use crate::workers::{Stop, Workers};

/// How many probe clients run.
pub const PROBES: usize = 8;
const PROBE_INTERVAL: Duration = Duration::from_millis(2);
const FLOW_INTERVAL: Duration = Duration::from_millis(100);
const TICK: Duration = Duration::from_millis(1);
/// A flow is alive if one of its last datagrams was answered.
const LAST: u64 = 5;

/// One flow, after the run.
#[derive(Debug)]
pub struct UdpFlow {
    socket: UdpSocket,
    key: u64,
    interval: Nanos,
    next: Nanos,
    sent: u64,
    newest_answered: Option<u64>,
    last_heard: Nanos,
    endpoint: Option<u64>,
    /// Whether an answer came from another endpoint than the first.
    pub endpoint_changed: bool,
    /// Answers that were not as predicted.
    pub bad: u64,
    /// Errors that the network reported to the socket.
    pub refused: u64,
    /// When answers came; probes only.
    pub heard: Vec<Nanos>,
    is_probe: bool,
}

impl UdpFlow {
    /// Whether one of its last datagrams was answered, all as predicted, by the endpoint it always had.
    pub fn intact(&self) -> bool {
        self.bad == 0
            && !self.endpoint_changed
            && self.newest_answered.is_some_and(|number| number + LAST >= self.sent)
    }

    /// Whether it is a probe.
    pub fn is_probe(&self) -> bool {
        self.is_probe
    }
}

/// The clients, running.
#[derive(Debug)]
pub struct UdpClients {
    workers: Workers<Vec<UdpFlow>>,
    talking: Arc<AtomicUsize>,
    heard: Heard,
    total: usize,
}

impl UdpClients {
    /// Opens `flows` flows and [`PROBES`] probes and begins to ask.
    pub fn start(
        namespace: &Handle,
        service: SocketAddrV4,
        sources: &[Ipv4Addr],
        flows: usize,
    ) -> anyhow::Result<Self> {
        let talking = Arc::new(AtomicUsize::new(0));
        let heard = Heard::default();
        let (counter, shared, sources) = (Arc::clone(&talking), heard.clone(), sources.to_vec());
        let total = flows + PROBES;
        let mut workers = Workers::new("UDP clients");
        workers.spawn_in(namespace, "udp-clients", move |stop| {
            let mut clients = Clients::open(service, &sources, flows, counter, shared)?;
            clients.run(stop)?;
            Ok(clients.flows)
        })?;
        Ok(UdpClients { workers, talking, heard, total })
    }

    /// How many flows and probes have had an answer, and of how many.
    pub fn talking(&self) -> (usize, usize) {
        (self.talking.load(Ordering::Relaxed), self.total)
    }

    /// How many flows were heard for the last time before `time`, as of a moment ago.
    pub fn not_heard_since(&self, time: Nanos) -> usize {
        self.heard.before(time)
    }

    /// Stops asking and hands over the flows.
    pub fn finish(self) -> anyhow::Result<Vec<UdpFlow>> {
        Ok(self.workers.stop()?.into_iter().flatten().collect())
    }
}

struct Clients {
    reactor: Reactor,
    flows: Vec<UdpFlow>,
    talking: Arc<AtomicUsize>,
    heard: Heard,
}

impl Clients {
    fn open(
        service: SocketAddrV4,
        sources: &[Ipv4Addr],
        flows: usize,
        talking: Arc<AtomicUsize>,
        heard: Heard,
    ) -> anyhow::Result<Self> {
        let reactor = Reactor::new(TICK)?;
        let start = clock::now();
        let mut all = Vec::with_capacity(flows + PROBES);
        for index in 0..flows + PROBES {
            let is_probe = index < PROBES;
            let source = sources[index % sources.len()];
            let socket = UdpSocket::bind((source, 0)).with_context(|| format!("cannot bind {source}"))?;
            socket.set_nonblocking(true)?;
            socket.connect(service)?;
            reactor.watch_input(&socket, index)?;
            let interval = nanos(if is_probe { PROBE_INTERVAL } else { FLOW_INTERVAL });
            // Spread over the interval.
            let offset = interval * index as u64 / (flows + PROBES) as u64;
            all.push(UdpFlow {
                socket,
                key: start.wrapping_add(index as u64),
                interval,
                next: start + offset,
                sent: 0,
                newest_answered: None,
                last_heard: 0,
                endpoint: None,
                endpoint_changed: false,
                bad: 0,
                refused: 0,
                heard: Vec::new(),
                is_probe,
            });
        }
        Ok(Clients { reactor, flows: all, talking, heard })
    }

    fn run(&mut self, stop: &Stop) -> anyhow::Result<()> {
        while !stop.requested() {
            let turn = self.reactor.turn()?;
            for token in turn.tokens() {
                self.receive(token)?;
            }
            let now = clock::now();
            self.ask(now);
            self.heard.publish(now, self.flows.iter().map(|flow| flow.last_heard));
        }
        self.drain()
    }

    /// Takes what is still on its way: a few turns of the loop's tick.
    fn drain(&mut self) -> anyhow::Result<()> {
        let end = clock::now() + nanos(FLOW_INTERVAL);
        while clock::now() < end {
            let turn = self.reactor.turn()?;
            for token in turn.tokens() {
                self.receive(token)?;
            }
        }
        Ok(())
    }

    fn ask(&mut self, now: Nanos) {
        for flow in self.flows.iter_mut().filter(|f| f.next <= now) {
            let request = Message::Request { key: flow.key, number: flow.sent };
            // A full send buffer or no route loses the datagram, as networks do; an error that an ICMP message
            // left on the socket is seen when receiving.
            drop(flow.socket.send(&request.encode()));
            flow.sent += 1;
            // No bursts after a delay: a probe that comes late shows as a gap.
            flow.next = (flow.next + flow.interval).max(now);
        }
    }

    fn receive(&mut self, index: usize) -> anyhow::Result<()> {
        let Some(flow) = self.flows.get_mut(index) else { return Ok(()) };
        let mut bytes = [0; LENGTH + 1];
        loop {
            let length = match flow.socket.recv(&mut bytes) {
                Ok(length) => length,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if is_network_error(error.kind()) => {
                    flow.refused += 1;
                    continue;
                }
                Err(error) => return Err(error).context("a UDP client cannot receive"),
            };
            match Message::decode(&bytes[..length]) {
                Some(Message::Reply { key, number, endpoint }) if key == flow.key && number < flow.sent => {
                    if flow.newest_answered.is_none() {
                        self.talking.fetch_add(1, Ordering::Relaxed);
                    }
                    flow.newest_answered = flow.newest_answered.max(Some(number));
                    flow.endpoint_changed |= *flow.endpoint.get_or_insert(endpoint) != endpoint;
                    flow.last_heard = clock::now();
                    if flow.is_probe {
                        flow.heard.push(flow.last_heard);
                    }
                }
                _ => flow.bad += 1,
            }
        }
    }
}

/// Whether an error is what an ICMP message or a failed address resolution left on a socket.
pub(super) fn is_network_error(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::ConnectionRefused | ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable)
}
