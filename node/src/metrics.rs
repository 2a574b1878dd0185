//! HTTP for machines: `/metrics` (OpenMetrics), `/healthz` (the process runs), `/readyz` (it does its job).

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context, Result};
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use lockstep_loader::PortUsage;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;

use crate::parts::Parts;
use crate::{counters, health, sync};

const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Serves until the process ends.
pub(crate) async fn serve(listen: SocketAddr, parts: Arc<Parts>) -> Result<()> {
    let listener = tokio::net::TcpListener::bind(listen)
        .await
        .with_context(|| format!("metrics.listen: {listen} cannot be bound"))?;
    let mut registry = Registry::with_prefix("lockstep");
    registry.register_collector(Box::new(Node { parts: parts.clone() }));
    let registry = Arc::new(registry);
    let router = axum::Router::new()
        .route("/metrics", get(move || metrics(registry.clone())))
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(move || ready(parts.clone())));
    tokio::spawn(async move {
        if let Err(error) = axum::serve(listener, router).await {
            tracing::error!(%error, "the metrics server ended");
        }
    });
    Ok(())
}

async fn metrics(registry: Arc<Registry>) -> impl IntoResponse {
    let mut body = String::new();
    match prometheus_client::encoding::text::encode(&mut body, &registry) {
        Ok(()) => (StatusCode::OK, [(header::CONTENT_TYPE, CONTENT_TYPE)], body),
        Err(error) => {
            (StatusCode::INTERNAL_SERVER_ERROR, [(header::CONTENT_TYPE, "text/plain")], error.to_string())
        }
    }
}

async fn ready(parts: Arc<Parts>) -> impl IntoResponse {
    match parts.not_ready() {
        None => (StatusCode::OK, "ready\n".to_owned()),
        Some(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")),
    }
}

struct Node {
    parts: Arc<Parts>,
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Node")
    }
}

impl Collector for Node {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), fmt::Error> {
        let mut families: BTreeMap<&str, Vec<counters::Counter>> = BTreeMap::new();
        for counter in counters::read(&self.parts) {
            families.entry(counter.family).or_default().push(counter);
        }
        for (family, list) in families {
            let mut metric =
                encoder.encode_descriptor(family, counters::help(family), None, MetricType::Counter)?;
            for counter in list {
                let labels = [("reason", counter.name.as_str())];
                ConstCounter::new(counter.value).encode(metric.encode_family(&labels)?)?;
            }
        }
        let raft = self.parts.raft.metrics();
        let is_leader = raft.leader.is_some() && raft.leader == self.parts.raft.identity().map(|i| i.node);
        let mut gauges = vec![
            ("raft_term", "Raft term", raft.term),
            ("raft_applied_index", "Last log index applied here", raft.applied),
            ("raft_is_leader", "1 on the leader", u64::from(is_leader)),
            (
                "disk_full",
                "1 while the store is stopped for want of space; it goes on by itself",
                u64::from(self.parts.raft.disk_full().is_some()),
            ),
            (
                "raft_stopped",
                "1 while Raft is stopped, for whatever reason",
                u64::from(raft.stopped.is_some()),
            ),
            ("revision", "Revision of the intent known here", self.parts.raft.stale().revision.get()),
            (
                "groups_owned",
                "Groups whose lease this node holds",
                self.parts.lease().map_or(0, |lease| lease.held().len() as u64),
            ),
        ];
        if let Some(dataplane) = &self.parts.dataplane {
            let programmed = dataplane.programmed().revision.get();
            gauges.push(("programmed_revision", "Revision that the kernel holds", programmed));
            gauges.extend(dataplane.hops.gauges());
        }
        if let Some(dataplane) = &self.parts.dataplane {
            encode_ports(&mut encoder, &dataplane.flows.port_usage())?;
        }
        health::metrics::encode(&self.parts, &mut encoder)?;
        sync::metrics::encode(&self.parts, &mut encoder)?;
        for (name, help, value) in gauges {
            let metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            ConstGauge::new(value as i64).encode(metric)?;
        }
        Ok(())
    }
}

/// Source ports by address, as of the sweeper's last pass; of a standby's addresses as well, which holds their flows.
fn encode_ports(encoder: &mut DescriptorEncoder<'_>, usage: &[PortUsage]) -> Result<(), fmt::Error> {
    type Value = fn(&PortUsage) -> u32;
    let gauges: [(&str, &str, Value); 2] = [
        ("ports_used", "Source ports in use, by address", |usage| usage.ports_used),
        ("ports_total", "Source ports of the blocks that the address has; it can have 64512", |usage| {
            usage.ports_total
        }),
    ];
    for (name, help, value) in gauges {
        let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for usage in usage {
            let labels = [("address", usage.address.to_string())];
            ConstGauge::new(i64::from(value(usage))).encode(metric.encode_family(&labels)?)?;
        }
    }
    Ok(())
}
