//! What a node's kernel should hold, as a function of the agreed state alone.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::ids::{EndpointId, Epoch, GroupId, LogIndex, NodeId, Revision, ServiceId};
use crate::intent::{
    Affinity, Algorithm, AllDown, EndpointState, Limits, Mode, OnMiss, PortRange, Prefix, SyncPolicy,
    Timeouts,
};
use crate::protocol::{Family, Protocol};
use crate::state::State;

pub use crate::intent::SnatAction;

/// The desired content of the configuration maps of one node. The same on owner and standby, but for `role`:
/// a standby holds everything and stays silent because it holds no lease.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Image {
    /// By group id.
    pub groups: Vec<GroupImage>,
    /// By service id.
    pub services: Vec<ServiceImage>,
    /// In the order in which they are tried: by priority, then by id.
    pub snat_rules: Vec<SnatRuleImage>,
}

/// A group's part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupImage {
    /// Id.
    pub id: GroupId,
    /// Name, for logs and metrics.
    pub name: String,
    /// Current epoch, 0 if unassigned.
    pub epoch: Epoch,
    /// Whether this node should own it.
    pub owner: bool,
    /// Interfaces to answer on; empty: by connected prefix.
    pub interfaces: Vec<String>,
    /// VIPs, floating addresses, and those that SNAT rules translate to.
    pub addresses: Vec<AddressImage>,
}

/// An address that the group's owner answers for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AddressImage {
    /// The address.
    pub address: IpAddr,
    /// A service's VIP.
    pub vip: bool,
    /// A floating address.
    pub floating: bool,
    /// Flows leave with it as their translated source and a port of `port_blocks`.
    pub snat: bool,
    /// Bit b: source ports b * 1024 to b * 1024 + 1023 are the group's. 0 where `snat` is not.
    pub port_blocks: u64,
    /// The host that a static rule puts behind it.
    pub static_host: Option<IpAddr>,
    /// A group gave it up, and whoever served it then may still hold its lease: not served before MAX_LEASE
    /// after this index was applied here.
    pub after: Option<LogIndex>,
}

/// Where clients connect to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Frontend {
    /// The VIP.
    pub vip: IpAddr,
    /// Its ports; [`PortRange::NONE`] where ICMP is the only protocol.
    pub ports: PortRange,
}

/// A service's part: one immutable version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceImage {
    /// Id.
    pub id: ServiceId,
    /// Name, for logs and metrics.
    pub name: String,
    /// The version.
    pub revision: Revision,
    /// Owning group.
    pub group: GroupId,
    /// Every VIP with its ports; of a host-one-arm service without VIPs, every address of the group.
    pub frontends: Vec<Frontend>,
    /// Protocols.
    pub protocols: Vec<Protocol>,
    /// Choice.
    pub algorithm: Algorithm,
    /// Forwarding.
    pub mode: Mode,
    /// Replication.
    pub sync: SyncPolicy,
    /// Packets without a flow.
    pub on_miss: OnMiss,
    /// On top of the choice.
    pub affinity: Option<Affinity>,
    /// Idle times.
    pub timeouts: Timeouts,
    /// Who may connect; empty: anyone.
    pub sources: Vec<Prefix>,
    /// Bounds.
    pub limits: Limits,
    /// How long an endpoint that was added, or came up again, takes to get its full share.
    pub slow_start: Option<Duration>,
    /// Who takes new flows when all endpoints are down.
    pub all_down: AllDown,
    /// Candidates for the translated source: the pool or the VIPs (fullnat), the group's floating addresses of
    /// the endpoints' families (one-arm), the VIPs (nat, hairpin only), none (dsr).
    pub snat: Vec<IpAddr>,
    /// All endpoints, drained ones included (their live flows and the reply guard need them).
    pub endpoints: Vec<EndpointImage>,
}

impl ServiceImage {
    /// The endpoints that take new flows: active with weight, and up; primaries, or if there are none the backups.
    /// When all are down it depends on what the operator wants then.
    pub fn eligible(&self) -> Vec<EndpointImage> {
        self.preferred(|_| true)
    }

    /// Those of them that can serve a VIP of `family`. Where a service has both families, each has its own
    /// primaries and backups.
    pub fn eligible_for(&self, family: Family) -> Vec<EndpointImage> {
        let serves = |endpoint: &&EndpointImage| self.mode.carries(family, Family::of(endpoint.address.ip()));
        self.preferred(serves)
    }

    fn preferred(&self, serves: impl Fn(&&EndpointImage) -> bool) -> Vec<EndpointImage> {
        let serving = || self.endpoints.iter().filter(&serves).copied();
        let up = primaries_first(serving().filter(EndpointImage::takes_new_flows));
        match self.all_down {
            AllDown::ServeAll if up.is_empty() => {
                primaries_first(serving().filter(EndpointImage::is_offered))
            }
            _ => up,
        }
    }
}

fn primaries_first(endpoints: impl Iterator<Item = EndpointImage>) -> Vec<EndpointImage> {
    let (backups, primaries): (Vec<_>, Vec<_>) = endpoints.partition(|endpoint| endpoint.backup);
    if primaries.is_empty() { backups } else { primaries }
}

/// An endpoint's part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EndpointImage {
    /// Id.
    pub id: EndpointId,
    /// Translated destination. Port 0: the port that the client sent to.
    pub address: SocketAddr,
    /// 0: no new flows.
    pub weight: u16,
    /// State.
    pub state: EndpointState,
    /// New flows only where no primary takes them.
    pub backup: bool,
    /// The cluster has agreed that it does not answer its probes.
    pub down: bool,
}

impl EndpointImage {
    /// Whether new flows may be sent here: for a backup, where there is no primary.
    pub fn takes_new_flows(&self) -> bool {
        self.is_offered() && !self.down
    }

    /// Whether the operator wants new flows here.
    pub fn is_offered(&self) -> bool {
        self.weight > 0 && self.state == EndpointState::Active
    }
}

/// An SNAT rule's part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnatRuleImage {
    /// Id. Flows name their rule by it, as others name their service.
    pub id: ServiceId,
    /// Name, for logs and metrics.
    pub name: String,
    /// Owning group.
    pub group: GroupId,
    /// The lowest is tried first.
    pub priority: u16,
    /// Where the connection comes from.
    pub source: Prefix,
    /// Where it goes, of the same family.
    pub destination: Prefix,
    /// `None`: any.
    pub protocol: Option<Protocol>,
    /// Destination ports.
    pub ports: PortRange,
    /// What becomes of it.
    pub action: SnatAction,
}

/// The image for `node`. A witness's is empty.
pub fn desired(state: &State, node: NodeId) -> Image {
    crate::desired::desired(state, node)
}
