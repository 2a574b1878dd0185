//! The sweeper's kernel half. User space cannot change a live hash element in place, and replacing it would
//! lose what a packet does at the same time. So it hands the keys of idle flows to the programs
//! [`crate::map::PROGRAM_AGE4`] and [`crate::map::PROGRAM_AGE6`] through `BPF_PROG_TEST_RUN`, which decides again, with the entries themselves
//! under its hands, and marks or frees.
//!
//! The input packet is [`AGE_HEADER`] zero bytes and up to [`AGE_BATCH`] [`AgeEntry`]s, and nothing else; the
//! output packet is the same with the outcomes filled in. A key is handed in twice: once marks it dead, once
//! at least [`crate::timeout::DEAD_NS`] later frees both entries.

use crate::assert_size;
use crate::flow::FlowKey;

/// Zero bytes in front of the entries (a packet has an Ethernet header).
pub const AGE_HEADER: usize = 16;
/// Entries of one run at most: the kernel takes no packet that does not fit on a page beside what it keeps with it.
pub const AGE_BATCH: usize = 48;

/// [`AgeEntry::flags`]: end the flow whether idle or not, and without holding the lease: its service was
/// deleted, the origin removed it, or the group is purged.
pub const FORCE: u32 = 1;

/// [`AgeEntry::outcome`]: no original entry has this key.
pub const ABSENT: u32 = 1;
/// [`AgeEntry::outcome`]: not idle long enough, or it changed under the program's hands: ask again later.
pub const ALIVE: u32 = 2;
/// [`AgeEntry::outcome`]: this node does not hold the group's lease; a standby does not age.
pub const NOT_OWNER: u32 = 3;
/// [`AgeEntry::outcome`]: now marked dead. `birth_ns` and `n` are the removal's version.
pub const MARKED: u32 = 4;
/// [`AgeEntry::outcome`]: marked dead before, too recently to be freed.
pub const DYING: u32 = 5;
/// [`AgeEntry::outcome`]: both entries are freed. `birth_ns` and `n` are the removal's version.
pub const FREED: u32 = 6;

/// One flow, in and out.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AgeEntry<A> {
    /// In: the original key.
    pub key: FlowKey<A>,
    /// In: [`FORCE`] or 0.
    pub flags: u32,
    /// Out.
    pub outcome: u32,
    /// Out: the change counter, the removal counted.
    pub n: u32,
    /// Zero.
    pub pad: u32,
    /// Out: the flow's birth.
    pub birth_ns: u64,
}
/// Over IPv4.
pub type AgeEntry4 = AgeEntry<u32>;
/// Over IPv6.
pub type AgeEntry6 = AgeEntry<[u32; 4]>;
assert_size!(AgeEntry4, 40);
assert_size!(AgeEntry6, 64);

/// Room for a packet on a page, some for what later kernels keep with it left.
const TEST_PACKET: usize = 3328;
const _: () = assert!(AGE_HEADER + AGE_BATCH * core::mem::size_of::<AgeEntry6>() <= TEST_PACKET);
