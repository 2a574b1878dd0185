//! Names and sizes of the maps, and the names of the programs and globals.
//!
//! | map | type | key | value |
//! |---|---|---|---|
//! | [`FLOWS`] | hash | [`FlowKey4`](crate::flow::FlowKey4) | [`FlowValue4`](crate::flow::FlowValue4) |
//! | [`LEASES`] | array, mmapable | lease slot | [`LeaseValue`](crate::lease::LeaseValue) |
//! | [`ADDRESS_INDEX`] | hash | IPv4 address, network order, as `u32` | index into [`ADDRESSES`], `u32` |
//! | [`ADDRESSES`] | array | address index | [`AddressValue`](crate::address::AddressValue) |
//! | [`ANSWERS`] | hash | [`AnswerKey`](crate::address::AnswerKey) | [`AnswerValue`](crate::address::AnswerValue) |
//! | [`INTERFACES`] | hash | ifindex, `u32` | [`InterfaceValue`](crate::address::InterfaceValue) |
//! | [`TRANSIT`] | LPM trie | prefix length, IPv4 address in network order | [`TransitValue`](crate::address::TransitValue) |
//! | [`SERVICES`] | hash | [`ServiceKey`](crate::service::ServiceKey) | [`ServiceRef`](crate::service::ServiceRef) |
//! | [`VERSIONS`] | array | version slot | [`ServiceVersion`](crate::service::ServiceVersion) |
//! | [`ENDPOINTS`] | array | slot × [`MAX_ENDPOINTS`] + position | [`Endpoint`](crate::service::Endpoint) |
//! | [`MAGLEV`] | array | slot × [`MAGLEV_WORDS`] + word | four `u16` positions, see [`MAGLEV_WORDS`] |
//! | [`TURNS`] | array | version slot | round robin's counter, `u64`; written by the kernel only |
//! | [`GUARDS`] | hash | [`GuardKey`](crate::service::GuardKey) | [`GuardValue`](crate::service::GuardValue) |
//! | [`COUNTERS`] | per-CPU array | [`Reason`](crate::reason::Reason) | `u64` |
//! | [`LOST_EVENTS`] | array | shard | how many events of that shard found the ring full, `u64`; only grows |
//! | [`EVENTS`] | ring buffer | | [`FlowEvent`](crate::event::FlowEvent) |
//! | [`HOPS`] | array | hop index; 0 is no hop | [`HopValue`](crate::hop::HopValue) |
//! | [`HOP_INDEX`] | hash | [`HopKey`](crate::hop::HopKey) | index into [`HOPS`], `u32` |
//! | [`HOP_STAMP`] | array of one | 0 | the current stamp, `u32`; 0 only until user space has opened the maps |
//! | [`STAGES`] | program array | [`STAGE_SLOW`], [`STAGE_LOCAL`] | program |

/// Flow entries of both directions.
pub const FLOWS: &str = "FLOWS";
/// One lease per local group slot. mmapable: one aligned 8-byte store changes `until_ns`.
pub const LEASES: &str = "LEASES";
/// Address to index.
pub const ADDRESS_INDEX: &str = "ADDRESS_INDEX";
/// Addresses by index. Indexes are kept over restarts: flow entries refer to them.
pub const ADDRESSES: &str = "ADDRESSES";
/// Where ARP and ping are answered.
pub const ANSWERS: &str = "ANSWERS";
/// The interfaces the dataplane is attached to.
pub const INTERFACES: &str = "INTERFACES";
/// Endpoint-side networks, whose transit needs a lease.
pub const TRANSIT: &str = "TRANSIT";
/// (VIP, port, protocol) to service version.
pub const SERVICES: &str = "SERVICES";
/// Immutable service versions.
pub const VERSIONS: &str = "VERSIONS";
/// Endpoints that take new flows, by version slot.
pub const ENDPOINTS: &str = "ENDPOINTS";
/// Maglev tables, by version slot: one packed array.
pub const MAGLEV: &str = "MAGLEV";
/// Round robin's counters.
pub const TURNS: &str = "TURNS";
/// The reply guard: every endpoint, drained and disabled ones included.
pub const GUARDS: &str = "GUARDS";
/// Verdict counters.
pub const COUNTERS: &str = "COUNTERS";
/// Lost events per shard.
pub const LOST_EVENTS: &str = "LOST_EVENTS";
/// Flow events.
pub const EVENTS: &str = "EVENTS";
/// Next hops, kept by user space from netlink.
pub const HOPS: &str = "HOPS";
/// (interface, next hop's address) to index.
pub const HOP_INDEX: &str = "HOP_INDEX";
/// What flows compare the stamp beside their hop's index with; raised when routes change.
pub const HOP_STAMP: &str = "HOP_STAMP";
/// Tail calls. Filled by the loader before the entry program is attached.
pub const STAGES: &str = "STAGES";

/// Every map whose content outlives the daemon, and is therefore pinned (I12).
pub const PINNED: [&str; 19] = [
    FLOWS,
    LEASES,
    ADDRESS_INDEX,
    ADDRESSES,
    ANSWERS,
    INTERFACES,
    TRANSIT,
    SERVICES,
    VERSIONS,
    ENDPOINTS,
    MAGLEV,
    TURNS,
    GUARDS,
    COUNTERS,
    LOST_EVENTS,
    EVENTS,
    HOPS,
    HOP_INDEX,
    HOP_STAMP,
];

/// The program to attach: tcx ingress. A `SchedClassifier`, as all of them.
pub const PROGRAM_ENTRY: &str = "entry";
/// Tail-called by `entry`: misses, new flows, changes of state.
pub const PROGRAM_SLOW: &str = "slow";
/// Tail-called by `entry`: ARP and ICMP.
pub const PROGRAM_LOCAL: &str = "local";
/// Run with `BPF_PROG_TEST_RUN` by the sweeper; never attached. See [`crate::age`].
pub const PROGRAM_AGE: &str = "age";

/// Position of [`PROGRAM_SLOW`] in [`STAGES`].
pub const STAGE_SLOW: u32 = 0;
/// Position of [`PROGRAM_LOCAL`] in [`STAGES`].
pub const STAGE_LOCAL: u32 = 1;

/// A `u64` global of the programs: below this many nanoseconds of lease left, the coarse clock does not
/// decide. 8 ticks of `CLOCK_MONOTONIC_COARSE`; 0 (the default) means the precise clock always decides.
pub const GLOBAL_COARSE_MARGIN_NS: &str = "COARSE_MARGIN_NS";

/// Default number of flow entries (two per flow); the loader sets its own.
pub const MAX_FLOW_ENTRIES: u32 = 1 << 18;
/// Lease slots, one per group: the size of [`LEASES`].
pub const MAX_LEASES: u32 = 256;
/// Size of [`ADDRESSES`].
pub const MAX_ADDRESSES: u32 = 4096;
/// (address, interface) pairs that are answered.
pub const MAX_ANSWERS: u32 = 16384;
/// Interfaces the dataplane can be attached to.
pub const MAX_INTERFACES: u32 = 256;
/// Endpoint-side networks.
pub const MAX_TRANSIT: u32 = 1024;
/// Frontends: (VIP, port, protocol) triples.
pub const MAX_FRONTENDS: u32 = 16384;
/// Service versions: 256 services, and 64 spare ones so that a new version is written beside the old.
pub const VERSION_SLOTS: u32 = 320;
/// Endpoints of a version.
pub const MAX_ENDPOINTS: u32 = 1024;
/// Endpoints of all services: entries of the reply guard.
pub const MAX_GUARDS: u32 = 65536;
/// Slots of a Maglev table; prime.
pub const MAGLEV_SLOTS: u32 = 65537;
/// `u64` words of a Maglev table: slot `i` is in word `i / 4`, bits `16 * (i % 4)` and up. One packed array
/// rather than a map per service: publishing needs no map creation, and a lookup is one array read.
pub const MAGLEV_WORDS: u32 = MAGLEV_SLOTS.div_ceil(4);
/// Size of [`HOPS`] and [`HOP_INDEX`]; index 0 is never used.
pub const MAX_HOPS: u32 = 4096;
/// Bytes of the event ring.
pub const EVENT_RING_BYTES: u32 = 1 << 22;

/// Streams a pair of nodes replicates over; equals `lockstep_model::flow::SHARDS`.
pub const SHARDS: u32 = 4;

/// No lease is accepted that ends later than this from now; equals `lockstep_model::limits::MAX_LEASE`.
pub const MAX_LEASE_NS: u64 = 1_000_000_000;
