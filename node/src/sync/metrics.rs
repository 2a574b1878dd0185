//! How far each peer is behind this node, for `/metrics`.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use lockstep_model::ids::NodeId;
use lockstep_sync_core::StreamLag;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::gauge::ConstGauge;

use crate::parts::Parts;

/// All shards of one peer.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Behind {
    streams: u64,
    unacknowledged: u64,
    walks: u64,
    oldest: Duration,
}

pub(crate) fn encode(parts: &Parts, encoder: &mut DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
    let Some(sync) = parts.sync() else { return Ok(()) };
    let state = parts.raft.stale();
    let name = |id: &NodeId| state.nodes.get(id).map_or_else(|| id.to_string(), |spec| spec.name.clone());
    let peers = by_peer(&sync.lag());
    type Value = fn(&Behind) -> f64;
    let gauges: [(&str, &str, Value); 4] = [
        ("sync_streams", "Streams on which a peer receives this node's flows", |b| b.streams as f64),
        ("sync_unacknowledged_flows", "Flows whose newest version a peer has not confirmed", |b| {
            b.unacknowledged as f64
        }),
        ("sync_walks", "Walks of a group and shard that a peer needs or receives", |b| b.walks as f64),
        (
            "sync_oldest_unacknowledged_seconds",
            "How long the oldest of those flows and walks has waited",
            |b| b.oldest.as_secs_f64(),
        ),
    ];
    for (metric, help, value) in gauges {
        let mut family = encoder.encode_descriptor(metric, help, None, MetricType::Gauge)?;
        for (peer, behind) in &peers {
            let labels = [("peer", name(peer))];
            ConstGauge::new(value(behind)).encode(family.encode_family(&labels)?)?;
        }
    }
    Ok(())
}

fn by_peer(streams: &[StreamLag]) -> BTreeMap<NodeId, Behind> {
    let mut peers: BTreeMap<NodeId, Behind> = BTreeMap::new();
    for lag in streams {
        let behind = peers.entry(lag.stream.peer).or_default();
        behind.streams += u64::from(lag.connected);
        behind.unacknowledged += lag.unacknowledged as u64;
        behind.walks += lag.walks as u64;
        behind.oldest = behind.oldest.max(lag.oldest);
    }
    peers
}

#[cfg(test)]
mod tests {
    use lockstep_sync_core::StreamId;

    use super::*;

    #[test]
    fn the_shards_of_a_peer_are_one() {
        let lag = |peer, shard, connected, unacknowledged, ms| StreamLag {
            stream: StreamId { peer: NodeId(peer), shard },
            connected,
            position: 9,
            acknowledged: 8,
            nacks: 0,
            unacknowledged,
            oldest: Duration::from_millis(ms),
            walks: 1,
        };
        let peers = by_peer(&[lag(1, 0, true, 3, 7), lag(1, 1, false, 4, 2), lag(2, 0, true, 0, 0)]);
        let behind = |streams, unacknowledged, walks, ms| Behind {
            streams,
            unacknowledged,
            walks,
            oldest: Duration::from_millis(ms),
        };
        assert_eq!(peers[&NodeId(1)], behind(1, 7, 2, 7));
        assert_eq!(peers[&NodeId(2)], behind(1, 0, 1, 0));
    }
}
