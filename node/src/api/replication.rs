//! Replication as the inspect API shows it: to each peer, by the clock of this node.

use lockstep_model::flow::SHARDS;
use lockstep_model::ids::NodeId;
use lockstep_proto::inspect::v1 as pb;

use crate::parts::Parts;
use crate::sync::{PeerStatus, Sync};

/// Adds to `answer` what is not of a single stream.
pub(super) fn add(parts: &Parts, sync: &Sync, answer: &mut pb::SyncStatusResponse) {
    answer.peers = sync.peers().into_iter().map(|(id, status)| peer(parts, sync, id, status)).collect();
    let counters = sync.counters();
    let sum = |names: &[&str]| {
        counters.iter().filter(|(name, _)| names.contains(&name.as_str())).map(|(_, value)| value).sum()
    };
    answer.events_lost = sum(&["events_lost"]);
    answer.write_failures = sum(&WRITE_FAILURES);
    answer.young_flows = sync.young();
    answer.comparisons = sum(&["receiver_audits"]);
    answer.diverged_flows = sum(&DIVERGENCES);
    answer.comparisons_abandoned = sum(&["origin_audits_abandoned"]);
}

/// See the receiver's counters of these names.
const DIVERGENCES: [&str; 3] =
    ["receiver_divergences_missing", "receiver_divergences_extra", "receiver_divergences_changed"];

/// See the receiver's counters of these names.
const WRITE_FAILURES: [&str; 3] =
    ["receiver_failed_full", "receiver_failed_unknown_group", "receiver_failed_kernel"];

fn peer(parts: &Parts, sync: &Sync, id: NodeId, status: PeerStatus) -> pb::SyncPeer {
    let state = parts.raft.stale();
    let name = state.nodes.get(&id).map(|spec| spec.name.clone()).unwrap_or_default();
    let lags = status.lags.iter().map(|(group, lag)| pb::SyncLag {
        group: group.get(),
        group_name: parts.group_name(*group),
        samples: lag.samples,
        p50_ns: lag.p50.as_nanos() as u64,
        p99_ns: lag.p99.as_nanos() as u64,
        max_ns: lag.max.as_nanos() as u64,
    });
    pb::SyncPeer {
        peer: id.get(),
        peer_name: name,
        streams: status.streams,
        shards: SHARDS.into(),
        caught_up: status.streams == u32::from(SHARDS) && status.walks == 0,
        problem: sync.refusal(id).unwrap_or_default(),
        unsynced: status.unsynced,
        oldest_ns: status.oldest.as_nanos() as u64,
        records_per_second: status.rate.records,
        bytes_per_second: status.rate.bytes,
        records_total: status.records,
        bytes_total: status.bytes,
        lags: lags.collect(),
        snapshot: status.progress.map(|progress| pb::SyncSnapshot {
            elapsed_ns: progress.elapsed.as_nanos() as u64,
            confirmed: progress.confirmed,
            expected: progress.expected,
            left_ns: progress.left().map(|left| left.as_nanos() as u64),
        }),
    }
}
