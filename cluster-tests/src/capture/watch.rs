//! The captures of one run: a socket on each of the balancers' ports that carry traffic and on each port of
//! clients and endpoints, all read by one thread.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::time::Duration;

use anyhow::Context;

use super::frame::{Frame, Unreachable, parse};
use super::socket::{Frames, PacketSocket};
use crate::clock::{self, Nanos};
use crate::topology::{CLIENT_PORT, ENDPOINTS, FLOATING, Node, Side, Topology, VIP, endpoint_port};
use crate::workers::{Stop, Workers};

/// How often the sockets are emptied: their buffers hold far more, and the timestamps are the kernel's.
const INTERVAL: Duration = Duration::from_millis(20);
/// Packets recorded per node; beyond, only counted as lost.
const MAX_RECORDED: usize = 8_000_000;

/// What a node was seen to send.
#[derive(Debug, Default)]
pub struct NodeSeen {
    /// When it sent a translated packet of the VIP, in either direction, or answered a ping to it.
    pub translated: Vec<Nanos>,
    /// When it sent an endpoint's packet untranslated to the clients' side, or a client's to the endpoints'.
    pub untranslated: Vec<Nanos>,
    /// When it said by ARP that the VIP or the floating address is with it.
    pub claims: Vec<Nanos>,
}

/// Everything seen.
#[derive(Debug, Default)]
pub struct Seen {
    /// By node.
    pub nodes: BTreeMap<&'static str, NodeSeen>,
    /// RST segments that reached or left a client or an endpoint.
    pub rst: Vec<Nanos>,
    /// ICMP destination-unreachable messages that reached or left a client or an endpoint.
    pub unreachable: Vec<(Nanos, Unreachable)>,
    /// Frames that were not captured because a buffer or a record was full.
    pub lost: u64,
}

/// The captures, running; stopped when dropped.
#[derive(Debug)]
pub struct Capture {
    workers: Workers<Seen>,
}

impl Capture {
    /// Begins. Every socket stands when this returns.
    pub fn start(topology: &Topology) -> anyhow::Result<Self> {
        let watcher = topology.switch.run(|| Watcher::open(topology))?;
        let mut workers = Workers::new("capture");
        workers.spawn_in(&topology.switch, "capture", move |stop| watcher.run(stop))?;
        Ok(Capture { workers })
    }

    /// Ends and gives what was seen.
    pub fn finish(self) -> anyhow::Result<Seen> {
        self.workers.stop()?.pop().context("the capture's thread was not started")
    }
}

struct Watcher {
    nodes: Vec<(Node, Side, PacketSocket)>,
    edges: Vec<PacketSocket>,
    realtime_offset: Nanos,
    seen: Seen,
}

impl Watcher {
    fn open(topology: &Topology) -> anyhow::Result<Self> {
        let mut nodes = Vec::new();
        for node in topology.balancers() {
            for side in [Side::Client, Side::Endpoint] {
                nodes.push((node, side, PacketSocket::open(&side.port(node), Frames::FromBehind)?));
            }
        }
        let mut edges = vec![PacketSocket::open(CLIENT_PORT, Frames::Complaints)?];
        for index in 0..ENDPOINTS.len() {
            edges.push(PacketSocket::open(&endpoint_port(index), Frames::Complaints)?);
        }
        let mut seen = Seen::default();
        for node in topology.balancers() {
            seen.nodes.insert(node.name(), NodeSeen::default());
        }
        Ok(Watcher { nodes, edges, realtime_offset: clock::realtime_offset(), seen })
    }

    fn run(mut self, stop: &Stop) -> anyhow::Result<Seen> {
        while !stop.requested() {
            self.drain()?;
            std::thread::sleep(INTERVAL);
        }
        self.drain()?;
        for socket in self.nodes.iter().map(|(.., s)| s).chain(&self.edges) {
            self.seen.lost += socket.lost()?;
        }
        for node in self.seen.nodes.values_mut() {
            // Two ports of a node are read one after the other.
            node.translated.sort_unstable();
            node.untranslated.sort_unstable();
            node.claims.sort_unstable();
        }
        self.seen.rst.sort_unstable();
        self.seen.unreachable.sort_unstable_by_key(|(time, _)| *time);
        Ok(self.seen)
    }

    fn drain(&mut self) -> anyhow::Result<()> {
        let offset = self.realtime_offset;
        for (node, side, socket) in &self.nodes {
            let record = self.seen.nodes.get_mut(node.name()).expect("every captured node has a record");
            let mut lost = 0;
            socket.drain(|seen| {
                let Some(kind) = classify(*side, parse(seen.bytes)) else { return };
                let times = match kind {
                    Sent::Translated => &mut record.translated,
                    Sent::Untranslated => &mut record.untranslated,
                    Sent::Claim => &mut record.claims,
                };
                if times.len() < MAX_RECORDED {
                    times.push(seen.realtime - offset);
                } else {
                    lost += 1;
                }
            })?;
            self.seen.lost += lost;
        }
        for socket in &self.edges {
            socket.drain(|seen| {
                let time = seen.realtime - offset;
                match parse(seen.bytes) {
                    Frame::Packet { rst: true, .. } => self.seen.rst.push(time),
                    Frame::Unreachable(message) => self.seen.unreachable.push((time, message)),
                    _ => {}
                }
            })?;
        }
        Ok(())
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sent {
    Translated,
    Untranslated,
    Claim,
}

/// What a frame from a balancer on this side says about it.
fn classify(side: Side, frame: Frame) -> Option<Sent> {
    let is_client = |address: Ipv4Addr| address.octets()[..3] == VIP.octets()[..3];
    let is_endpoint = |address: Ipv4Addr| ENDPOINTS.contains(&address);
    match (side, frame) {
        (_, Frame::ArpClaim(address)) if address == VIP || address == FLOATING => Some(Sent::Claim),
        (Side::Client, Frame::Packet { from, .. }) if from.0 == VIP => Some(Sent::Translated),
        (Side::Client, Frame::Icmp { from }) if from == VIP => Some(Sent::Translated),
        (Side::Client, Frame::Packet { from, .. }) if is_endpoint(from.0) => Some(Sent::Untranslated),
        (Side::Endpoint, Frame::Packet { from, to, .. }) if is_client(from.0) => {
            Some(if is_endpoint(to.0) { Sent::Translated } else { Sent::Untranslated })
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn translated_and_leaked_packets_are_told_apart() {
        let client = (Ipv4Addr::new(192, 0, 2, 101), 40_000);
        let packet = |from, to| Frame::Packet { from, to, rst: false };
        let cases = [
            (Side::Client, packet((VIP, 443), client), Some(Sent::Translated)),
            (Side::Client, packet((ENDPOINTS[0], 8443), client), Some(Sent::Untranslated)),
            (Side::Endpoint, packet(client, (ENDPOINTS[2], 8443)), Some(Sent::Translated)),
            (Side::Endpoint, packet(client, (VIP, 443)), Some(Sent::Untranslated)),
            (Side::Client, Frame::ArpClaim(VIP), Some(Sent::Claim)),
            (Side::Client, Frame::ArpClaim(Ipv4Addr::new(192, 0, 2, 2)), None),
        ];
        for (side, frame, expected) in cases {
            assert_eq!(classify(side, frame), expected, "{side:?} {frame:?}");
        }
    }
}
