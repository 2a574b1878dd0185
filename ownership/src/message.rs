//! What nodes say to each other in lease datagrams. Authentication, replay protection and encoding are the
//! shell's; a message arrives here with the [`Identity`] that provably sent it.

use std::time::Duration;

use lockstep_model::ids::{Epoch, GroupId, LogIndex};

use crate::identity::Identity;
use crate::membership::LogId;
use crate::status::Candidacy;

/// A group under one epoch: what is asked for, promised, held and released.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Tenure {
    /// The group.
    pub group: GroupId,
    /// Its ownership number.
    pub epoch: Epoch,
}

/// Everything that travels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// An owner asks.
    Request(Request),
    /// A voter answers.
    Reply(Reply),
    /// A former owner gives back.
    Release(Release),
    /// A voter has noted that.
    ReleaseAck(ReleaseAck),
    /// What a node observes, for whoever leads.
    Report(Report),
}

/// An owner asks for the promises of all its groups at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// Names this request; echoed by replies.
    pub nonce: u64,
    /// The newest membership in the sender's log.
    pub membership: LogId,
    /// How long the promise is to last.
    pub duration: Duration,
    /// What is asked for.
    pub tenures: Vec<Tenure>,
}

/// A voter answers, at once or when an older promise has ended; one request may get several replies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// Who asked: a reply to an earlier run means nothing to a later one, which counts its nonces afresh.
    pub to: Identity,
    /// The request's.
    pub nonce: u64,
    /// How much of the log the voter has applied.
    pub applied: LogIndex,
    /// By tenure.
    pub answers: Vec<Answer>,
}

/// The answer for one tenure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answer {
    /// What was asked for.
    pub tenure: Tenure,
    /// `Err`: refused.
    pub outcome: Result<(), Refused>,
}

/// A refusal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refused {
    /// Why.
    pub reason: RefusalReason,
    /// The voter's floor for the group.
    pub floor: Epoch,
}

/// Why a voter refuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RefusalReason {
    /// A higher epoch was promised, validly asked for, or is in the voter's log.
    BelowFloor,
    /// The epoch was released.
    Released,
    /// The sender's newest membership is older than the voter's.
    OldMembership,
    /// The epoch belongs to another node.
    NotAssignee,
    /// Zero, or longer than `MAX_LEASE`.
    Duration,
    /// The voter's table of groups is full.
    TooManyGroups,
    /// The voter's log may give an address of the group away, or end the group; whether it does is known when it is
    /// applied.
    AddressMoves,
}

impl RefusalReason {
    /// All, for metrics.
    pub const ALL: [RefusalReason; 7] = [
        RefusalReason::BelowFloor,
        RefusalReason::Released,
        RefusalReason::OldMembership,
        RefusalReason::NotAssignee,
        RefusalReason::Duration,
        RefusalReason::TooManyGroups,
        RefusalReason::AddressMoves,
    ];

    /// Metric label.
    pub const fn name(self) -> &'static str {
        match self {
            RefusalReason::BelowFloor => "below_floor",
            RefusalReason::Released => "released",
            RefusalReason::OldMembership => "old_membership",
            RefusalReason::NotAssignee => "not_assignee",
            RefusalReason::Duration => "duration",
            RefusalReason::TooManyGroups => "too_many_groups",
            RefusalReason::AddressMoves => "address_moves",
        }
    }
}

/// A former owner's kernel lease is closed and it will never use these epochs again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Release {
    /// What is given back.
    pub tenures: Vec<Tenure>,
}

/// A voter has noted a release.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReleaseAck {
    /// Who released.
    pub to: Identity,
    /// What.
    pub tenures: Vec<Tenure>,
}

/// What a node observes. Sent to every voter: whoever leads next knows it already.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Report {
    /// How much of the log is applied.
    pub applied: LogIndex,
    /// The node is shutting down or asked to give its groups away.
    pub draining: bool,
    /// As a voter: owners heard.
    pub heard: Vec<Heard>,
    /// As a data-plane node: how it could serve each group.
    pub candidacies: Vec<Candidacy>,
    /// As an owner: leases it holds now.
    pub holding: Vec<Tenure>,
    /// As a former owner: epochs it has given back while they were current.
    pub released: Vec<Tenure>,
    /// An operator has placed the leadership by way of this node: it stays there for so long.
    pub leadership_pinned: Duration,
}

/// Whether a voter hears an owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Heard {
    /// The highest tenure of the group validly asked for.
    pub tenure: Tenure,
    /// Whether within the suspect interval.
    pub hears: bool,
    /// How long ago.
    pub age: Duration,
}
