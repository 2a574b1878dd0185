//! What a round has to compute: at a million flows too long for the thread that owns the core.

use std::sync::Arc;

use lockstep_model::ids::{Epoch, GroupId};

use super::{Comparison, Digest, Listing, RoundId, Suspect};
use crate::message::StreamId;

/// An origin's, for one stream.
#[derive(Debug, PartialEq, Eq)]
pub struct DigestJob {
    /// For this stream.
    pub stream: StreamId,
    /// The round.
    pub round: RoundId,
    pub(crate) listing: Arc<Listing>,
    pub(crate) owned: Vec<(GroupId, Epoch)>,
    /// Left out.
    pub(crate) changed: Vec<u64>,
    /// Said in full.
    pub(crate) suspects: Vec<Suspect>,
}

impl DigestJob {
    /// Does it.
    pub fn compute(self) -> Digest {
        self.listing.digest(self.stream.shard, &self.owned, &self.changed, self.suspects)
    }
}

/// A subscriber's, for one stream.
#[derive(Debug, PartialEq, Eq)]
pub struct CompareJob {
    /// The stream.
    pub stream: StreamId,
    /// The round.
    pub round: RoundId,
    /// This node's.
    pub(crate) listing: Arc<Listing>,
    /// The origin's.
    pub(crate) digest: Digest,
    /// Left out.
    pub(crate) changed: Vec<u64>,
}

impl CompareJob {
    /// Does it.
    pub fn compute(self) -> Comparison {
        self.listing.compare(self.stream.shard, &self.digest, &self.changed)
    }
}
