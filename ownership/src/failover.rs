//! The phases of a takeover, as the node that takes over sees them.

use lockstep_model::ids::{Epoch, NodeId};

use crate::message::Tenure;
use crate::time::Instant;

/// One takeover. Times are local to the recording node; a phase that it did not see is `None` (its voter may
/// have been the last to hear the old owner, or the old owner may have handed over unsuspected).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FailoverRecord {
    /// What was taken over.
    pub tenure: Tenure,
    /// The epoch before; 0 for a group's first owner.
    pub replaces: Epoch,
    /// Who had it before.
    pub owner_before: Option<NodeId>,
    /// The last valid request of the former owner that this node's voter heard.
    pub last_renewal: Option<Instant>,
    /// When this node's voter began to suspect it.
    pub suspected: Option<Instant>,
    /// When the assignment was applied here.
    pub committed: Instant,
    /// When a quorum had promised.
    pub promised: Option<Instant>,
    /// When the kernel lease was written.
    pub map_written: Option<Instant>,
    /// When the first announcement was sent.
    pub announced: Option<Instant>,
}
