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
    /// Passed to the stack: not IPv4.
    PassNotIpv4 = "pass_not_ipv4",
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
    /// Dropped: a fragment to an owned address or from an endpoint.
    Fragment = "fragment",
    /// Dropped: IP options to an owned address or from an endpoint's.
    IpOptions = "ip_options",
    /// Dropped: truncated or contradictory headers.
    Malformed = "malformed",
    /// Dropped: time to live used up.
    TtlExceeded = "ttl_exceeded",
    /// Dropped: an ICMP error to an owned address or from an endpoint; not translated in this version.
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
}

/// How many: the size of [`crate::map::COUNTERS`].
pub const COUNT: u32 = Reason::ALL.len() as u32;
