//! How far each peer is behind this node: the shards of one peer together.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use lockstep_model::ids::{GroupId, NodeId};
use lockstep_sync_core::{Lag, StreamLag};

/// Rates are over at least this long.
const RATE_OVER: Duration = Duration::from_secs(1);

/// Replication to one peer.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct PeerStatus {
    /// Streams that are up.
    pub(crate) streams: u32,
    /// Flows whose newest version the peer has not confirmed.
    pub(crate) unsynced: u64,
    /// How long the oldest of them, or of the walks, has waited.
    pub(crate) oldest: Duration,
    /// Walks of a group and shard that are needed or under way.
    pub(crate) walks: u64,
    /// Records sent since the start.
    pub(crate) records: u64,
    /// Bytes of messages since the start.
    pub(crate) bytes: u64,
    pub(crate) rate: Rate,
    /// By group, how long changes took lately.
    pub(crate) lags: Vec<(GroupId, Lag)>,
    /// Of the walks under way.
    pub(crate) progress: Option<Progress>,
}

/// Per second.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Rate {
    pub(crate) records: f64,
    pub(crate) bytes: f64,
}

/// How far walks are.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Progress {
    pub(crate) elapsed: Duration,
    /// Records that the peer has confirmed.
    pub(crate) confirmed: u64,
    /// About how many there will be.
    pub(crate) expected: u64,
}

impl Progress {
    /// At the rate until now; unknown before the first record.
    pub(crate) fn left(&self) -> Option<Duration> {
        let left = self.expected.saturating_sub(self.confirmed) as f64;
        (self.confirmed > 0).then(|| self.elapsed.mul_f64(left / self.confirmed as f64))
    }
}

/// Sums shards up. `share` of the table was read by the walk under way.
pub(super) fn by_peer(
    streams: &[StreamLag],
    share: f64,
    bytes: impl Fn(NodeId) -> u64,
    lags: Vec<(NodeId, GroupId, Lag)>,
) -> BTreeMap<NodeId, PeerStatus> {
    let mut peers: BTreeMap<NodeId, PeerStatus> = BTreeMap::new();
    let mut found: BTreeMap<NodeId, u64> = BTreeMap::new();
    for lag in streams {
        let peer = peers.entry(lag.stream.peer).or_default();
        peer.streams += u32::from(lag.connected);
        peer.unsynced += lag.unacknowledged as u64;
        peer.walks += lag.walks as u64;
        peer.oldest = peer.oldest.max(lag.oldest);
        peer.records += lag.records;
        if lag.walks > 0 {
            let elapsed = lag.walking;
            let progress = peer.progress.get_or_insert(Progress { elapsed, confirmed: 0, expected: 0 });
            progress.elapsed = progress.elapsed.max(elapsed);
            progress.confirmed += lag.walk_confirmed;
            *found.entry(lag.stream.peer).or_default() += lag.walk_records + lag.walk_backlog as u64;
        }
    }
    for (id, peer) in &mut peers {
        peer.bytes = bytes(*id);
        if let Some(progress) = &mut peer.progress {
            let found = found.get(id).copied().unwrap_or_default();
            progress.expected = (found as f64 / share.clamp(1e-6, 1.0)) as u64;
        }
    }
    for (id, group, lag) in lags {
        peers.entry(id).or_default().lags.push((group, lag));
    }
    peers
}

/// Totals of a moment, from which rates are.
#[derive(Debug)]
pub(super) struct Rates {
    since: Instant,
    totals: BTreeMap<NodeId, (u64, u64)>,
    rates: BTreeMap<NodeId, Rate>,
}

impl Rates {
    pub(super) fn new(now: Instant) -> Self {
        Self { since: now, totals: BTreeMap::new(), rates: BTreeMap::new() }
    }

    /// Puts rates into `peers`.
    pub(super) fn apply(&mut self, now: Instant, peers: &mut BTreeMap<NodeId, PeerStatus>) {
        let passed = now - self.since;
        if passed >= RATE_OVER {
            let per_second = |now: u64, before: u64| now.saturating_sub(before) as f64 / passed.as_secs_f64();
            let rate = |(id, peer): (&NodeId, &PeerStatus)| {
                let (records, bytes) = self.totals.get(id).copied().unwrap_or_default();
                let rate =
                    Rate { records: per_second(peer.records, records), bytes: per_second(peer.bytes, bytes) };
                (*id, rate)
            };
            self.rates = peers.iter().map(rate).collect();
            self.totals = peers.iter().map(|(id, peer)| (*id, (peer.records, peer.bytes))).collect();
            self.since = now;
        }
        for (id, peer) in peers {
            peer.rate = self.rates.get(id).copied().unwrap_or_default();
        }
    }
}

#[cfg(test)]
mod tests {
    use lockstep_sync_core::StreamId;

    use super::*;

    fn stream(peer: u64, shard: u8) -> StreamLag {
        StreamLag {
            stream: StreamId { peer: NodeId(peer), shard },
            connected: true,
            position: 9,
            acknowledged: 8,
            nacks: 0,
            unacknowledged: 3,
            oldest: Duration::from_millis(u64::from(shard)),
            walks: 0,
            walking: Duration::ZERO,
            walk_records: 0,
            walk_confirmed: 0,
            walk_backlog: 0,
            records: 100,
        }
    }

    #[test]
    fn the_shards_of_a_peer_are_one() {
        let streams = [stream(1, 0), StreamLag { connected: false, ..stream(1, 7) }, stream(2, 1)];
        let lag = (NodeId(1), GroupId(5), Lag::default());
        let peers = by_peer(&streams, 1.0, |peer| peer.get() * 10, vec![lag]);
        let first = &peers[&NodeId(1)];
        assert_eq!((first.streams, first.unsynced, first.oldest.as_millis()), (1, 6, 7));
        assert_eq!((first.records, first.bytes, first.lags.len(), first.progress), (200, 10, 1, None));
        assert_eq!((peers[&NodeId(2)].streams, peers[&NodeId(2)].bytes), (1, 20));
    }

    #[test]
    fn what_is_left_of_a_walk_is_estimated_from_what_was_read() {
        let walking = |records, confirmed, backlog| StreamLag {
            walks: 1,
            walking: Duration::from_secs(2),
            walk_records: records,
            walk_confirmed: confirmed,
            walk_backlog: backlog,
            ..stream(1, 0)
        };
        let peers = by_peer(&[walking(600, 500, 50), walking(300, 0, 50)], 0.25, |_| 0, Vec::new());
        let progress = peers[&NodeId(1)].progress.unwrap();
        assert_eq!((progress.confirmed, progress.expected), (500, 4000));
        assert_eq!(progress.left(), Some(Duration::from_secs(14)));
        let begun = by_peer(&[walking(0, 0, 0)], 0.0, |_| 0, Vec::new());
        assert_eq!(begun[&NodeId(1)].progress.unwrap().left(), None);
    }

    #[test]
    fn rates_are_over_a_second_or_more() {
        let start = Instant::now();
        let mut rates = Rates::new(start);
        let mut at = |ms, records| {
            let mut peers = BTreeMap::from([(
                NodeId(1),
                PeerStatus { records, bytes: 10 * records, ..Default::default() },
            )]);
            rates.apply(start + Duration::from_millis(ms), &mut peers);
            (peers[&NodeId(1)].rate.records, peers[&NodeId(1)].rate.bytes)
        };
        assert_eq!(at(500, 300), (0.0, 0.0));
        assert_eq!(at(2000, 1000), (500.0, 5000.0));
        assert_eq!(at(2100, 2000), (500.0, 5000.0));
        assert_eq!(at(4000, 1400), (200.0, 2000.0));
    }
}
