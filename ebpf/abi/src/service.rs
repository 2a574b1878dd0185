//! Services, their immutable versions, endpoints, and the reply guard.

use crate::assert_size;

/// What a client connects to.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct ServiceKey<A> {
    /// VIP, network order.
    pub vip_be: A,
    /// Port, network order. 0 for ICMP.
    pub port_be: u16,
    /// IANA protocol.
    pub protocol: u8,
    /// Zero.
    pub pad: u8,
}
/// Over IPv4.
pub type ServiceKey4 = ServiceKey<u32>;
/// Over IPv6.
pub type ServiceKey6 = ServiceKey<[u32; 4]>;
assert_size!(ServiceKey4, 8);
assert_size!(ServiceKey6, 20);

/// The same with the port last, for the trie of port ranges: a range is a few prefixes of the port.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct RangeKey<A> {
    /// VIP, network order.
    pub vip_be: A,
    /// IANA protocol.
    pub protocol: u8,
    /// Zero.
    pub pad: u8,
    /// Port, network order.
    pub port_be: u16,
}
/// Over IPv4.
pub type RangeKey4 = RangeKey<u32>;
/// Over IPv6.
pub type RangeKey6 = RangeKey<[u32; 4]>;
assert_size!(RangeKey4, 8);
assert_size!(RangeKey6, 20);

/// The current version of a service: one write publishes a new one (I11).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ServiceRef {
    /// Slot in [`crate::map::VERSIONS`].
    pub version_slot: u32,
    /// Slot in [`crate::map::SERVICE_TIMEOUTS`] and [`crate::map::SERVICE_LOADS`]; never 0.
    pub service_slot: u16,
    /// Where the VIP is, or was, in [`crate::map::ADDRESSES`]: who finds another address there looks it up.
    pub address_index: u16,
    /// The service's id.
    pub service: u64,
}
assert_size!(ServiceRef, 16);

/// [`ServiceVersion::algorithm`]: consistent hashing of the whole tuple.
pub const MAGLEV: u32 = 1;
/// [`ServiceVersion::algorithm`]: in turn, as often as the weight says.
pub const ROUND_ROBIN: u32 = 2;
/// [`ServiceVersion::algorithm`]: consistent hashing of the client's address.
pub const SOURCE_HASH: u32 = 3;
/// [`ServiceVersion::algorithm`]: the fewest connections for its weight.
pub const LEAST_CONNECTIONS: u32 = 4;

/// [`ServiceVersion::sync`]: flows are copied to the standbys.
pub const SYNC_IMMEDIATE: u32 = 1;
/// [`ServiceVersion::sync`]: flows are not copied; the kernel emits no event for them.
pub const SYNC_NONE: u32 = 2;
/// [`ServiceVersion::sync`]: copied once they are established.
pub const SYNC_ESTABLISHED: u32 = 3;

/// [`ServiceVersion::mode`]: the destination is translated.
pub const NAT: u32 = 1;
/// [`ServiceVersion::mode`]: source and destination are (fullnat, one-arm, host-one-arm: they differ in `snat`).
pub const FULLNAT: u32 = 2;
/// [`ServiceVersion::mode`]: only the MAC is rewritten.
pub const DSR_L2: u32 = 3;
/// [`ServiceVersion::mode`]: IP in IP.
pub const DSR_IPIP: u32 = 4;
/// [`ServiceVersion::mode`]: generic UDP encapsulation.
pub const DSR_GUE: u32 = 5;

/// [`ServiceVersion::on_miss`].
pub const MISS_DROP: u32 = 0;
/// [`ServiceVersion::on_miss`]: the flow is made again by its hash, for a while after a takeover.
pub const MISS_RECOVER: u32 = 1;
/// [`ServiceVersion::on_miss`]: TCP is answered with RST, except for a while after a takeover.
pub const MISS_RESET: u32 = 2;

/// [`ServiceVersion::flags`]: a client keeps its endpoint.
pub const AFFINITY: u32 = 1;
/// [`ServiceVersion::flags`]: only sources in [`crate::map::SOURCES`] may connect.
pub const SOURCES: u32 = 2;
/// [`ServiceVersion::flags`]: some endpoint is warming up, see [`Endpoint::ramp_ns`].
pub const RAMPS: u32 = 4;

/// Addresses that a version's flows may be translated from.
pub const SNAT_ADDRESSES: usize = 4;

/// An immutable version of a service, for one address family. Written before a [`ServiceRef`] names it, and not
/// again before a grace period after the last one that did.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ServiceVersion {
    /// The service's id; 0: the slot is free.
    pub service: u64,
    /// The intent's revision.
    pub revision: u64,
    /// [`MAGLEV`], [`ROUND_ROBIN`], [`SOURCE_HASH`], [`LEAST_CONNECTIONS`].
    pub algorithm: u32,
    /// How many endpoints take new flows: positions 0.. of the version's part of
    /// [`crate::map::ENDPOINTS`]. Maglev entries are such positions.
    pub endpoint_count: u32,
    /// [`SYNC_IMMEDIATE`], [`SYNC_NONE`], [`SYNC_ESTABLISHED`].
    pub sync: u32,
    /// [`NAT`] and so on.
    pub mode: u32,
    /// [`AFFINITY`], [`SOURCES`], [`RAMPS`].
    pub flags: u32,
    /// [`MISS_DROP`], [`MISS_RECOVER`], [`MISS_RESET`].
    pub on_miss: u32,
    /// Sum of the weights.
    pub weight_total: u32,
    /// Round robin's step, coprime to `weight_total`.
    pub weight_stride: u32,
    /// Bits of the client's address that a choice is kept for.
    pub affinity_mask: [u32; 4],
    /// How long a choice is kept after it was last used.
    pub affinity_ns: u64,
    /// Most flows at a time; 0: no limit.
    pub connection_limit: u64,
    /// Time between two new flows at the highest rate; 0: no limit.
    pub rate_interval_ns: u64,
    /// How far ahead of that rate a burst may come.
    pub rate_burst_ns: u64,
    /// How many of `snat` count.
    pub snat_count: u32,
    /// 4 or 6.
    pub family: u32,
    /// Addresses to translate the source to ([`FULLNAT`]), to send encapsulated packets from (DSR), or for
    /// clients in an endpoint's own network ([`NAT`]): indexes into [`crate::map::ADDRESSES`].
    pub snat: [u32; SNAT_ADDRESSES],
}
assert_size!(ServiceVersion, 120);

/// An endpoint that takes new flows.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Endpoint {
    /// Its id.
    pub id: u64,
    /// Address, network order, IPv4 in the first word. Of the other family only with encapsulation.
    pub address: [u32; 4],
    /// Port, network order; 0: the client's.
    pub port_be: u16,
    /// 4 or 6.
    pub family: u16,
    /// Index in [`crate::map::TARGETS`] and [`crate::map::TARGET_LOADS`]; never 0.
    pub target: u32,
    /// Weight.
    pub weight: u32,
    /// Sum of the weights of this and all endpoints before it.
    pub cumulative: u32,
    /// Kernel clock at which it began to take flows.
    pub ramp_start_ns: u64,
    /// For so long after that it takes a growing part of its share; 0: all at once.
    pub ramp_ns: u64,
}
assert_size!(Endpoint, 56);

/// Where flows of an endpoint go, whatever the service's current version: as long as there are any.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TargetValue {
    /// The endpoint's id; 0: free.
    pub endpoint: u64,
    /// Address, network order, IPv4 in the first word.
    pub address: [u32; 4],
    /// 4 or 6.
    pub family: u32,
    /// Where encapsulated packets come from: index into [`crate::map::ADDRESSES`]; `u32::MAX`: none.
    pub outer_source: u32,
}
assert_size!(TargetValue, 32);

/// How long a service's flows may stay idle, ns.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timeouts {
    /// The service's id; 0: the slot is free.
    pub service: u64,
    /// TCP and SCTP, handshake not complete.
    pub new_ns: u64,
    /// TCP and SCTP, established.
    pub established_ns: u64,
    /// TCP and SCTP, one side has ended.
    pub closing_ns: u64,
    /// UDP and ICMP, one direction seen.
    pub udp_new_ns: u64,
    /// UDP and ICMP, both directions seen.
    pub udp_established_ns: u64,
}
assert_size!(Timeouts, 48);

/// What the programs count of a service. The sweeper writes `connections` anew after each pass.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ServiceLoad {
    /// Live flows.
    pub connections: u64,
    /// Theoretical arrival time of the next new flow (the generic cell rate algorithm, ITU-T I.371).
    pub arrival_ns: u64,
}
assert_size!(ServiceLoad, 16);

/// Where an endpoint stands in a version that keeps choices.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct PositionKey {
    /// Endpoint id.
    pub endpoint: u64,
    /// Version slot.
    pub version_slot: u32,
    /// Zero.
    pub pad: u32,
}
assert_size!(PositionKey, 16);

/// A client (or its network) of a service.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct AffinityKey {
    /// The service's id.
    pub service: u64,
    /// The client's address after the mask; IPv4 in the first word.
    pub client: [u32; 4],
}
assert_size!(AffinityKey, 24);

/// What it keeps.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AffinityValue {
    /// The endpoint's id.
    pub endpoint: u64,
    /// When a flow was last made by it.
    pub seen_ns: u64,
}
assert_size!(AffinityValue, 16);

/// A source that may connect: the trie's key.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct SourceKey {
    /// Version slot.
    pub version_slot: u32,
    /// Address, network order, IPv4 in the first word.
    pub address: [u32; 4],
}
assert_size!(SourceKey, 20);

/// An endpoint as the source of a packet. Beside the entry with its port and protocol (port 0 where a service
/// keeps the client's port: any), each endpoint's address has an entry with port 0 and protocol 0, for packets
/// that show no port (fragments, ICMP errors).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct GuardKey<A> {
    /// Address, network order.
    pub address_be: A,
    /// Port, network order.
    pub port_be: u16,
    /// IANA protocol.
    pub protocol: u8,
    /// Zero.
    pub pad: u8,
}
/// Over IPv4.
pub type GuardKey4 = GuardKey<u32>;
/// Over IPv6.
pub type GuardKey6 = GuardKey<[u32; 4]>;
assert_size!(GuardKey4, 8);
assert_size!(GuardKey6, 20);

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
