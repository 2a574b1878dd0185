//! Limits (I13), each with its reason. What happens at a limit is said where it is enforced.

use std::time::Duration;

/// No promise and no kernel lease lasts longer. Every wait for "whoever held it before" is at most this.
/// A constant, not intent: a voter that restarts must know it before it knows any intent.
pub const MAX_LEASE: Duration = Duration::from_millis(1000);

/// Clocks may differ in rate by this much (parts per hundred).
pub const CLOCK_DRIFT_PERCENT: u32 = 1;

/// Groups of a cluster: the size of the kernel's lease array.
pub const MAX_GROUPS: usize = 256;

/// Addresses (VIPs and floating) of a cluster: the size of the kernel's address table.
pub const MAX_ADDRESSES: usize = 4096;

/// Services of a cluster: each holds a Maglev table in the kernel.
pub const MAX_SERVICES: usize = 256;

/// Endpoints of a service.
pub const MAX_ENDPOINTS: usize = 1024;

/// Rules of a cluster: each is an entry of several kernel tables.
pub const MAX_SNAT_RULES: usize = 256;

/// Rules whose source prefix contains another rule's: a packet is compared with no more than these.
pub const MAX_SNAT_RULES_OF_A_SOURCE: usize = 16;

/// Addresses that a rule or a pool translates to.
pub const MAX_SNAT_ADDRESSES: usize = 16;

/// Prefixes that say who may connect to a service.
pub const MAX_SOURCES: usize = 256;

/// Ports of a block.
pub const PORTS_OF_A_BLOCK: u32 = 1024;

/// The blocks that can be allocated: all but the first, which holds the well-known ports.
pub const PORT_BLOCKS: u64 = !1;

/// The blocks that an address starts with: ports 32768-36863, where hosts have their ephemeral ports
/// (Linux: 32768-60999), so that filters on the way expect them.
pub const FIRST_PORT_BLOCKS: u64 = 0xf << 32;

/// Shortest idle time of a flow.
pub const MIN_TIMEOUT: Duration = Duration::from_secs(1);

/// Longest idle time of a flow, and of an affinity.
pub const MAX_TIMEOUT: Duration = Duration::from_secs(30 * 24 * 3600);

/// Shortest and longest time that a flow may have to live before it is copied to the standbys: shorter than the first is
/// `immediate`, and flows that wait are held in memory.
pub const SYNC_AFTER: std::ops::RangeInclusive<Duration> =
    Duration::from_millis(100)..=Duration::from_secs(60);

/// Longest slow start.
pub const MAX_SLOW_START: Duration = Duration::from_secs(15 * 60);

/// Largest limit of new flows a second: more than a node makes.
pub const MAX_NEW_PER_SECOND: u32 = 10_000_000;

/// An endpoint's largest weight.
pub const MAX_WEIGHT: u16 = 1000;

/// Slots of a Maglev table; prime (Eisenbud et al., NSDI 2016, section 5.3).
pub const MAGLEV_SLOTS: usize = 65537;

/// Changes in one command.
pub const MAX_CHANGES: usize = 1024;

/// Remembered addresses that changed groups.
pub const MAX_RELEASED_ADDRESSES: usize = 4096;

/// VIPs of a service, and floating addresses of a group.
pub const MAX_OWN_ADDRESSES: usize = 64;

/// Length of a name: a DNS label (RFC 1035, section 2.3.4).
pub const MAX_NAME: usize = 63;

/// Length of an interface name: the kernel's IFNAMSIZ, less the zero byte.
pub const MAX_INTERFACE_NAME: usize = 15;

/// Interfaces that a group names.
pub const MAX_INTERFACES: usize = 32;

/// Bytes of a manifest: the size of a command with the largest number of changes stays far below gRPC's limit.
pub const MAX_MANIFEST: usize = 3 * 1024 * 1024;

/// Shortest time between two probes of an endpoint.
pub const MIN_HEALTH_INTERVAL: Duration = Duration::from_millis(100);

/// Longest time between two probes of an endpoint.
pub const MAX_HEALTH_INTERVAL: Duration = Duration::from_secs(3600);

/// Results in a row that a verdict can ask for.
pub const MAX_RISE_FALL: u8 = 10;

/// Bytes of what a UDP probe sends or looks for: what every path carries in one datagram.
pub const MAX_PROBE_BYTES: usize = 512;

/// Characters of the path that an HTTP probe asks for.
pub const MAX_PROBE_PATH: usize = 1024;

/// Characters of the host that an HTTP probe asks for: a DNS name (RFC 1035, section 2.3.4).
pub const MAX_PROBE_HOST: usize = 253;

/// Endpoints of a cluster that are probed: every node probes each of them, and tells the leader of each twice an
/// interval.
pub const MAX_PROBED_ENDPOINTS: usize = 16_384;

/// Verdicts of one command.
pub const MAX_JUDGEMENTS: usize = 1024;

/// Nodes of a cluster.
pub const MAX_NODES: usize = 64;
