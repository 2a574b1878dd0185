//! How Raft is tuned, and why.

use std::time::Duration;

use openraft::{Config, SnapshotPolicy};

/// A leader says that it lives this often.
pub const HEARTBEAT: Duration = Duration::from_millis(50);

/// A node that cannot be reached is sent entries again after this, and not after longer and longer as openraft would
/// have it (a second and more): one that comes back has to know within an instant what it no longer owns, and be there
/// for the next commit. A heartbeat that is refused costs as much.
pub const UNREACHABLE_RETRY: Duration = HEARTBEAT;

/// A follower that hears nothing waits between this and [`ELECTION_MAX`], drawn anew for each campaign. Measured
/// with three nodes: 0.48 s from the leader's death to the next commit in the median, under 0.6 s at worst.
pub const ELECTION_MIN: Duration = Duration::from_millis(150);

/// See [`ELECTION_MIN`].
pub const ELECTION_MAX: Duration = Duration::from_millis(300);

/// A leader that has heard no majority for this long checks whether it still leads: without it, a leader cut off
/// from a majority in one direction keeps its followers from electing another. At least lease plus election
/// timeout, which are both [`ELECTION_MAX`].
pub const QUORUM_LOSS_PROBE: Duration = Duration::from_millis(600);

/// A snapshot is made when this many entries follow the last one: bounds the log, and the time a restart takes.
pub const SNAPSHOT_EVERY: u64 = 5000;

/// Entries that stay although a snapshot holds them, so that a node that was away briefly needs no snapshot.
pub const KEPT_ENTRIES: u64 = 1000;

/// Chunks a snapshot is sent in.
pub const SNAPSHOT_CHUNK: usize = 1 << 20;

/// A snapshot that claims to be larger is refused before it is received. Far above what the model's limits
/// allow to be written.
pub const MAX_SNAPSHOT: usize = 256 << 20;

/// Nodes that vote, at most, by joining: five survive two deaths, and every commit and lease waits for three. More would
/// cost more than they give.
pub const MAX_VOTERS: usize = 5;

/// How far the log of a cluster that is made from another's state begins beyond it. Log indexes are epochs, and those
/// who are lost may have gone on: 2^32 entries are five days at 10000 a second. Ids have 44 bits for the index
/// (`LogIndex::object`), so that this can be done 4096 times.
pub const EPOCH_JUMP: u64 = 1 << 32;

/// A command that encodes to more is refused before it is proposed. Below what a log record and an RPC hold.
pub const MAX_COMMAND: usize = 8 << 20;

/// An RPC's message, at most: one command of the largest size, and room for what surrounds it.
pub const MAX_MESSAGE: usize = 12 << 20;

/// Bytes that must be free before a store that stopped on a full disk is opened again: room for a snapshot and what is
/// left of a segment, so that it does not stop again at once.
pub const RESUME_FREE: u64 = 16 << 20;

/// Between two looks at a full disk.
pub const RESUME_LOOK: Duration = Duration::from_millis(200);

/// Time for a snapshot to arrive.
pub const SNAPSHOT_TIMEOUT: Duration = Duration::from_secs(10);

/// How often a snapshot is made, which tests lower.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Compaction {
    /// Entries between snapshots.
    pub snapshot_every: u64,
    /// Entries that stay behind a snapshot.
    pub kept_entries: u64,
}

impl Default for Compaction {
    fn default() -> Self {
        Compaction { snapshot_every: SNAPSHOT_EVERY, kept_entries: KEPT_ENTRIES }
    }
}

fn ms(duration: Duration) -> u64 {
    duration.as_millis().try_into().expect("timings are far below the limit")
}

/// Raft's configuration.
pub(crate) fn raft_config(cluster: &str, compaction: Compaction) -> Config {
    Config {
        cluster_name: cluster.to_owned(),
        heartbeat_interval: ms(HEARTBEAT),
        election_timeout_min: ms(ELECTION_MIN),
        election_timeout_max: ms(ELECTION_MAX),
        quorum_loss_probe_interval: Some(ms(QUORUM_LOSS_PROBE)),
        // A node that comes back from a partition must not depose a leader that serves.
        enable_pre_vote: Some(true),
        // What is committed is not synced with every commit, so a restarted leader may not know all of it.
        enable_leader_restore: Some(false),
        install_snapshot_timeout: ms(SNAPSHOT_TIMEOUT),
        snapshot_policy: SnapshotPolicy::LogsSinceLast(compaction.snapshot_every),
        max_in_snapshot_log_to_keep: compaction.kept_entries,
        replication_lag_threshold: compaction.snapshot_every,
        ..Config::default()
    }
}
