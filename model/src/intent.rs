//! What operators asked for, after it has been checked: values here are valid on their own.
//! `manifest` turns YAML and JSON into these and says what is wrong with them.

use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU16;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::protocol::Protocol;

/// How long a lease lasts. Cluster intent, not a node's configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LeaseProfile {
    /// 45 ms: nodes on one switch, real-time priority granted.
    Fast,
    /// 150 ms.
    #[default]
    Lan,
}

impl LeaseProfile {
    /// The lease's duration.
    pub const fn duration(self) -> Duration {
        match self {
            LeaseProfile::Fast => Duration::from_millis(45),
            LeaseProfile::Lan => Duration::from_millis(150),
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
    /// How many standbys hold the group's flows. This version: 1 (a group has one owner and one standby)
    /// or more than there are candidates, which means all of them.
    pub standbys: u8,
    /// Whether the preferred node takes the group back. This version: false.
    pub failback: bool,
}

/// How an endpoint is chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Algorithm {
    /// Consistent hashing (Eisenbud et al., NSDI 2016), weighted.
    #[default]
    Maglev,
    /// In turn, regardless of weight (weight 0 takes no new flow).
    RoundRobin,
}

/// When a flow is copied to the standbys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SyncPolicy {
    /// At creation and at every state change.
    #[default]
    Immediate,
    /// Never.
    None,
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
    /// Live flows only, and it does not count as capacity.
    Disabled,
}

/// One backend of a service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndpointSpec {
    /// Address and port packets are sent to.
    pub address: SocketAddr,
    /// 0-1000; 0 takes no new flow.
    pub weight: u16,
    /// State.
    pub state: EndpointState,
}

/// `kind: Service`, mode nat.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceSpec {
    /// Unique name, 1-63 characters of `a-z 0-9 -`.
    pub name: String,
    /// Name of the group that owns the VIPs.
    pub group: String,
    /// One or more VIPs.
    pub vip: Vec<IpAddr>,
    /// The port clients connect to.
    pub port: NonZeroU16,
    /// One or more protocols.
    pub protocol: Vec<Protocol>,
    /// Endpoint choice.
    pub algorithm: Algorithm,
    /// Replication.
    pub sync: SyncPolicy,
    /// Up to 1024 endpoints, unique by address and port.
    pub endpoints: Vec<EndpointSpec>,
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
