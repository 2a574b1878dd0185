//! `kind: Service`.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{HealthCheck, PortRange, Prefix};
use crate::duration;
use crate::limits::SYNC_AFTER;
use crate::protocol::{Family, Protocol};

/// How an endpoint is chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Algorithm {
    /// Consistent hashing of the flow (Eisenbud et al., NSDI 2016), weighted.
    #[default]
    Maglev,
    /// In turn, regardless of weight (weight 0 takes no new flow).
    RoundRobin,
    /// In turn, each as often as its weight says, exactly.
    WeightedRoundRobin,
    /// Consistent hashing of the client's address alone, by the same table as Maglev's.
    SourceHash,
    /// The one with the fewest live flows for its weight.
    LeastConnections,
}

impl Algorithm {
    /// I7: whether every node computes the same endpoint for a flow, without having seen it.
    pub const fn is_hash(self) -> bool {
        matches!(self, Algorithm::Maglev | Algorithm::SourceHash)
    }
}

/// How packets get to an endpoint and back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// The destination is translated; the endpoint sees the client.
    #[default]
    Nat,
    /// Source and destination are translated; the endpoint sees the VIP, or an address of the pool.
    Fullnat,
    /// Likewise, with a floating address of the group in the endpoints' subnet.
    OneArm,
    /// One-arm, for every address of the group.
    HostOneArm,
    /// Only the MAC address changes; the endpoint has the VIP and answers the client itself.
    DsrL2,
    /// The packet travels to the endpoint in an IP header of its own.
    DsrIpip,
    /// The packet travels to the endpoint in GUE (draft-ietf-intarea-gue).
    DsrGue,
}

impl Mode {
    /// Whether the endpoint answers the client itself.
    pub const fn is_dsr(self) -> bool {
        matches!(self, Mode::DsrL2 | Mode::DsrIpip | Mode::DsrGue)
    }

    /// Whether the endpoint always sees an address of the group in place of the client's. In mode nat it
    /// does only where it calls a VIP of its own service (hairpin).
    pub const fn translates_source(self) -> bool {
        matches!(self, Mode::Fullnat | Mode::OneArm | Mode::HostOneArm)
    }

    /// Whether an endpoint of one family can serve a VIP of another: only what is tunnelled can.
    pub const fn carries(self, vip: Family, endpoint: Family) -> bool {
        match (vip, endpoint) {
            (Family::V4, Family::V4) | (Family::V6, Family::V6) => true,
            (Family::V4, Family::V6) => matches!(self, Mode::DsrIpip | Mode::DsrGue),
            (Family::V6, Family::V4) => false,
        }
    }
}

/// When a flow is copied to the standbys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SyncPolicy {
    /// At creation and at every state change.
    #[default]
    Immediate,
    /// Once both directions were seen, and at every state change from then on.
    Established,
    /// Once the flow has lived for this long, and at every state change from then on.
    After(Duration),
    /// Never.
    None,
}

impl SyncPolicy {
    /// How it is written.
    pub const FORMS: &str = "immediate, established, none, after:100ms to after:1m";

    /// The policies without a time.
    const WORDS: [(&str, SyncPolicy); 3] = [
        ("immediate", SyncPolicy::Immediate),
        ("established", SyncPolicy::Established),
        ("none", SyncPolicy::None),
    ];

    /// Before the time of [`SyncPolicy::After`].
    const AFTER: &str = "after:";

    /// How long a flow must have lived before it is copied, if the policy says so.
    pub const fn age(self) -> Option<Duration> {
        match self {
            SyncPolicy::After(age) => Some(age),
            SyncPolicy::Immediate | SyncPolicy::Established | SyncPolicy::None => None,
        }
    }
}

impl FromStr for SyncPolicy {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        if let Some(age) = text.strip_prefix(Self::AFTER) {
            let age = duration::parse(age).filter(|age| SYNC_AFTER.contains(age));
            return age.map(SyncPolicy::After).ok_or(());
        }
        Self::WORDS.iter().find(|(word, _)| *word == text).map(|(_, policy)| *policy).ok_or(())
    }
}

impl fmt::Display for SyncPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SyncPolicy::After(age) => write!(f, "{}{}", Self::AFTER, duration::show(*age)),
            SyncPolicy::Immediate => f.write_str("immediate"),
            SyncPolicy::Established => f.write_str("established"),
            SyncPolicy::None => f.write_str("none"),
        }
    }
}

/// What becomes of a packet amid a flow that this node does not know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnMiss {
    /// The hash says which endpoint it goes to, for a bounded time after a takeover.
    Recover,
    /// It is dropped.
    Drop,
    /// It is answered with a reset, outside the time after a takeover.
    Reset,
}

impl OnMiss {
    /// What holds where the operator says nothing.
    pub const fn default_of(algorithm: Algorithm, mode: Mode) -> Self {
        if algorithm.is_hash() && !mode.translates_source() { OnMiss::Recover } else { OnMiss::Drop }
    }
}

/// Clients that share a prefix of their address keep to the endpoint that the first of them got.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Affinity {
    /// Bits of an IPv4 address, 0-32.
    pub prefix4: u8,
    /// Bits of an IPv6 address, 0-128.
    pub prefix6: u8,
    /// For how long after the last new flow.
    pub timeout: Duration,
}

impl Default for Affinity {
    fn default() -> Self {
        Affinity { prefix4: 32, prefix6: 128, timeout: Duration::from_secs(3 * 3600) }
    }
}

/// How long flows stay without a packet, by state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timeouts {
    /// TCP and SCTP with a completed handshake.
    pub established: Duration,
    /// During the handshake.
    pub syn: Duration,
    /// After a FIN, a SHUTDOWN or a reset.
    pub fin: Duration,
    /// UDP and ICMP echo, seen in one direction.
    pub udp: Duration,
    /// UDP and ICMP echo, seen in both.
    pub udp_stream: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Timeouts {
            established: Duration::from_secs(3600),
            syn: Duration::from_secs(10),
            fin: Duration::from_secs(30),
            udp: Duration::from_secs(60),
            udp_stream: Duration::from_secs(180),
        }
    }
}

/// How much a service may take, of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Limits {
    /// Live flows; from 1.
    pub connections: Option<u32>,
    /// New flows a second, 1 to [`crate::limits::MAX_NEW_PER_SECOND`].
    pub new_per_second: Option<u32>,
}

/// Whether an endpoint takes flows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EndpointState {
    /// New and live flows.
    #[default]
    Active,
    /// Live flows only.
    Drain,
    /// Live flows only; it does not count as capacity and is not probed.
    Disabled,
}

/// One backend of a service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndpointSpec {
    /// Address and port packets are sent to. Port 0: the port that the client sent to.
    pub address: SocketAddr,
    /// 0-1000; 0 takes no new flow.
    pub weight: u16,
    /// State.
    pub state: EndpointState,
    /// Takes new flows only where no other endpoint does.
    pub backup: bool,
}

/// `kind: Service`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceSpec {
    /// Unique name, 1-63 characters of `a-z 0-9 -`.
    pub name: String,
    /// Name of the group that owns the VIPs.
    pub group: String,
    /// One or more VIPs. None, in mode host-one-arm: every address of the group.
    pub vip: Vec<IpAddr>,
    /// The ports clients connect to; [`PortRange::NONE`] where ICMP is the only protocol.
    pub port: PortRange,
    /// One or more protocols.
    pub protocol: Vec<Protocol>,
    /// Endpoint choice.
    pub algorithm: Algorithm,
    /// On top of it.
    pub affinity: Option<Affinity>,
    /// Forwarding.
    pub mode: Mode,
    /// Mode fullnat: the addresses that endpoints see, of the same group; none: the VIP.
    pub snat_pool: Vec<IpAddr>,
    /// Idle times.
    pub timeouts: Timeouts,
    /// Replication.
    pub sync: SyncPolicy,
    /// Packets without a flow.
    pub on_miss: OnMiss,
    /// Who may connect; none: anyone.
    pub sources: Vec<Prefix>,
    /// Bounds.
    pub limits: Limits,
    /// How long an endpoint that was added, or came up again, takes to get its full share.
    pub slow_start: Option<Duration>,
    /// How endpoints are probed; `None`: not at all, and all are up.
    pub health: Option<Box<HealthCheck>>,
    /// Up to 1024 endpoints, unique by address and port.
    pub endpoints: Vec<EndpointSpec>,
}
