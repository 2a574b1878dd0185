//! How far each peer is behind this node, for `/metrics`.

use std::collections::BTreeMap;
use std::fmt;

use lockstep_model::ids::NodeId;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

use super::PeerStatus;
use crate::parts::Parts;

pub(crate) fn encode(parts: &Parts, encoder: &mut DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
    let Some(sync) = parts.sync() else { return Ok(()) };
    let state = parts.raft.stale();
    let name = |id: &NodeId| state.nodes.get(id).map_or_else(|| id.to_string(), |spec| spec.name.clone());
    let peers = sync.peers();
    type Value = fn(&PeerStatus) -> f64;
    let gauges: [(&str, &str, Value); 8] = [
        ("sync_streams", "Streams on which a peer receives this node's flows", |p| f64::from(p.streams)),
        ("sync_unacknowledged_flows", "Flows whose newest version a peer has not confirmed", |p| {
            p.unsynced as f64
        }),
        ("sync_walks", "Walks of a group and shard that a peer needs or receives", |p| p.walks as f64),
        (
            "sync_oldest_unacknowledged_seconds",
            "How long the oldest of those flows and walks has waited",
            |p| p.oldest.as_secs_f64(),
        ),
        ("sync_records_per_second", "Records sent to a peer, over about the last second", |p| p.rate.records),
        (
            "sync_bytes_per_second",
            "Bytes of messages to a peer, before encryption, over about the last second",
            |p| p.rate.bytes,
        ),
        (
            "sync_snapshot_ratio",
            "How much of the walks under way a peer has confirmed, 0 to 1 (estimated); 1 without a walk",
            |p| p.progress.map_or(1.0, |of| of.confirmed as f64 / of.expected.max(1) as f64),
        ),
        (
            "sync_snapshot_left_seconds",
            "How long the walks under way will take (estimated); 0 without one, or before its first record",
            |p| p.progress.and_then(|of| of.left()).map_or(0.0, |left| left.as_secs_f64()),
        ),
    ];
    for (metric, help, value) in gauges {
        let mut family = encoder.encode_descriptor(metric, help, None, MetricType::Gauge)?;
        for (peer, status) in &peers {
            let labels = [("peer", name(peer))];
            ConstGauge::new(value(status)).encode(family.encode_family(&labels)?)?;
        }
    }
    type Total = fn(&PeerStatus) -> u64;
    let totals: [(&str, &str, Total); 2] = [
        ("sync_records_sent", "Records sent to a peer since the start", |p| p.records),
        ("sync_bytes_sent", "Bytes of messages to a peer since the start, before encryption", |p| p.bytes),
    ];
    for (metric, help, value) in totals {
        let mut family = encoder.encode_descriptor(metric, help, None, MetricType::Counter)?;
        for (peer, status) in &peers {
            let labels = [("peer", name(peer))];
            ConstCounter::new(value(status)).encode(family.encode_family(&labels)?)?;
        }
    }
    encode_lags(parts, &peers, &name, encoder)?;
    let help = "Flows of a service with `sync: after:…` that are too young to be sent";
    let young = encoder.encode_descriptor("sync_young_flows", help, None, MetricType::Gauge)?;
    ConstGauge::new(sync.young() as i64).encode(young)
}

/// From the change in this node's kernel until it heard that the flow is in the peer's.
fn encode_lags(
    parts: &Parts,
    peers: &BTreeMap<NodeId, PeerStatus>,
    name: &dyn Fn(&NodeId) -> String,
    encoder: &mut DescriptorEncoder<'_>,
) -> Result<(), fmt::Error> {
    let help = "From a change in this node's kernel until its acknowledgement by a peer, over the last 10 to 20 s; 1: the longest";
    let mut family = encoder.encode_descriptor("sync_lag_seconds", help, None, MetricType::Gauge)?;
    for (peer, status) in peers {
        for (group, lag) in status.lags.iter().filter(|(_, lag)| lag.samples > 0) {
            for (quantile, value) in [("0.5", lag.p50), ("0.99", lag.p99), ("1", lag.max)] {
                let (group, quantile) = (parts.group_name(*group), quantile.to_owned());
                let labels = [("peer", name(peer)), ("group", group), ("quantile", quantile)];
                ConstGauge::new(value.as_secs_f64()).encode(family.encode_family(&labels)?)?;
            }
        }
    }
    Ok(())
}
