//! What others see of a node: a generic gRPC client finds the services by reflection and calls them, health and
//! metrics answer, every reason is counted from zero on, and nobody without the cluster's certificate gets past
//! the listener between nodes.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::Context;
use serde_json::Value;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};
use tonic_reflection::pb::v1::ServerReflectionRequest;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;

use crate::api;
use crate::certificates::Keys;
use crate::cluster::Cluster;
use crate::manifest::{EXAMPLE, Profile};
use crate::topology::Node;

const SERVICES: [&str; 3] =
    ["lockstep.admin.v1.Admin", "lockstep.inspect.v1.Inspect", "grpc.health.v1.Health"];
pub(super) const METRICS: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 9430);
/// Between nodes: the cluster's, and replication's.
const NODE_PORTS: [u16; 2] = [7400, 7402];
const LIMIT: Duration = Duration::from_secs(5);

pub(super) fn run() -> anyhow::Result<()> {
    let mut cluster = Cluster::start(EXAMPLE, Profile::Lan)?;
    check(&cluster).map_err(|error| cluster.explain(error))
}

fn check(cluster: &Cluster) -> anyhow::Result<()> {
    cluster.wait_ready()?;
    for node in Node::ALL {
        let there = cluster.topology.node(node);
        let (services, health) =
            api::ask(there, async |channel| Ok((services(channel.clone()).await?, health(channel).await?)))?;
        for service in SERVICES {
            let found = services.iter().any(|name| name == service);
            anyhow::ensure!(found, "reflection at {} shows no {service}: {services:?}", node.name());
        }
        anyhow::ensure!(
            health.status() == ServingStatus::Serving,
            "{} says it is {:?}",
            node.name(),
            health.status()
        );
        let metrics = there.run(|| http_get(METRICS, "/metrics"))?;
        anyhow::ensure!(metrics.contains("lockstep_"), "no metric at {}: {metrics}", node.name());
        anyhow::ensure!(metrics.trim_end().ends_with("# EOF"), "/metrics is cut off at {}", node.name());
        there.run(|| http_get(METRICS, "/healthz"))?;
        there.run(|| http_get(METRICS, "/readyz"))?;
    }
    every_reason_is_shown(cluster)?;
    strangers_stay_out(cluster)
}

async fn services(channel: Channel) -> anyhow::Result<Vec<String>> {
    let request = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let mut answers = ServerReflectionClient::new(channel)
        .server_reflection_info(tokio_stream::once(request))
        .await
        .context("reflection")?
        .into_inner();
    let answer = answers.message().await.context("reflection")?.context("reflection gives no answer")?;
    match answer.message_response {
        Some(MessageResponse::ListServicesResponse(list)) => {
            Ok(list.service.into_iter().map(|service| service.name).collect())
        }
        other => anyhow::bail!("reflection answers {other:?}"),
    }
}

async fn health(channel: Channel) -> anyhow::Result<HealthCheckResponse> {
    let request = HealthCheckRequest { service: String::new() };
    Ok(HealthClient::new(channel).check(request).await.context("health")?.into_inner())
}

/// A body, if the answer is 200.
pub(super) fn http_get(address: SocketAddr, path: &str) -> anyhow::Result<String> {
    let mut socket = TcpStream::connect_timeout(&address, LIMIT).context("cannot connect")?;
    socket.set_read_timeout(Some(LIMIT))?;
    write!(socket, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    socket.read_to_string(&mut answer).with_context(|| format!("{path} is not answered"))?;
    anyhow::ensure!(answer.starts_with("HTTP/1.1 200 "), "{path}: {answer}");
    Ok(answer)
}

fn every_reason_is_shown(cluster: &Cluster) -> anyhow::Result<()> {
    let text = cluster.lockstep(Node::A, &["counters", "-o", "json"])?;
    let parsed: Value = serde_json::from_str(&text).context("`lockstep counters -o json` is no JSON")?;
    let list = parsed.as_array().or_else(|| parsed["items"].as_array()).context("not a list of counters")?;
    let zero = list.iter().any(|counter| counter["name"] == "reply_without_flow" && counter["value"] == 0);
    anyhow::ensure!(zero, "a reason that never occurred is not shown: {text}");
    Ok(())
}

/// The listeners between nodes take a client with a certificate of the cluster's authority, and no other.
fn strangers_stay_out(cluster: &Cluster) -> anyhow::Result<()> {
    let strangers = Keys::create(&cluster.run.folder().join("strangers"), &Node::ALL)?;
    NODE_PORTS
        .iter()
        .try_for_each(|port| stays_shut(cluster, &strangers, *port).with_context(|| format!("port {port}")))
}

fn stays_shut(cluster: &Cluster, strangers: &Keys, port: u16) -> anyhow::Result<()> {
    let address = format!("{}:{port}", Node::A.management());
    let reach = |keys: &Keys, identity: bool| {
        let ca = Certificate::from_pem(std::fs::read(cluster.keys().ca())?);
        let mut tls = ClientTlsConfig::new().ca_certificate(ca);
        if identity {
            let certificate = std::fs::read(keys.certificate(Node::W))?;
            tls = tls.identity(Identity::from_pem(certificate, std::fs::read(keys.key(Node::W))?));
        }
        let endpoint = Endpoint::from_shared(format!("https://{address}"))?.tls_config(tls)?;
        call(cluster, endpoint)
    };
    reach(cluster.keys(), true).context("a client with the cluster's certificate is refused")?;
    anyhow::ensure!(reach(cluster.keys(), false).is_err(), "a client without a certificate gets in");
    anyhow::ensure!(reach(strangers, true).is_err(), "a client of another authority gets in");
    let plain = Endpoint::from_shared(format!("http://{address}"))?;
    anyhow::ensure!(call(cluster, plain).is_err(), "a client without TLS gets in");
    Ok(())
}

/// Makes any call from the witness's side; an error of the service itself still means that the client is in.
fn call(cluster: &Cluster, endpoint: Endpoint) -> anyhow::Result<()> {
    api::ask_at(cluster.topology.node(Node::W), endpoint, async |channel| {
        let request = HealthCheckRequest { service: String::new() };
        match HealthClient::new(channel).check(request).await {
            Err(status) if status.code() != tonic::Code::Unimplemented => Err(status.into()),
            _ => Ok(()),
        }
    })
}
