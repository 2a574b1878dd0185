//! What the streams count.

use std::sync::atomic::{AtomicU64, Ordering};

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TransportCounter {
    /// Streams opened to peers.
    StreamsOpened,
    /// Attempts to open a stream that failed.
    StreamsFailed,
    /// Streams that peers opened here.
    StreamsServed,
    /// Streams refused: another cluster.
    RefusedCluster,
    /// Streams refused: another number of shards, or a shard that does not exist.
    RefusedShards,
    /// Streams refused: no record version in common.
    RefusedVersion,
    /// Streams refused: no usable first message.
    RefusedHello,
    /// Messages that could not be read; the stream was closed.
    Malformed,
    /// Streams closed because nothing came for too long.
    Silent,
}

impl TransportCounter {
    const ALL: [(Self, &'static str); 9] = [
        (Self::StreamsOpened, "streams_opened"),
        (Self::StreamsFailed, "streams_failed"),
        (Self::StreamsServed, "streams_served"),
        (Self::RefusedCluster, "refused_cluster"),
        (Self::RefusedShards, "refused_shards"),
        (Self::RefusedVersion, "refused_version"),
        (Self::RefusedHello, "refused_hello"),
        (Self::Malformed, "malformed"),
        (Self::Silent, "silent"),
    ];
}

/// Events of all streams since the start.
#[derive(Debug, Default)]
pub struct TransportCounters([AtomicU64; TransportCounter::ALL.len()]);

impl TransportCounters {
    pub(crate) fn count(&self, counter: TransportCounter) {
        self.0[counter as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// The value of one.
    pub fn get(&self, counter: TransportCounter) -> u64 {
        self.0[counter as usize].load(Ordering::Relaxed)
    }

    /// Every counter by name, also those at zero.
    pub fn named(&self) -> Vec<(&'static str, u64)> {
        TransportCounter::ALL.iter().map(|(counter, name)| (*name, self.get(*counter))).collect()
    }
}
