//! Addresses that move with a group, where they are answered, interfaces, and endpoint-side networks.

use crate::assert_size;

/// [`AddressValue::flags`]: services may be reached through it.
pub const VIP: u32 = 1;
/// [`AddressValue::flags`]: the group's floating address.
pub const FLOATING: u32 = 2;

/// An address of a group. A flow names it by index and the program compares `address_be` before it believes
/// the rest, so a freed and reused index stops the flow instead of serving it under another group's lease.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AddressValue {
    /// The address, network order; 0: the index is free.
    pub address_be: u32,
    /// Slot of the owning group's lease.
    pub lease_slot: u32,
    /// [`VIP`], [`FLOATING`], or both.
    pub flags: u32,
    /// Zero.
    pub pad: u32,
    /// The owning group's id.
    pub group: u64,
}
assert_size!(AddressValue, 24);

/// An address on an interface.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct AnswerKey {
    /// The interface.
    pub ifindex: u32,
    /// The address, network order.
    pub address_be: u32,
}
assert_size!(AnswerKey, 8);

/// ARP and ping for this address are answered on this interface while the lease holds.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AnswerValue {
    /// Index into [`crate::map::ADDRESSES`].
    pub address_index: u32,
    /// Zero.
    pub pad: u32,
}
assert_size!(AnswerValue, 8);

/// An interface the dataplane is attached to.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct InterfaceValue {
    /// Its MAC, with which ARP is answered.
    pub mac: [u8; 6],
    /// Zero.
    pub pad: [u8; 2],
}
assert_size!(InterfaceValue, 8);

/// How many groups may share an endpoint-side network.
pub const TRANSIT_GROUPS: usize = 8;

/// An endpoint-side network. What comes from it and is neither for this node nor part of a flow is
/// forwarded only by a node that holds the lease of one of these groups.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TransitValue {
    /// How many of `slots` count.
    pub count: u32,
    /// Lease slots.
    pub slots: [u32; TRANSIT_GROUPS],
}
assert_size!(TransitValue, 36);
