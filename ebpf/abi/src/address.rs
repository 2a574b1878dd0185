//! Addresses that move with a group, where they are answered, interfaces, and endpoint-side networks.
//!
//! Addresses of both families, where a map holds both: network order, IPv4 in the first word, zero behind it.

use crate::assert_size;

/// [`AddressValue::flags`]: services may be reached through it.
pub const VIP: u32 = 1;
/// [`AddressValue::flags`]: the group's floating address.
pub const FLOATING: u32 = 2;
/// [`AddressValue::flags`]: stands for `static_host` in both directions, where no service does.
pub const STATIC: u32 = 4;
/// [`AddressValue::flags`]: has services on port ranges, which are looked for when the port itself has none.
pub const RANGES: u32 = 8;

/// An address of a group. A flow names it by index and stamp, and the program compares the stamp before it
/// believes the rest, so a freed and reused index stops the flow instead of serving it under another
/// group's lease.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AddressValue {
    /// Another one each time the index is given to an address, of 16 bits; 0: the index is free.
    pub stamp: u32,
    /// Slot of the owning group's lease.
    pub lease_slot: u32,
    /// [`VIP`], [`FLOATING`], [`STATIC`], [`RANGES`].
    pub flags: u32,
    /// 4 or 6.
    pub family: u32,
    /// The address.
    pub address: [u32; 4],
    /// The owning group's id.
    pub group: u64,
    /// Bit b: the group may use source ports 1024 b to 1024 b + 1023 of this address.
    pub port_blocks: u64,
    /// Whom a [`STATIC`] address stands for.
    pub static_host: [u32; 4],
}
assert_size!(AddressValue, 64);

/// Ports of one bit of [`AddressValue::port_blocks`].
pub const PORT_BLOCK: u32 = 1024;

/// An address on an interface.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct AnswerKey {
    /// The interface.
    pub ifindex: u32,
    /// 4 or 6.
    pub family: u32,
    /// The address.
    pub address: [u32; 4],
}
assert_size!(AnswerKey, 24);

/// ARP, neighbour solicitations and ping for this address are answered on this interface while the lease holds.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AnswerValue {
    /// Index into [`crate::map::ADDRESSES`].
    pub address_index: u32,
    /// The address's stamp.
    pub address_stamp: u32,
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

/// An interface's MAC where XDP finds it at once: element `ifindex % MAX_MACS`, good if `ifindex` is its own. Of
/// several interfaces that share an element one has it; XDP hands the others' packets to tc.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MacValue {
    /// The interface; 0: none.
    pub ifindex: u32,
    /// Its MAC.
    pub mac: [u8; 6],
    /// Zero.
    pub pad: [u8; 2],
}
assert_size!(MacValue, 12);

/// How many groups may share an endpoint-side network.
pub const TRANSIT_GROUPS: usize = 8;

/// [`TransitValue::flags`]: endpoints are in this very network: what one of them sends a neighbour goes there at once.
pub const ENDPOINTS: u32 = 1;

/// An endpoint-side network. What comes from it and is neither for this node nor part of a flow is
/// forwarded only by a node that holds the lease of one of these groups.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TransitValue {
    /// How many of `slots` count.
    pub count: u32,
    /// [`ENDPOINTS`] or 0.
    pub flags: u32,
    /// Lease slots.
    pub slots: [u32; TRANSIT_GROUPS],
}
assert_size!(TransitValue, 40);
