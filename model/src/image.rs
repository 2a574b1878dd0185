//! What a node's kernel should hold, as a function of the agreed state alone.

use std::net::{IpAddr, SocketAddr};

use crate::ids::{EndpointId, Epoch, GroupId, LogIndex, NodeId, Revision, ServiceId};
use crate::intent::{Algorithm, EndpointState, SyncPolicy};
use crate::protocol::Protocol;
use crate::state::State;

/// The desired content of the configuration maps of one node. The same on owner and standby, but for `role`:
/// a standby holds everything and stays silent because it holds no lease.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Image {
    /// By group id.
    pub groups: Vec<GroupImage>,
    /// By service id.
    pub services: Vec<ServiceImage>,
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
    /// VIPs and floating addresses.
    pub addresses: Vec<AddressImage>,
}

/// An address that the group's owner answers for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AddressImage {
    /// The address.
    pub address: IpAddr,
    /// A service's VIP, or floating only.
    pub vip: bool,
    /// A group gave it up, and whoever served it then may still hold its lease: not served before MAX_LEASE
    /// after this index was applied here.
    pub after: Option<LogIndex>,
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
    /// Every (VIP, port).
    pub frontends: Vec<SocketAddr>,
    /// Protocols.
    pub protocols: Vec<Protocol>,
    /// Choice.
    pub algorithm: Algorithm,
    /// Replication.
    pub sync: SyncPolicy,
    /// All endpoints, drained ones included (their live flows and the reply guard need them).
    pub endpoints: Vec<EndpointImage>,
}

/// An endpoint's part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EndpointImage {
    /// Id.
    pub id: EndpointId,
    /// Translated destination.
    pub address: SocketAddr,
    /// 0: no new flows.
    pub weight: u16,
    /// State.
    pub state: EndpointState,
}

impl EndpointImage {
    /// Whether new flows may be sent here.
    pub fn takes_new_flows(&self) -> bool {
        self.weight > 0 && self.state == EndpointState::Active
    }
}

/// The image for `node`. A witness's is empty.
pub fn desired(state: &State, node: NodeId) -> Image {
    crate::desired::desired(state, node)
}
