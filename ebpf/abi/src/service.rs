//! Services, their immutable versions, endpoints, and the reply guard.

use crate::assert_size;

/// What a client connects to.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct ServiceKey {
    /// VIP, network order.
    pub vip_be: u32,
    /// Port, network order.
    pub port_be: u16,
    /// IANA protocol.
    pub protocol: u8,
    /// Zero.
    pub pad: u8,
}
assert_size!(ServiceKey, 8);

/// The current version of a service: one write publishes a new one (I11).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ServiceRef {
    /// Slot in [`crate::map::VERSIONS`].
    pub version_slot: u32,
    /// Zero.
    pub pad: u32,
    /// The service's id.
    pub service: u64,
}
assert_size!(ServiceRef, 16);

/// [`ServiceVersion::algorithm`]: consistent hashing.
pub const MAGLEV: u32 = 1;
/// [`ServiceVersion::algorithm`]: in turn.
pub const ROUND_ROBIN: u32 = 2;

/// [`ServiceVersion::sync`]: flows are copied to the standbys.
pub const SYNC_IMMEDIATE: u32 = 1;
/// [`ServiceVersion::sync`]: flows are not copied; the kernel emits no event for them.
pub const SYNC_NONE: u32 = 2;

/// An immutable version of a service. Written before a [`ServiceRef`] names it, and not again before a grace
/// period after the last one that did.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ServiceVersion {
    /// The service's id; 0: the slot is free.
    pub service: u64,
    /// The intent's revision.
    pub revision: u64,
    /// [`MAGLEV`] or [`ROUND_ROBIN`].
    pub algorithm: u32,
    /// How many endpoints take new flows: positions 0.. of the version's part of
    /// [`crate::map::ENDPOINTS`]. Maglev entries are such positions.
    pub endpoint_count: u32,
    /// [`SYNC_IMMEDIATE`] or [`SYNC_NONE`].
    pub sync: u32,
    /// Zero.
    pub pad: u32,
}
assert_size!(ServiceVersion, 32);

/// An endpoint that takes new flows.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Endpoint {
    /// Its id.
    pub id: u64,
    /// Address, network order.
    pub address_be: u32,
    /// Port, network order.
    pub port_be: u16,
    /// Zero.
    pub pad: u16,
}
assert_size!(Endpoint, 16);

/// An endpoint as the source of a packet. Beside the entry with its port and protocol, each endpoint's address
/// has an entry with port 0 and protocol 0, for packets that show no port (fragments, ICMP errors).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct GuardKey {
    /// Address, network order.
    pub address_be: u32,
    /// Port, network order.
    pub port_be: u16,
    /// IANA protocol.
    pub protocol: u8,
    /// Zero.
    pub pad: u8,
}
assert_size!(GuardKey, 8);

/// What the guard knows of an endpoint.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GuardValue {
    /// Lease slot of one group that uses the endpoint; for operators, the guard drops in any case.
    pub lease_slot: u32,
    /// Zero.
    pub pad: u32,
}
assert_size!(GuardValue, 8);
