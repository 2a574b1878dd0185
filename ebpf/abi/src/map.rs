//! Names and sizes of the maps, and the names of the programs and globals. A name that ends in 4 has a twin that ends
//! in 6, with IPv6 addresses (`[u32; 4]` for `u32`).
//!
//! | map | type | key | value |
//! |---|---|---|---|
//! | [`FLOWS4`] | hash | [`FlowKey4`](crate::flow::FlowKey4) | [`FlowValue4`](crate::flow::FlowValue4) |
//! | [`LEASES`] | array, mmapable | lease slot | [`LeaseValue`](crate::lease::LeaseValue) |
//! | [`ADDRESS_INDEX4`] | hash | address, network order | index into [`ADDRESSES`], `u32` |
//! | [`ADDRESSES`] | array | address index | [`AddressValue`](crate::address::AddressValue) |
//! | [`ANSWERS`] | hash | [`AnswerKey`](crate::address::AnswerKey) | [`AnswerValue`](crate::address::AnswerValue) |
//! | [`INTERFACES`] | hash | ifindex, `u32` | [`InterfaceValue`](crate::address::InterfaceValue) |
//! | [`MACS`] | array | ifindex % [`MAX_MACS`] | [`MacValue`](crate::address::MacValue) |
//! | [`TRANSIT4`] | LPM trie | prefix length, address | [`TransitValue`](crate::address::TransitValue) |
//! | [`HOPS`] | array | hop index, never 0 | [`HopValue`](crate::hop::HopValue) |
//! | [`HOP_INDEX`] | hash | [`HopKey`](crate::hop::HopKey) | index into [`HOPS`], `u32` |
//! | [`HOP_STAMP`] | array of two | [`STAMP`](crate::hop::STAMP), [`BY_DESTINATION`](crate::hop::BY_DESTINATION) | `u32` |
//! | [`SERVICES4`] | hash | [`ServiceKey4`](crate::service::ServiceKey4) | [`ServiceRef`](crate::service::ServiceRef) |
//! | [`RANGES4`] | LPM trie | prefix length, [`RangeKey4`](crate::service::RangeKey4) | [`ServiceRef`](crate::service::ServiceRef) |
//! | [`VERSIONS`] | array | version slot | [`ServiceVersion`](crate::service::ServiceVersion) |
//! | [`ENDPOINTS`] | array | slot × [`MAX_ENDPOINTS`] + position | [`Endpoint`](crate::service::Endpoint) |
//! | [`ENDPOINT_HOPS`] | array | as [`ENDPOINTS`] | [`word`](crate::hop::word) of the next hop of the endpoint's new flows; the kernel's |
//! | [`MAGLEV`] | array | slot × [`MAGLEV_WORDS`] + word | four `u16` positions, see [`MAGLEV_WORDS`] |
//! | [`TURNS`] | array | version slot | round robin's counter, `u64`; written by the kernel only |
//! | [`POSITIONS`] | hash | [`PositionKey`](crate::service::PositionKey) | position, `u32`; of versions with affinity |
//! | [`AFFINITY`] | hash | [`AffinityKey`](crate::service::AffinityKey) | [`AffinityValue`](crate::service::AffinityValue) |
//! | [`SOURCES`] | LPM trie | prefix length (32 + the prefix's), [`SourceKey`](crate::service::SourceKey) | `u32`, 1 |
//! | [`TARGETS`] | array | target index, never 0 | [`TargetValue`](crate::service::TargetValue) |
//! | [`TARGET_LOADS`] | array | target index | live flows, `u64` |
//! | [`SERVICE_TIMEOUTS`] | array | service slot, never 0 | [`Timeouts`](crate::service::Timeouts) |
//! | [`SERVICE_LOADS`] | array | service slot | [`ServiceLoad`](crate::service::ServiceLoad) |
//! | [`SNAT_SOURCES4`] | LPM trie | prefix length, address | index into [`SNAT_SETS`], `u32` |
//! | [`SNAT_SETS`] | array | set index | [`SnatSet`](crate::snat::SnatSet) |
//! | [`GUARDS4`] | hash | [`GuardKey4`](crate::service::GuardKey4) | [`GuardValue`](crate::service::GuardValue) |
//! | [`COUNTERS`] | per-CPU array | [`Reason`](crate::reason::Reason) | `u64` |
//! | [`LOST_EVENTS`] | array | shard | how many events of that shard found the ring full, `u64`; only grows |
//! | [`EVENTS`] | ring buffer | | [`FlowEvent4`](crate::event::FlowEvent4), [`FlowEvent6`](crate::event::FlowEvent6) |
//! | [`EVENT_READER`] | array | 0 | [`AWAKE`](crate::event::AWAKE) or [`ASLEEP`](crate::event::ASLEEP), `u32` |
//! | [`TC_STAGES`], [`XDP_STAGES`] | program array | [`STAGE_SLOW4`] and so on | program |

macro_rules! names {
    ($($(#[doc = $doc:literal])* $name:ident,)*) => {
        $($(#[doc = $doc])* pub const $name: &str = stringify!($name);)*

        /// Every map whose content outlives the daemon, and is therefore pinned (I12).
        pub const PINNED: &[&str] = &[$($name,)*];
    };
}

names! {
    /// Flow entries of both directions.
    FLOWS4,
    /// The same over IPv6.
    FLOWS6,
    /// One lease per local group slot. mmapable: one aligned 8-byte store changes `until_ns`.
    LEASES,
    /// Address to index.
    ADDRESS_INDEX4,
    /// The same for IPv6.
    ADDRESS_INDEX6,
    /// Addresses by index. Indexes are kept over restarts: flow entries refer to them.
    ADDRESSES,
    /// Where ARP, neighbour solicitations and ping are answered.
    ANSWERS,
    /// The interfaces the dataplane is attached to.
    INTERFACES,
    /// Their MACs, for XDP.
    MACS,
    /// Endpoint-side networks, whose transit needs a lease.
    TRANSIT4,
    /// The same for IPv6.
    TRANSIT6,
    /// Neighbours.
    HOPS,
    /// Neighbour to index.
    HOP_INDEX,
    /// What indexes of neighbours in flows must be stamped with.
    HOP_STAMP,
    /// (VIP, port, protocol) to service version.
    SERVICES4,
    /// The same for IPv6.
    SERVICES6,
    /// Port ranges.
    RANGES4,
    /// The same for IPv6.
    RANGES6,
    /// Immutable service versions.
    VERSIONS,
    /// Endpoints that take new flows, by version slot.
    ENDPOINTS,
    /// Their next hops.
    ENDPOINT_HOPS,
    /// Maglev tables, by version slot: one packed array.
    MAGLEV,
    /// Round robin's counters.
    TURNS,
    /// Positions of endpoints, by version.
    POSITIONS,
    /// Choices that clients keep.
    AFFINITY,
    /// Who may connect, by version.
    SOURCES,
    /// Endpoints of live flows.
    TARGETS,
    /// Their flows.
    TARGET_LOADS,
    /// Idle timeouts by service.
    SERVICE_TIMEOUTS,
    /// Flows and rate by service.
    SERVICE_LOADS,
    /// Sources whose connections are translated on the way out.
    SNAT_SOURCES4,
    /// The same for IPv6.
    SNAT_SOURCES6,
    /// Their rules.
    SNAT_SETS,
    /// The reply guard: every endpoint, drained and disabled ones included.
    GUARDS4,
    /// The same for IPv6.
    GUARDS6,
    /// Verdict counters.
    COUNTERS,
    /// Lost events per shard.
    LOST_EVENTS,
    /// Flow events.
    EVENTS,
    /// Whether their reader sleeps.
    EVENT_READER,
}

/// Learnt flows on their way into the table, see [`crate::learn`]; array, mmapable. Not pinned: of one load of the programs.
pub const LEARN4: &str = "LEARN4";
/// The same for IPv6.
pub const LEARN6: &str = "LEARN6";

/// Tail calls of the tc programs. Filled by the loader before the entry program is attached.
pub const TC_STAGES: &str = "TC_STAGES";
/// Tail calls of the XDP programs, likewise.
pub const XDP_STAGES: &str = "XDP_STAGES";

/// The program at tc ingress (tcx). On every interface.
pub const PROGRAM_TC: &str = "tc_entry";
/// The program at XDP, in front of tc, on the interfaces that have it.
pub const PROGRAM_XDP: &str = "xdp_entry";
/// Run with `BPF_PROG_TEST_RUN` by the sweeper; never attached. See [`crate::age`].
pub const PROGRAM_AGE4: &str = "age4";
/// The same for IPv6.
pub const PROGRAM_AGE6: &str = "age6";
/// Run with `BPF_PROG_TEST_RUN` by whoever learns flows; never attached. See [`crate::learn`].
pub const PROGRAM_LEARN4: &str = "learn4";
/// The same for IPv6.
pub const PROGRAM_LEARN6: &str = "learn6";

/// TCP and UDP that miss, begin, or change a flow's state.
pub const STAGE_SLOW4: u32 = 0;
/// The same over IPv6.
pub const STAGE_SLOW6: u32 = 1;
/// Everything else of IPv4: other protocols, ICMP errors, fragments, options.
pub const STAGE_SPECIAL4: u32 = 2;
/// The same of IPv6.
pub const STAGE_SPECIAL6: u32 = 3;
/// ARP.
pub const STAGE_ARP: u32 = 4;
/// ICMP errors about packets of IPv4 that were not forwarded, and RST.
pub const STAGE_COMPLAIN4: u32 = 5;
/// The same of IPv6.
pub const STAGE_COMPLAIN6: u32 = 6;
/// IPv4: a SYN that most likely begins a flow. At XDP.
pub const STAGE_OPEN4: u32 = 7;
/// IPv6: a SYN that most likely begins a flow. At XDP.
pub const STAGE_OPEN6: u32 = 8;
/// Size of the program arrays.
pub const STAGES: u32 = 9;

/// What goes where: (map, position, program).
pub const STAGE_PROGRAMS: &[(&str, u32, &str)] = &[
    (TC_STAGES, STAGE_SLOW4, "tc_slow4"),
    (TC_STAGES, STAGE_SLOW6, "tc_slow6"),
    (TC_STAGES, STAGE_SPECIAL4, "tc_special4"),
    (TC_STAGES, STAGE_SPECIAL6, "tc_special6"),
    (TC_STAGES, STAGE_ARP, "tc_arp"),
    (TC_STAGES, STAGE_COMPLAIN4, "tc_complain4"),
    (TC_STAGES, STAGE_COMPLAIN6, "tc_complain6"),
    (XDP_STAGES, STAGE_SLOW4, "xdp_slow4"),
    (XDP_STAGES, STAGE_SLOW6, "xdp_slow6"),
    (XDP_STAGES, STAGE_OPEN4, "xdp_open4"),
    (XDP_STAGES, STAGE_OPEN6, "xdp_open6"),
];

/// A `u64` global of the programs: nanoseconds of one of the kernel's ticks (1/HZ). 0 (the default): jiffies and the
/// coarse clock decide nothing, the precise clock is always read.
pub const GLOBAL_TICK_NS: &str = "TICK_NS";
/// A `u64` global of the programs: what `jiffies * TICK_NS` must be added (wrapping) to be `CLOCK_MONOTONIC`.
pub const GLOBAL_TICK_OFFSET_NS: &str = "TICK_OFFSET_NS";
/// So many ticks the clocks that follow the tick may stand still (DESIGN section 5).
pub const MARGIN_TICKS: u64 = 8;

/// Default number of flow entries (two per flow) of a family; the loader sets its own.
pub const MAX_FLOW_ENTRIES: u32 = 1 << 18;
/// Lease slots, one per group: the size of [`LEASES`].
pub const MAX_LEASES: u32 = 256;
/// Size of [`ADDRESSES`].
pub const MAX_ADDRESSES: u32 = 4096;
/// (address, interface) pairs that are answered.
pub const MAX_ANSWERS: u32 = 16384;
/// Interfaces the dataplane can be attached to.
pub const MAX_INTERFACES: u32 = 256;
/// Size of [`MACS`].
pub const MAX_MACS: u32 = 1024;
/// Endpoint-side networks of a family.
pub const MAX_TRANSIT: u32 = 1024;
/// Neighbours: the size of [`HOPS`].
pub const MAX_HOPS: u32 = 4096;
/// Frontends of a family: (VIP, port, protocol) triples.
pub const MAX_FRONTENDS: u32 = 16384;
/// Prefixes that port ranges of a family are made of; a range is 30 at most.
pub const MAX_RANGES: u32 = 65536;
/// Service versions: 256 services, each of one or two families, and spare ones so that a new version is written beside
/// the old.
pub const VERSION_SLOTS: u32 = 512;
/// Services and one slot for none: the size of [`SERVICE_TIMEOUTS`] and [`SERVICE_LOADS`].
pub const SERVICE_SLOTS: u32 = 512;
/// Endpoints of a version.
pub const MAX_ENDPOINTS: u32 = 1024;
/// Endpoints of all services that have flows or take them: the size of [`TARGETS`].
pub const MAX_TARGETS: u32 = 65536;
/// Endpoints of all versions that keep choices.
pub const MAX_POSITIONS: u32 = 65536;
/// Kept choices. A full table keeps no more, counted.
pub const MAX_AFFINITY: u32 = 1 << 18;
/// Prefixes that may connect, of all versions.
pub const MAX_SOURCES: u32 = 65536;
/// Rule sets: one for each source prefix of a rule, and as many spare ones.
pub const MAX_SNAT_SETS: u32 = 512;
/// Endpoints of all services: entries of the reply guard of a family.
pub const MAX_GUARDS: u32 = 65536;
/// Packets whose fragments are awaited.
pub const MAX_FRAGMENTS: u32 = 8192;
/// Slots of a Maglev table; prime.
pub const MAGLEV_SLOTS: u32 = 65537;
/// `u64` words of a Maglev table: slot `i` is in word `i / 4`, bits `16 * (i % 4)` and up. One packed array
/// rather than a map per service: publishing needs no map creation, and a lookup is one array read.
pub const MAGLEV_WORDS: u32 = MAGLEV_SLOTS.div_ceil(4);
/// Bytes of the event ring.
pub const EVENT_RING_BYTES: u32 = 1 << 22;

/// Streams a pair of nodes replicates over; equals `lockstep_model::flow::SHARDS`.
pub const SHARDS: u32 = 4;

/// No lease is accepted that ends later than this from now; equals `lockstep_model::limits::MAX_LEASE`.
pub const MAX_LEASE_NS: u64 = 1_000_000_000;
