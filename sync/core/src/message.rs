//! What travels on a stream. The transport gives it a wire format.

use lockstep_model::flow::FlowChange;
use lockstep_model::ids::{Epoch, GroupId, LogIndex, NodeId};

use crate::audit::{RoundId, Sums, Suspect};

/// One start of an origin. Positions mean something within a session only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Session(pub [u8; 16]);

/// One direction of replication between two nodes, for one shard of the flows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId {
    /// The other node.
    pub peer: NodeId,
    /// The shard.
    pub shard: u8,
}

/// One life of a stream. The shell numbers them; what belongs to an earlier one is ignored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Connection(pub u64);

/// A walk of one group on one stream, unique within a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WalkId(pub u64);

/// Subscriber to origin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Up {
    /// The first message.
    Hello {
        /// The session `position` belongs to.
        session: Option<Session>,
        /// Everything up to here is in the subscriber's kernel.
        position: u64,
        /// Positions the origin may have unacknowledged.
        credit: u64,
        /// Whether it understands digests: one of an older version does not.
        audits: bool,
        /// Whether it understands [`Purpose::Remove`], likewise: it would take it for a group without flows.
        removes: bool,
    },
    /// Sent only after the kernel write.
    Ack {
        /// Everything up to here was handled.
        position: u64,
        /// What of it was not written.
        nacks: Vec<Nack>,
        /// Positions the origin may have unacknowledged.
        credit: u64,
    },
    /// The subscriber has read its table, after everything before the round's begin marker was in it.
    AuditReady {
        /// The round.
        round: RoundId,
    },
    /// What came of the round.
    AuditResult {
        /// The round.
        round: RoundId,
        /// Buckets that differ; at most [`crate::limits::MAX_SUSPECTS`].
        suspects: Vec<Suspect>,
    },
}

/// A record that the subscriber could not write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Nack {
    /// Its position.
    pub position: u64,
    /// Why.
    pub reason: NackReason,
}

/// Why a record was not written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum NackReason {
    /// The flow table is full.
    Full,
    /// The VIP, service or group is not known to the subscriber (yet).
    UnknownGroup,
    /// The kernel refused.
    Failed,
    /// The record's epoch is older than one the subscriber knows. Final.
    OldEpoch,
    /// Of a walk that would remove the group: the subscriber has heard later than its origin that it is to hold it.
    Outdated,
}

/// What a walk is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// The subscriber holds the group, or is to, since this index of the log. Who was out for a while is told by that to
    /// which of the times what it was sent belongs. 0: the origin is of a version that does not say.
    Hold(LogIndex),
    /// It is not to hold it any more, as of this index of the log: nothing is mentioned.
    Remove(LogIndex),
}

impl Purpose {
    /// Whether the table is read for it.
    pub fn mentions(self) -> bool {
        matches!(self, Purpose::Hold(_))
    }
}

/// Origin to subscriber.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Down {
    /// The first message.
    Welcome {
        /// The origin's session.
        session: Session,
        /// Whether the stream goes on where Hello said; else a walk of every owned group follows.
        resumed: bool,
        /// The position before the next one.
        position: u64,
    },
    /// Records of one group.
    Batch {
        /// The group.
        group: GroupId,
        /// The epoch the origin owns it in.
        epoch: Epoch,
        /// Position of the last record; they are consecutive.
        position: u64,
        /// At most [`crate::limits::MAX_BATCH_RECORDS`].
        changes: Vec<FlowChange>,
    },
    /// From here on, everything that the origin holds of the group and shard is mentioned …
    WalkBegin {
        /// The group.
        group: GroupId,
        /// The epoch the origin owns it in.
        epoch: Epoch,
        /// The walk.
        walk: WalkId,
        /// What it is for.
        purpose: Purpose,
        /// Position of this message.
        position: u64,
    },
    /// … up to here.
    WalkEnd {
        /// The group.
        group: GroupId,
        /// The epoch the origin owns it in.
        epoch: Epoch,
        /// The walk.
        walk: WalkId,
        /// Position of this message.
        position: u64,
    },
    /// Between here …
    AuditBegin {
        /// The round.
        round: RoundId,
        /// The shards whose streams to this subscriber take part, bit by shard.
        shards: u32,
        /// Position of this message.
        position: u64,
    },
    /// … and here both sides have read their tables. What was told in between is left out.
    AuditEnd {
        /// The round.
        round: RoundId,
        /// Position of this message.
        position: u64,
    },
    /// The sums of one group.
    AuditSums {
        /// The round.
        round: RoundId,
        /// What they are.
        sums: Sums,
    },
    /// Flows of buckets that are said in full.
    AuditRecords {
        /// The round.
        round: RoundId,
        /// The group.
        group: GroupId,
        /// Upserts: flows that both should hold. Removals: flows that the subscriber may hold or not. At most
        /// [`crate::limits::MAX_BATCH_RECORDS`].
        changes: Vec<FlowChange>,
    },
    /// The digest is complete.
    AuditSaid {
        /// The round.
        round: RoundId,
        /// The buckets that were said in full.
        suspects: Vec<Suspect>,
    },
    /// Nothing else to say.
    Heartbeat {
        /// The last position given.
        position: u64,
        /// Groups the origin owns.
        owned: Vec<(GroupId, Epoch)>,
    },
}
