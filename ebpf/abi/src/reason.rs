//! Every verdict of the dataplane, by name (I14). The number is the position in the counter map, so names are
//! only ever added at the end within one [`crate::SCHEMA`].

macro_rules! reasons {
    ($($(#[doc = $doc:literal])* $variant:ident = $name:literal,)*) => {
        /// Why a packet was forwarded, answered, passed to the stack, or dropped.
        #[repr(u32)]
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Reason {
            $($(#[doc = $doc])* $variant,)*
        }

        impl Reason {
            /// All of them, in the order of their numbers.
            pub const ALL: &'static [Reason] = &[$(Reason::$variant,)*];

            /// The reason of a number. One that there is not is the last.
            #[inline(always)]
            pub const fn of(number: u32) -> Self {
                let last = Self::ALL.len() as u32 - 1;
                let number = if number < last { number } else { last };
                // SAFETY: repr(u32), numbered from 0 without gaps, and within bounds.
                unsafe { core::mem::transmute::<u32, Self>(number) }
            }

            /// The counter's name.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Reason::$variant => $name,)*
                }
            }
        }
    };
}

reasons! {
    /// Forwarded on the fast path.
    ForwardedFast = "forwarded_fast",
    /// Forwarded after a decision on the slow path.
    ForwardedSlow = "forwarded_slow",
    /// Of those forwarded, the ones whose neighbour the kernel had to resolve.
    ForwardedUnresolved = "forwarded_unresolved",
    /// Flow made.
    FlowCreated = "flow_created",
    /// State changed.
    FlowChanged = "flow_changed",
    /// ARP request for an owned address answered.
    ArpAnswered = "arp_answered",
    /// Ping to an owned address answered.
    PingAnswered = "ping_answered",
    /// Passed to the stack: neither IPv4 nor IPv6.
    PassNotIp = "pass_not_ip",
    /// Passed to the stack: addressed to another station or to many.
    PassNotOurs = "pass_not_ours",
    /// Passed to the stack: for this node itself, or for something it does not serve.
    PassLocal = "pass_local",
    /// Passed to the stack: ARP that concerns none of the addresses.
    PassArp = "pass_arp",
    /// Passed to the stack: transit from an endpoint-side network, under a lease.
    PassTransit = "pass_transit",
    /// Dropped: the group's lease is not held here (I4).
    NoLease = "no_lease",
    /// Dropped: from an endpoint's service port, without a flow (I10).
    ReplyWithoutFlow = "reply_without_flow",
    /// Dropped: transit from an endpoint-side network without the lease of a group that uses it.
    TransitWithoutLease = "transit_without_lease",
    /// Dropped: an owned address, but no service at that port and protocol.
    NoService = "no_service",
    /// Dropped: mid-flow packet without a flow (`on_miss: drop`).
    Miss = "miss",
    /// Dropped: the service has no endpoint that takes new flows.
    NoEndpoint = "no_endpoint",
    /// Dropped: no room for a new flow.
    FlowTableFull = "flow_table_full",
    /// Dropped: another flow holds the translated tuple.
    ReplyTupleTaken = "reply_tuple_taken",
    /// Dropped: two packets raced to make or change the flow; the peer sends again.
    Raced = "raced",
    /// Dropped: the flow is being removed.
    FlowDead = "flow_dead",
    /// Dropped: the entry's memory was reused while it was read.
    FlowRecycled = "flow_recycled",
    /// Dropped: the flow's VIP is no longer at the index it names.
    AddressGone = "address_gone",
    /// Dropped: a fragment that could undo the translation, or whose SCTP checksum another port would change.
    Fragment = "fragment",
    /// Dropped: a source route, or options without length.
    IpOptions = "ip_options",
    /// Dropped: truncated or contradictory headers.
    Malformed = "malformed",
    /// Dropped: time to live used up.
    TtlExceeded = "ttl_exceeded",
    /// Dropped: an ICMP error of an endpoint's about a packet of no flow.
    IcmpError = "icmp_error",
    /// Dropped: SYN with FIN or RST, or another combination that no stack sends.
    TcpFlags = "tcp_flags",
    /// Dropped: no route to the next hop.
    NoRoute = "no_route",
    /// Dropped: larger than the next hop's MTU.
    FragNeeded = "frag_needed",
    /// Dropped: forwarding is not switched on for the interface.
    ForwardingOff = "forwarding_off",
    /// Dropped: the next hop is behind a gateway of another family, or of a kind not handled.
    NextHopUnsupported = "next_hop_unsupported",
    /// Dropped: the kernel refused to change the packet.
    RewriteFailed = "rewrite_failed",
    /// Dropped: a tail call found no program.
    StageMissing = "stage_missing",
    /// The event ring was full; the shard is walked again.
    EventLost = "event_lost",
    /// Dropped: a reply entry without an original, which was removed.
    TwinMissing = "twin_missing",
    /// Dropped: the kernel refused to write the flow table, for another reason than its size.
    FlowInsertFailed = "flow_insert_failed",
    /// An original without its reply entry, which was written again.
    TwinRepaired = "twin_repaired",
    /// Dropped: would begin a flow while the node's intent is stale; flows that exist go on.
    IntentStale = "intent_stale",
    /// Flow made again by its hash, from the middle of a connection (`on_miss: recover`).
    FlowRecovered = "flow_recovered",
    /// Dropped: mid-flow packet that might have made its flow again, were that not limited in rate.
    RecoverLimited = "recover_limited",
    /// Dropped: an endpoint refused a flow that was made again; the flow goes.
    RecoveryRefused = "recovery_refused",
    /// Mid-flow packet without a flow answered with RST (`on_miss: reset`).
    MissReset = "miss_reset",
    /// Dropped: the client is in none of the service's `sources`.
    SourceNotAllowed = "source_not_allowed",
    /// Dropped: the service has as many flows as `limits.connections` allows.
    ConnectionLimit = "connection_limit",
    /// Dropped: the service gets more new flows than `limits.new_per_second` allows.
    RateLimit = "rate_limit",
    /// Dropped: no source port left in the address's blocks, or none found in the bounded number of tries.
    PortsExhausted = "ports_exhausted",
    /// A choice could not be kept: the affinity table is full.
    AffinityFull = "affinity_full",
    /// A choice was kept.
    AffinityHit = "affinity_hit",
    /// Dropped: the flow's endpoint is not known here any more, or has no address to encapsulate from.
    TargetGone = "target_gone",
    /// Dropped: a fragment whose first fragment was not seen.
    FragmentWithoutFirst = "fragment_without_first",
    /// Of those forwarded, the ones that are ICMP errors.
    IcmpErrorForwarded = "icmp_error_forwarded",
    /// Dropped: ICMP error to an owned address about a packet of no flow.
    IcmpErrorWithoutFlow = "icmp_error_without_flow",
    /// An ICMP error was sent for a dropped packet: too big.
    SentTooBig = "sent_too_big",
    /// An ICMP error was sent for a dropped packet: time exceeded.
    SentTimeExceeded = "sent_time_exceeded",
    /// Dropped: an ICMP error was due, but they are limited in rate.
    IcmpLimited = "icmp_limited",
    /// Neighbour solicitation for an owned address answered.
    SolicitationAnswered = "solicitation_answered",
    /// Passed to the stack: neighbour discovery that concerns none of the addresses.
    PassNeighbour = "pass_neighbour",
    /// Dropped: more extension headers than are looked at.
    ExtensionHeaders = "extension_headers",
    /// Passed on by an exemption of the translation rules, under a lease.
    PassExempt = "pass_exempt",
    /// Handed by XDP to the tc program, which decides.
    XdpPassed = "xdp_passed",
    /// Dropped: would begin a flow from an address that no router may pass on (unspecified, loopback, link-local,
    /// multicast or broadcast).
    SourceStaysOnLink = "source_stays_on_link",
}

/// How many: the size of [`crate::map::COUNTERS`].
pub const COUNT: u32 = Reason::ALL.len() as u32;
