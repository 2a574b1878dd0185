//! Next hops: what user space knows of neighbours, by index (DESIGN section 5).
//!
//! The slow path asks the kernel's routing table, which names a neighbour, and finds its index here. The
//! fast path takes the index out of the flow. An index is good as long as the stamp beside it in the flow is the
//! current one: routes may have changed since, or the index may belong to another neighbour.
//!
//! The slow path reads the stamp *before* it asks the routing table and looks the index up. User space removes a
//! key before it raises the stamp and reuses the index only after a grace period, so an index that was read too
//! early is stored beside a stamp that has ended already.

use crate::assert_size;

/// In [`crate::map::HOP_STAMP`]: the current stamp, never 0.
pub const STAMP: u32 = 0;
/// In [`crate::map::HOP_STAMP`]: 1 while no routing rule asks for more than the destination. Then flows to one neighbour
/// all go the same way, whoever sends them. Becomes 0 before the stamp that a new rule raises.
pub const BY_DESTINATION: u32 = 1;

/// [`HopValue::flags`]: packets may be sent there.
pub const USABLE: u32 = 1;
/// [`HopValue::flags`]: the XDP program may redirect to the interface; without it the packet goes through tc.
pub const XDP: u32 = 2;

/// A neighbour. Changed in place when its address or link does: that takes effect on live flows.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HopValue {
    /// The interface it is on.
    pub ifindex: u32,
    /// The interface's MTU, bytes.
    pub mtu: u32,
    /// The neighbour's MAC.
    pub destination_mac: [u8; 6],
    /// The interface's MAC.
    pub source_mac: [u8; 6],
    /// [`USABLE`], [`XDP`].
    pub flags: u32,
    /// Zero.
    pub pad: u32,
}
assert_size!(HopValue, 28);

/// A neighbour as the routing table names it.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HopKey {
    /// The interface.
    pub ifindex: u32,
    /// 4 or 6.
    pub family: u32,
    /// The gateway, or the destination itself; network order, IPv4 in the first word.
    pub address: [u32; 4],
}
assert_size!(HopKey, 24);

/// Bits of [`word`] that are the index.
pub const INDEX_BITS: u32 = 12;
const _: () = assert!(crate::map::MAX_HOPS == 1 << INDEX_BITS);

/// What a flow keeps of its next hop: the index, and above it the low bits of the stamp it was found under. 0: not
/// known yet.
#[inline(always)]
pub const fn word(index: u32, stamp: u32) -> u32 {
    stamp << INDEX_BITS | index
}

/// The index in a [`word`], if that was found under this stamp. 0: none.
#[inline(always)]
pub const fn index(word: u32, stamp: u32) -> u32 {
    let index = word & ((1 << INDEX_BITS) - 1);
    if self::word(index, stamp) == word { index } else { 0 }
}
