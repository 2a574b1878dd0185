//! An endpoint that stops answering its probes gets no new flows, and keeps those it has (I9); one that a single node
//! does not reach stays in service; the owner that reaches none gives its group away; and when all are down, the
//! service does what its operator chose.
//!
//! Probes have a port of their own here, so that an endpoint can fail them while its connections go on.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::{Context, ensure};
use serde_json::Value;

use crate::api;
use crate::cluster::Cluster;
use crate::manifest::Profile;
use crate::nft::Table;
use crate::topology::{CLIENTS, Node, VIP};
use crate::traffic::talk::held::{Flows, Held};
use crate::traffic::talk::server::Server;
use crate::traffic::talk::{Talk, any_port};
use crate::wait;

const MANIFEST: &str = "
apiVersion: lockstep/v1
kind: Group
name: edge
spec: {addresses: [10.0.0.1], nodes: [a, b]}
---
apiVersion: lockstep/v1
kind: Service
name: web
spec:
  group: edge
  vip: [192.0.2.10]
  port: 443
  protocol: [tcp, udp]
  algorithm: round-robin
  health: {type: tcp, port: 9000, interval: 200ms, timeout: 200ms, rise: 2, fall: 3}
  endpoints:
    - {address: 10.0.0.11, port: 8443}
    - {address: 10.0.0.12, port: 8443}
    - {address: 10.0.0.13, port: 8443}
";

const PORT: u16 = 8443;
const HEALTH_PORT: u16 = 9000;
const TO: SocketAddr = SocketAddr::new(IpAddr::V4(VIP), 443);

/// Far more than three probes, a report and a commit.
const VERDICT: Duration = Duration::from_secs(10);
/// How soon after a verdict every kernel obeys it.
const OBEYED: Duration = Duration::from_secs(1);
/// What a verdict would take several times over.
const NO_VERDICT: Duration = Duration::from_secs(3);
/// New connections after each change.
const NEW: usize = 12;
/// Of each protocol.
const HELD: usize = 9;

pub(super) fn run() -> anyhow::Result<()> {
    let mut cluster = Cluster::start(MANIFEST, Profile::Lan)?;
    check(&mut cluster).map_err(|error| cluster.explain(error))
}

/// A server of an endpoint, counted from 0, on one port.
fn server(cluster: &Cluster, endpoint: usize, port: u16) -> anyhow::Result<Server> {
    Server::start(&cluster.topology.endpoints[endpoint], endpoint as u64 + 1, &[port])
}

fn check(cluster: &mut Cluster) -> anyhow::Result<()> {
    let servers = (0..3).map(|i| server(cluster, i, PORT)).collect::<anyhow::Result<Vec<_>>>()?;
    let mut healthy =
        (0..3).map(|i| Ok(Some(server(cluster, i, HEALTH_PORT)?))).collect::<anyhow::Result<Vec<_>>>()?;
    wait_health(cluster, ["up"; 3])?;
    reached(cluster, &[1, 2, 3])?;

    // A hand-over may cost a datagram that is on its way, and no flow.
    let mut flows = Flows { patient: true, ..Flows::default() };
    for i in 0..HELD {
        let from = CLIENTS[i % CLIENTS.len()].into();
        flows.open(&format!("flow {i}"), &cluster.topology.clients, from, TO)?;
    }
    let held = Held::start(flows)?;
    stops_and_returns(cluster, &held, &mut healthy)?;
    one_node_does_not_reach_it(cluster, &held)?;
    the_owner_reaches_none(cluster, &held)?;
    held.stop().context("no live flow moves or ends")?;
    a_new_owner_obeys(cluster, &mut healthy)?;
    all_are_down(cluster, &mut healthy)?;
    nothing_stays(cluster)?;
    servers.into_iter().chain(healthy.into_iter().flatten()).try_for_each(Server::stop)
}

fn stops_and_returns(cluster: &Cluster, held: &Held, healthy: &mut [Option<Server>]) -> anyhow::Result<()> {
    let counted = |node| api::counter(cluster.topology.node(node), "verdicts_down");
    let before = Node::ALL.into_iter().map(counted).collect::<anyhow::Result<Vec<u64>>>()?;
    drop(healthy[0].take());
    wait_health(cluster, ["down", "up", "up"])?;
    wait::pass(OBEYED)?;
    reached(cluster, &[2, 3])?;
    held.rounds(2)?;
    let shown = endpoints(cluster, Node::B)?;
    let status = &shown[0]["status"];
    ensure!(status["error"] == "refused" && status["nodes"] == serde_json::json!(["a", "b"]), "{status}");
    println!("{}", cluster.lockstep(Node::B, &["get", "endpoints", "web"])?);
    for (node, before) in Node::ALL.into_iter().zip(before) {
        let now = counted(node)?;
        ensure!(now == before + 1, "{} counted {before} verdicts, now {now}", node.name());
    }
    healthy[0] = Some(server(cluster, 0, HEALTH_PORT)?);
    wait_health(cluster, ["up"; 3])?;
    wait::pass(OBEYED)?;
    reached(cluster, &[1, 2, 3])?;
    held.rounds(2)
}

fn one_node_does_not_reach_it(cluster: &Cluster, held: &Held) -> anyhow::Result<()> {
    let owner = cluster.owner()?;
    let block = lose_answers(cluster, owner, &["10.0.0.12"])?;
    wait::until("the owner to find the endpoint down", VERDICT, || {
        Ok((endpoints(cluster, owner)?[1]["status"]["here"] == "down").then_some(()))
    })?;
    wait::pass(NO_VERDICT)?;
    for node in Node::DATAPLANE {
        ensure!(health(cluster, node)? == ["up"; 3], "one node alone was believed");
    }
    reached(cluster, &[1, 2, 3])?;
    ensure!(cluster.owner()? == owner, "the group moved, although most endpoints are reached");
    block.end()?;
    wait::until("the owner to find the endpoint up", VERDICT, || {
        Ok((endpoints(cluster, owner)?[1]["status"]["here"] == "up").then_some(()))
    })?;
    held.rounds(2)
}

fn the_owner_reaches_none(cluster: &Cluster, held: &Held) -> anyhow::Result<()> {
    let owner = cluster.wait_ready()?;
    let block = lose_answers(cluster, owner, &["10.0.0.11", "10.0.0.12", "10.0.0.13"])?;
    cluster
        .wait_serving_within(owner.other(), VERDICT)
        .context("the group does not move to the node that reaches its endpoints")?;
    let status = api::node_status(cluster.topology.node(owner))?;
    let reasons: Vec<&str> = status.groups.iter().map(|group| group.reason.as_str()).collect();
    ensure!(reasons == ["endpoints_not_reached"], "the former owner is unfit for {reasons:?}");
    ensure!(health(cluster, owner)? == ["up"; 3], "one node alone was believed");
    block.end()?;
    held.rounds(2)?;
    cluster.wait_ready().map(drop)
}

/// A node's probes to some endpoints are lost, and nothing else is.
fn lose_answers(cluster: &Cluster, node: Node, endpoints: &[&str]) -> anyhow::Result<Table> {
    let rule = format!("ip saddr {{ {} }} tcp sport {HEALTH_PORT} drop", endpoints.join(", "));
    Table::of_input(cluster.topology.node(node), &rule)
}

/// The standby's kernel has obeyed as the owner's has.
fn a_new_owner_obeys(cluster: &mut Cluster, healthy: &mut [Option<Server>]) -> anyhow::Result<()> {
    drop(healthy[2].take());
    wait_health(cluster, ["up", "up", "down"])?;
    wait::pass(OBEYED)?;
    let owner = cluster.wait_ready()?;
    cluster.process(owner)?.terminate(VERDICT)?;
    cluster.wait_serving_within(owner.other(), VERDICT)?;
    reached(cluster, &[1, 2])?;
    cluster.start_node(owner)?;
    cluster.wait_answering(owner)?;
    cluster.wait_ready()?;
    // It has come back with what the cluster holds, and has changed nothing by not knowing.
    wait_health(cluster, ["up", "up", "down"])?;
    healthy[2] = Some(server(cluster, 2, HEALTH_PORT)?);
    wait_health(cluster, ["up"; 3])
}

fn all_are_down(cluster: &Cluster, healthy: &mut [Option<Server>]) -> anyhow::Result<()> {
    healthy.iter_mut().for_each(|server| drop(server.take()));
    wait_health(cluster, ["down"; 3])?;
    wait::pass(OBEYED)?;
    let refused = Talk::connect(&cluster.topology.clients, any_port(CLIENTS[0]), TO);
    ensure!(refused.is_err(), "a connection is made although every endpoint is down");
    cluster.apply(Node::A, &MANIFEST.replace("fall: 3}", "fall: 3, all_down: serve-all}"))?;
    cluster.wait_programmed()?;
    reached(cluster, &[1, 2, 3])?;
    ensure!(health(cluster, Node::A)? == ["down"; 3], "a change of the check is no news of the endpoints");
    Ok(())
}

fn nothing_stays(cluster: &Cluster) -> anyhow::Result<()> {
    cluster.lockstep(Node::A, &["delete", "service", "web"])?;
    cluster.wait_programmed()?;
    let probes = |node| api::counter(cluster.topology.node(node), "probes_failed_refused");
    for node in Node::DATAPLANE {
        ensure!(endpoints(cluster, node)?.is_empty(), "endpoints of a service that is gone");
        let before = probes(node)?;
        wait::pass(OBEYED)?;
        ensure!(probes(node)? == before, "{} goes on probing", node.name());
    }
    Ok(())
}

/// New connections reach these servers, each of them, and no other.
fn reached(cluster: &Cluster, servers: &[u64]) -> anyhow::Result<()> {
    let mut seen = BTreeSet::new();
    for i in 0..NEW {
        let from = any_port(CLIENTS[i % CLIENTS.len()]);
        let mut talk = Talk::connect(&cluster.topology.clients, from, TO)?;
        talk.exchange(100)?;
        seen.insert(talk.hello.server);
    }
    let wanted: BTreeSet<u64> = servers.iter().copied().collect();
    ensure!(seen == wanted, "new connections reach {seen:?}, not {wanted:?}");
    Ok(())
}

/// The endpoints as a node shows them.
fn endpoints(cluster: &Cluster, node: Node) -> anyhow::Result<Vec<Value>> {
    let text = cluster.lockstep(node, &["get", "endpoints", "-o", "json"])?;
    serde_json::from_str(&text).with_context(|| format!("no list of endpoints: {text}"))
}

fn health(cluster: &Cluster, node: Node) -> anyhow::Result<Vec<String>> {
    let health = |endpoint: &Value| endpoint["status"]["health"].as_str().unwrap_or_default().to_owned();
    Ok(endpoints(cluster, node)?.iter().map(health).collect())
}

/// Waits until the cluster agrees that the endpoints are so.
fn wait_health(cluster: &Cluster, wanted: [&str; 3]) -> anyhow::Result<()> {
    wait::until(&format!("the endpoints to be {wanted:?}"), VERDICT, || {
        for node in Node::DATAPLANE {
            if health(cluster, node)? != wanted {
                return Ok(None);
            }
        }
        Ok(Some(()))
    })
}
