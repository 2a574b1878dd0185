//! How far other nodes are behind the one that answers: part of `cluster status`.

use lockstep_proto::inspect::v1 as inspect;
use serde_json::{Value, json};

use crate::print;

pub(super) fn object(status: &inspect::SyncStatusResponse) -> Value {
    let peers = status.peers.iter().map(|peer| {
        let lags = peer.lags.iter().map(|lag| {
            json!({"group": lag.group_name, "samples": lag.samples, "p50_ms": ms(lag.p50_ns),
                "p99_ms": ms(lag.p99_ns), "max_ms": ms(lag.max_ns)})
        });
        let snapshot = peer.snapshot.as_ref().map(|walk| {
            json!({"elapsed_ms": ms(walk.elapsed_ns), "confirmed": walk.confirmed, "expected": walk.expected,
                "left_ms": walk.left_ns.map(ms)})
        });
        json!({"peer": peer.peer_name, "streams": peer.streams, "shards": peer.shards, "caught_up": peer.caught_up,
            "problem": peer.problem, "unsynced": peer.unsynced, "oldest_ms": ms(peer.oldest_ns),
            "records_per_second": peer.records_per_second, "bytes_per_second": peer.bytes_per_second,
            "records_total": peer.records_total, "bytes_total": peer.bytes_total,
            "lags": lags.collect::<Vec<_>>(), "snapshot": snapshot})
    });
    json!({"peers": peers.collect::<Vec<_>>(), "events_lost": status.events_lost,
        "write_failures": status.write_failures, "young_flows": status.young_flows,
        "comparisons": status.comparisons, "diverged_flows": status.diverged_flows,
        "comparisons_abandoned": status.comparisons_abandoned})
}

/// Nothing on a node that replicates nothing.
pub(super) fn text(status: &inspect::SyncStatusResponse) {
    if status.peers.is_empty() {
        return;
    }
    print::text(&format!(
        "\nreplication from this node; events lost {}, writes of others' flows failed {}, young flows {}\n\
         digests of others compared {}, flows diverged and repaired {}\n",
        status.events_lost,
        status.write_failures,
        status.young_flows,
        status.comparisons,
        status.diverged_flows
    ));
    let rows: Vec<Vec<String>> = status.peers.iter().map(row).collect();
    print::table(
        &[
            "PEER",
            "STATE",
            "UNSYNCED",
            "OLDEST",
            "RECORDS/S",
            "BYTES/S",
            "LAG (GROUP P50/P99/MAX)",
            "SNAPSHOT",
        ],
        &rows,
    );
}

fn row(peer: &inspect::SyncPeer) -> Vec<String> {
    let lags = peer.lags.iter().filter(|lag| lag.samples > 0).map(|lag| {
        let [p50, p99, max] = [lag.p50_ns, lag.p99_ns, lag.max_ns].map(print::nanoseconds);
        format!("{} {p50}/{p99}/{max}", lag.group_name)
    });
    let lags: Vec<String> = lags.collect();
    vec![
        peer.peer_name.clone(),
        state(peer),
        peer.unsynced.to_string(),
        print::nanoseconds(peer.oldest_ns),
        format!("{:.0}", peer.records_per_second),
        format!("{:.0}", peer.bytes_per_second),
        if lags.is_empty() { "-".to_owned() } else { lags.join(", ") },
        peer.snapshot.as_ref().map_or_else(|| "-".to_owned(), snapshot),
    ]
}

fn state(peer: &inspect::SyncPeer) -> String {
    match (peer.problem.as_str(), peer.caught_up, peer.streams) {
        ("", true, _) => "caught up".to_owned(),
        ("", false, 0) => "away".to_owned(),
        ("", false, _) => "syncing".to_owned(),
        (problem, ..) => format!("refused: {problem}"),
    }
}

fn snapshot(walk: &inspect::SyncSnapshot) -> String {
    let left = walk.left_ns.map_or_else(|| "?".to_owned(), print::nanoseconds);
    format!("{} of about {}, {left} left", walk.confirmed, walk.expected)
}

fn ms(ns: u64) -> f64 {
    ns as f64 / 1e6
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_peer_says_why_and_is_not_caught_up() {
        let peer = |problem: &str, caught_up, streams| inspect::SyncPeer {
            problem: problem.to_owned(),
            caught_up,
            streams,
            ..Default::default()
        };
        assert_eq!(state(&peer("", true, 4)), "caught up");
        assert_eq!(state(&peer("", false, 0)), "away");
        assert_eq!(state(&peer("", false, 4)), "syncing");
        assert_eq!(state(&peer("versions", false, 0)), "refused: versions");
    }

    #[test]
    fn what_is_left_of_a_walk_is_said_only_where_it_is_known() {
        let walk = |left_ns| inspect::SyncSnapshot { elapsed_ns: 1, confirmed: 5, expected: 9, left_ns };
        assert_eq!(snapshot(&walk(None)), "5 of about 9, ? left");
        assert!(snapshot(&walk(Some(2_000_000_000))).starts_with("5 of about 9, 2"));
    }
}
