//! Whether owner and standby hold the same: digests of both kernels' tables, over exactly the flows that did not change
//! meanwhile, compared without stopping anything.
//!
//! ```text
//! origin      Begin ─────────────────────── End ── Digest
//! stream      ──B────── records ────────────E──────D────►
//! origin          [ reads its table  ]
//! subscriber          [ reads its table ]
//! ```
//!
//! Both read their own kernel's table between Begin and End, the subscriber after everything before Begin is in its kernel.
//! A flow without a record between the two markers was the same all that time, on both sides; a flow with one is left
//! out by both, who know its record from the one stream that both see. So what is left must be equal, whatever the load.
//!
//! Sums of a keyed hash, a bucket of flows each, say whether it is. Of a bucket that differs ([`Suspect`]) the next round
//! carries the records themselves. A flow has diverged when the same difference is found in two rounds: that covers a change
//! whose event the kernel had not reported yet when it was seen in the table. The owner's record is then written, behind
//! everything that came before it in the stream, unless a newer one came meanwhile.
//!
//! What is not compared: births, which a receiver cuts to its own clock ([`FlowOp::limit_birth`]), time left, and marks.
//!
//! [`FlowOp::limit_birth`]: lockstep_model::flow::FlowOp::limit_birth

mod compare;
mod hash;
mod job;
mod listing;

use lockstep_model::flow::{FlowKey, FlowRecord};
use lockstep_model::ids::{Epoch, GroupId};

pub use compare::{Comparison, Difference, Found};
pub use hash::Seed;
pub use job::{CompareJob, DigestJob};
pub use listing::{Lister, Listing};

/// A comparison of all streams of an origin, unique within its session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RoundId(pub u64);

/// A bucket whose sums differed: the flows of a group and shard whose hash begins with these bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Suspect {
    /// The group.
    pub group: GroupId,
    /// How many bits.
    pub bits: u8,
    /// Which.
    pub prefix: u32,
}

impl Suspect {
    pub(crate) fn holds(&self, group: GroupId, hash: u64) -> bool {
        self.group == group && bucket(hash, self.bits) == self.prefix as usize
    }
}

/// The sums of one group and shard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sums {
    /// The group.
    pub group: GroupId,
    /// The epoch the origin owns it in.
    pub epoch: Epoch,
    /// There are `1 << bits` buckets; at most [`MAX_BITS`].
    pub bits: u8,
    /// One for each.
    pub sums: Vec<u64>,
}

/// What an origin says of a shard in a round.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Digest {
    /// Of each group it owns.
    pub sums: Vec<Sums>,
    /// The buckets whose flows follow; others than these are not compared flow by flow.
    pub suspects: Vec<Suspect>,
    /// All flows of those, without the ones that changed.
    pub records: Vec<FlowRecord>,
    /// Flows of those of which the subscriber may hold anything: they are over, or not told by their policy yet.
    pub unsure: Vec<(GroupId, FlowKey)>,
}

/// Buckets of a group and shard, as a power of two.
pub const MAX_BITS: u8 = 12;

/// Flows of a bucket, about: what one that differs costs to say in full.
const BUCKET: usize = 256;

fn bucket(hash: u64, bits: u8) -> usize {
    if bits == 0 { 0 } else { (hash >> (64 - u32::from(bits))) as usize }
}
