//! Limits of flow replication (I13). What happens at each is said where it is enforced.

use std::time::Duration;

/// Records in one batch.
pub const MAX_BATCH_RECORDS: usize = 512;

/// Packed records of one batch, in bytes.
pub const MAX_BATCH_BYTES: usize = 64 * 1024;

/// The longest packed record of any version: an IPv6 flow with an IPv6 endpoint and a translated source.
pub const MAX_RECORD_BYTES: usize = 122;

const _: () = assert!(MAX_BATCH_RECORDS * MAX_RECORD_BYTES <= MAX_BATCH_BYTES, "a full batch fits");

/// Unacknowledged positions of a stream that a subscriber offers to hold. About a millisecond of kernel
/// writes each way at a million records a second, times four.
pub const WINDOW: u64 = 8192;

/// Flows whose newest version a connected peer lacks, for each stream. Beyond it they are forgotten and the
/// stream's groups walked again; more flows than this cannot differ without a walk being cheaper.
pub const MAX_DIRTY: usize = 1 << 20;

/// The same while the peer is away: it will probably come back restarted and need a walk anyway, and to wait for it may take
/// little memory.
pub const MAX_DIRTY_AWAY: usize = 1 << 14;

/// Flows that wait to be old enough for their service's policy. Beyond it a young flow is sent at once: more flows are
/// replicated than were asked for, and none less.
pub const MAX_YOUNG: usize = 1 << 17;

/// How long the first that needs the table read waits for others: the streams of a peer, the groups of a lost node, come one after
/// the other, and who comes when the reading has begun waits for the next one.
pub const WALK_TOGETHER: Duration = Duration::from_millis(20);

/// Records of a walk that wait in one stream before the next page of the table is read.
pub const WALK_BACKLOG: usize = 4096;

/// Live records sent before one of a walk is, when both wait: live ones are what a takeover would miss.
pub const LIVE_BEFORE_WALK: usize = 3;

/// That a flow ends, which the peer was told of, waits this long for others: each side closes a connection, then its entry goes.
/// A standby that takes over meanwhile keeps a flow that is over until its timeout; it lacks none that lives.
pub const LATER: Duration = Duration::from_millis(10);

/// A refused record is sent again after this, doubled by each refusal …
pub const RETRY_FIRST: Duration = Duration::from_millis(10);

/// … up to this.
pub const RETRY_LAST: Duration = Duration::from_secs(2);

/// A stream whose oldest position is not acknowledged for this long is closed, so that one stuck peer
/// cannot hold up a walk for the others.
pub const STALL: Duration = Duration::from_secs(5);

/// How often an idle stream says that it is alive.
pub const HEARTBEAT: Duration = Duration::from_millis(100);

/// How long a former owner still sends what it had not sent: the new owner takes it for one grace period.
pub const DISOWNED_KEPT: Duration = Duration::from_secs(2);

/// How long a new owner takes records of an older epoch, where it holds nothing itself.
pub const TAKEOVER_GRACE: Duration = Duration::from_secs(1);

/// How long after a takeover, or a change of who holds a group, others are told to remove its flows. Nobody waits for that.
pub const REMOVE_LATER: Duration = Duration::from_secs(1);

/// How long after a failed read of the table the walk begins again.
pub const WALK_RETRY: Duration = Duration::from_millis(100);

/// Refused keys remembered for each stream; beyond it the stream is closed and begins again with a walk.
pub const MAX_REFUSED: usize = 1 << 16;

/// Between two rounds of digests. A round reads both tables once; a divergence takes three rounds to be found and repaired.
pub const AUDIT_PAUSE: Duration = Duration::from_secs(6);

/// The same when buckets differed: the next round says them in full.
pub const AUDIT_AGAIN: Duration = Duration::from_millis(200);

/// The same when a round ended without every subscriber's result.
pub const AUDIT_RETRY: Duration = Duration::from_secs(2);

/// A round that takes longer is given up: a peer does not answer.
pub const AUDIT_LIMIT: Duration = Duration::from_secs(10);

/// Records of a stream between the markers of a round; with more, the round says nothing of the stream.
pub const MAX_AUDIT_CHANGES: usize = 1 << 20;

/// Buckets of a stream that one round says in full …
pub const MAX_SUSPECTS: usize = 32;

/// … and records of them, at most: two megabytes.
pub const MAX_AUDIT_RECORDS: usize = 1 << 15;
