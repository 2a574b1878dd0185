//! What operators asked for, after it has been checked: values here are valid on their own.
//! `manifest` turns YAML and JSON into these and says what is wrong with them.

mod health;
mod ports;
mod prefix;
mod service;
mod snat;

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use health::{AllDown, HealthCheck, HttpProbe, Probe, StatusRange};
pub use ports::PortRange;
pub use prefix::Prefix;
pub use service::{
    Affinity, Algorithm, EndpointSpec, EndpointState, Limits, Mode, OnMiss, ServiceSpec, SyncPolicy, Timeouts,
};
pub use snat::{SnatAction, SnatRuleSpec};

/// How long a lease lasts. Cluster intent, not a node's configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LeaseProfile {
    /// 45 ms: nodes on one switch, real-time priority granted.
    Fast,
    /// 150 ms.
    #[default]
    Lan,
    /// 1 s, as long as any lease may be: nodes far apart, or without real-time priority.
    Wan,
}

impl LeaseProfile {
    /// The lease's duration.
    pub const fn duration(self) -> Duration {
        match self {
            LeaseProfile::Fast => Duration::from_millis(45),
            LeaseProfile::Lan => Duration::from_millis(150),
            LeaseProfile::Wan => Duration::from_secs(1),
        }
    }
}

/// What an owner does when it cannot renew. `keep` comes later.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnQuorumLoss {
    /// It stops forwarding (I3).
    #[default]
    Fence,
}

/// `kind: Cluster`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ClusterSettings {
    /// Lease duration.
    pub lease: LeaseProfile,
    /// Behaviour without a quorum.
    pub on_quorum_loss: OnQuorumLoss,
}

/// `kind: Group`: addresses that move together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupSpec {
    /// Unique name, 1-63 characters of `a-z 0-9 -`.
    pub name: String,
    /// Floating addresses that are no service.
    pub addresses: Vec<IpAddr>,
    /// Interfaces to answer on; empty: wherever a connected prefix contains the address.
    pub interfaces: Vec<String>,
    /// Node names in order of preference; empty: any data-plane node.
    pub nodes: Vec<String>,
    /// How many standbys hold the group's flows, 1-63; with fewer nodes that can serve it, those.
    pub standbys: u8,
    /// Whether a node that comes earlier in `nodes` gets the group back when it can serve it again.
    pub failback: bool,
}

/// What a node says of itself when it joins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NodeRole {
    /// Carries traffic and votes.
    Dataplane,
    /// Votes only.
    Witness,
}

/// A registered node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeSpec {
    /// Unique name.
    pub name: String,
    /// Role.
    pub role: NodeRole,
    /// gRPC between nodes.
    pub cluster_address: SocketAddr,
    /// Lease datagrams.
    pub lease_address: SocketAddr,
}
