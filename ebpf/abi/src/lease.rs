//! The owner's right to forward, as the kernel checks it (I3, I4).

use crate::assert_size;
use crate::map::MAX_LEASE_NS;

/// The sole voter's lease, which has no end. Written and cleared only while the node may own the group.
pub const UNBOUNDED: u64 = 1;

/// One group's lease on this node. All zero: no lease. All clocks are `CLOCK_MONOTONIC`, ns.
///
/// Every field is one aligned 8-byte word, so that a writer with the map in its memory can change each
/// atomically. Order of a writer who opens a new epoch: `until_ns` 0 and `flags` 0 (closed), then `epoch`,
/// `since_ns`, `group`, and at last `until_ns` or `flags`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LeaseValue {
    /// The lease's end.
    pub until_ns: u64,
    /// The epoch it is held in.
    pub epoch: u64,
    /// When this node took the group over; flows age from the later of this and their last packet.
    pub since_ns: u64,
    /// The group's id. Kept while the slot is in use, with or without a lease.
    pub group: u64,
    /// [`UNBOUNDED`] or 0.
    pub flags: u64,
    /// 1: no new flows, because the node's intent is stale; 0 else. The node's, not the group's: the same in every
    /// slot, whether in use or not, and independent of the lease.
    pub frozen: u64,
    /// The kernel's note of how long it need not read a clock: low half of `until_ns` below, jiffies above.
    /// Written by the programs; a renewal makes it void.
    pub fast: u64,
    /// Zero: one lease is one cache line.
    pub pad: u64,
}
assert_size!(LeaseValue, 64);

impl LeaseValue {
    /// Whether a lease that ends at `until_ns` is good at `now_ns`: not over, and not further away than any
    /// lease may be (which would be a wrong time base). One unsigned comparison; equality is over.
    #[inline(always)]
    pub const fn accepts(until_ns: u64, now_ns: u64) -> bool {
        // until == now gives u64::MAX after the subtraction of one, so that it is refused too.
        until_ns.wrapping_sub(now_ns).wrapping_sub(1) < MAX_LEASE_NS
    }

    /// Whether this lease permits forwarding at `now_ns`.
    #[inline(always)]
    pub const fn is_held(&self, now_ns: u64) -> bool {
        self.flags & UNBOUNDED != 0 || Self::accepts(self.until_ns, now_ns)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn i4_a_lease_is_good_from_now_until_just_before_its_end() {
        let now = 5_000_000_000;
        for (until, expected) in [
            (now, false),
            (now - 1, false),
            (0, false),
            (now + 1, true),
            (now + MAX_LEASE_NS, true),
            (now + MAX_LEASE_NS + 1, false),
            (u64::MAX, false),
        ] {
            assert_eq!(LeaseValue::accepts(until, now), expected, "until {until}");
        }
        assert!(!LeaseValue::default().is_held(now));
        assert!(!LeaseValue::default().is_held(0));
        assert!(LeaseValue { flags: UNBOUNDED, ..LeaseValue::default() }.is_held(now));
    }
}
