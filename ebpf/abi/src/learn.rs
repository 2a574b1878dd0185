//! Taking in flows that another node owns. User space would have to look each one up, compare, and write two entries: a
//! system call or more for every flow. Instead it lays them into [`crate::map::LEARN4`] or [`crate::map::LEARN6`], which
//! it has mapped, and has the program [`crate::map::PROGRAM_LEARN4`] or [`crate::map::PROGRAM_LEARN6`] go through them
//! by `BPF_PROG_TEST_RUN`: it compares and writes with the table under its hands.
//!
//! The input packet is [`LEARN_HEADER`] zero bytes and how many entries there are, a `u32`. They are taken in order. One
//! process at a time does this, one call at a time.

use crate::assert_size;
use crate::flow::FlowValue;
use crate::state;

/// Zero bytes in front of the count (a packet has an Ethernet header).
pub const LEARN_HEADER: usize = 16;
/// Entries of one run at most. The kernel processes no packets on this CPU meanwhile: about a tenth of a millisecond.
pub const LEARN_BATCH: u32 = 64;

/// [`LearnEntry::outcome`]: not considered.
pub const WAITING: i32 = 0;
/// [`LearnEntry::outcome`]: both entries are written; there was no flow before, or one of another birth.
pub const MADE: i32 = 1;
/// [`LearnEntry::outcome`]: both entries say it, in place of an earlier state of the flow.
pub const CHANGED: i32 = 2;
/// [`LearnEntry::outcome`]: the table holds something at least as new; only the mark was set.
pub const STALE: i32 = 3;
/// [`LearnEntry::outcome`]: nothing is changed; what the table holds is to be taken apart first. (The flow's key is that of
/// another flow's replies.) So is every removal behind it.
pub const DEFERRED: i32 = 4;
/// [`LearnEntry::outcome`]: no entry of the flow is left.
pub const REMOVED: i32 = 5;

/// One flow, in and out.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LearnEntry<A> {
    /// In: the entry of the client's direction. Of a removal: its key, epoch, birth and changes.
    pub original: FlowValue<A>,
    /// In: that of the endpoint's; with direct return there is none, and this is not looked at.
    pub reply: FlowValue<A>,
    /// Out: one of the above. Negative: the kernel's error, and no half of the flow is there.
    pub outcome: i32,
    /// In: not 0 if the flow is to be removed. A removal names the last version, so it wins over that version itself.
    pub removes: u32,
}
/// Over IPv4.
pub type LearnEntry4 = LearnEntry<u32>;
/// Over IPv6.
pub type LearnEntry6 = LearnEntry<[u32; 4]>;
assert_size!(LearnEntry4, 264);
assert_size!(LearnEntry6, 360);

/// What orders everything that is said of a flow; the same as `lockstep_model::flow::FlowStamp`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// Epoch of who said it.
    pub epoch: u64,
    /// Birth under that epoch.
    pub birth_ns: u64,
    /// Changes since.
    pub n: u32,
}

impl Stamp {
    /// Of an original entry with this state word.
    #[inline(always)]
    pub const fn of(epoch: u64, birth_ns: u64, word: u64) -> Self {
        Self { epoch, birth_ns, n: state::n(word) }
    }

    /// I6: whether this is newer than what a table holds.
    #[inline(always)]
    pub const fn supersedes(&self, held: &Self) -> bool {
        if self.epoch != held.epoch {
            return self.epoch > held.epoch;
        }
        if self.birth_ns != held.birth_ns {
            return self.birth_ns > held.birth_ns;
        }
        self.n > held.n
    }
}
