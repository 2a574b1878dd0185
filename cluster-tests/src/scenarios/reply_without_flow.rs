//! An endpoint answers for a flow that nobody has, by way of the owner and by way of the standby: neither lets the
//! packet out, where its client would reset the connection (I10).

use std::net::SocketAddrV4;
use std::time::Duration;

use crate::api;
use crate::capture::watch::Capture;
use crate::cluster::Cluster;
use crate::manifest::{EXAMPLE, Profile};
use crate::topology::{CLIENTS, ENDPOINTS, Node};
use crate::traffic::endpoint::UDP_PORT;
use crate::traffic::flood::datagram;
use crate::traffic::stray::{FrameSocket, frame, mac};
use crate::wait;

const FRAMES: usize = 20;
const REASON: &str = "reply_without_flow";

pub(super) fn run() -> anyhow::Result<()> {
    let mut cluster = Cluster::start(EXAMPLE, Profile::Lan)?;
    check(&cluster).map_err(|error| cluster.explain(error))
}

fn check(cluster: &Cluster) -> anyhow::Result<()> {
    cluster.wait_ready()?;
    let capture = Capture::start(&cluster.topology)?;
    let endpoint = &cluster.topology.endpoints[0];
    let from = mac(endpoint, "eth0")?;
    let reply = datagram(SocketAddrV4::new(ENDPOINTS[0], UDP_PORT), SocketAddrV4::new(CLIENTS[0], 33_333));
    let socket = endpoint.run(|| FrameSocket::open("eth0"))?;
    for node in Node::DATAPLANE {
        let there = cluster.topology.node(node);
        let before = api::counter(there, REASON)?;
        let sent = frame(mac(there, "eth1")?, from, &reply);
        for _ in 0..FRAMES {
            socket.send(&sent)?;
        }
        let what = format!("{} to count {FRAMES} x {REASON}", node.name());
        wait::until(&what, Duration::from_secs(5), || {
            Ok((api::counter(there, REASON)? >= before + FRAMES as u64).then_some(()))
        })?;
    }
    let seen = capture.finish()?;
    for (node, sent) in &seen.nodes {
        anyhow::ensure!(
            sent.untranslated.is_empty() && sent.translated.is_empty(),
            "{node} let {} packets out",
            sent.untranslated.len() + sent.translated.len()
        );
    }
    Ok(())
}
