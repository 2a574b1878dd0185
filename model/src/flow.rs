//! One tracked connection as nodes speak of it to each other: key, version, record, and what is written
//! into a flow table. Nothing here knows a map layout or a wire format.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::ids::{EndpointId, Epoch, GroupId, ServiceId};
use crate::intent::Mode;
use crate::protocol::Protocol;

/// How many independent streams a pair of nodes replicates over. A power of two; part of the wire contract.
pub const SHARDS: u8 = 4;

/// The 5-tuple as the client sends it: `client` is the source, `service` the VIP and port. Of a flow that an
/// SNAT rule made, `client` is the host behind the gateway, `service` whatever it connects to. ICMP echo has its
/// identifier as client port, and service port 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct FlowKey {
    /// Client address and port.
    pub client: SocketAddr,
    /// VIP and service port, or the remote end of an SNAT rule's flow.
    pub service: SocketAddr,
    /// Transport protocol.
    pub protocol: Protocol,
}

impl FlowKey {
    /// The shard of a flow. The kernel computes the same from the packet: the 16-bit parts of the client's
    /// address (two of IPv4, eight of IPv6) and the client port, xored together, modulo [`SHARDS`].
    pub fn shard(&self) -> u8 {
        let folded = match self.client.ip() {
            IpAddr::V4(v4) => fold(&v4.octets()),
            IpAddr::V6(v6) => fold(&v6.octets()),
        };
        ((folded ^ self.client.port()) % u16::from(SHARDS)) as u8
    }
}

fn fold(octets: &[u8]) -> u16 {
    octets.chunks_exact(2).fold(0, |acc, pair| acc ^ u16::from_be_bytes([pair[0], pair[1]]))
}

/// Which of two records about one key is newer, within one owner's epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct FlowVersion {
    /// The owner's kernel clock when the flow was inserted, ns.
    pub birth: u64,
    /// How often the flow's state has changed since.
    pub n: u64,
}

/// I6: the order of everything ever said about a key. The sender's epoch decides before the version does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct FlowStamp {
    /// The epoch the *sender* owned the group in when it sent this.
    pub epoch: Epoch,
    /// The version under that epoch.
    pub version: FlowVersion,
}

/// What one direction of a TCP connection has shown. UDP uses `New` until it sees a packet, then `Established`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FlowState {
    /// SYN seen (TCP), or one packet in one direction (UDP).
    #[default]
    New,
    /// The handshake has completed (TCP), or both directions were seen (UDP).
    Established,
    /// One side has sent FIN.
    Closing,
    /// Both sides have sent FIN.
    Closed,
    /// An RST was seen; any later packet restores the flow (DESIGN section 5).
    ResetPending,
}

/// How packets reach the endpoint: fixed when the flow is made, whatever becomes of the service's mode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FlowKind {
    /// Translated: destination, source, or both.
    #[default]
    Nat,
    /// To the endpoint's MAC address.
    DsrL2,
    /// In an IP header of its own.
    DsrIpip,
    /// In GUE.
    DsrGue,
}

impl FlowKind {
    /// Every kind.
    pub const ALL: [FlowKind; 4] = [FlowKind::Nat, FlowKind::DsrL2, FlowKind::DsrIpip, FlowKind::DsrGue];

    /// The kind of the flows that a service of this mode makes.
    pub const fn of(mode: Mode) -> Self {
        match mode {
            Mode::Nat | Mode::Fullnat | Mode::OneArm | Mode::HostOneArm => FlowKind::Nat,
            Mode::DsrL2 => FlowKind::DsrL2,
            Mode::DsrIpip => FlowKind::DsrIpip,
            Mode::DsrGue => FlowKind::DsrGue,
        }
    }
}

impl std::fmt::Display for FlowKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            FlowKind::Nat => "nat",
            FlowKind::DsrL2 => "dsr-l2",
            FlowKind::DsrIpip => "dsr-ipip",
            FlowKind::DsrGue => "dsr-gue",
        })
    }
}

/// Everything another node needs in order to carry a flow on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FlowRecord {
    /// The flow.
    pub key: FlowKey,
    /// The group that owns the VIP.
    pub group: GroupId,
    /// The service, or the SNAT rule, it was made by.
    pub service: ServiceId,
    /// The endpoint chosen for it; 0 of an SNAT rule's flow.
    pub endpoint: EndpointId,
    /// The translated destination; `key.service` of an SNAT rule's flow.
    pub endpoint_address: SocketAddr,
    /// The translated source. `None`: the client's is kept.
    pub source: Option<SocketAddr>,
    /// How packets reach the endpoint.
    pub kind: FlowKind,
    /// Version under the sender's epoch.
    pub version: FlowVersion,
    /// Combined state.
    pub state: FlowState,
    /// The kernel's packed state word without the change counter: opaque between equal versions of the
    /// record format, see `lockstep-packet`.
    pub state_bits: u32,
    /// How long the flow may still stay idle. Time left travels, not timestamps.
    pub remaining: Duration,
}

/// A change of the origin's flow table, as its kernel reported it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum FlowChange {
    /// The flow was made or its state changed.
    Upsert(FlowRecord),
    /// The flow is gone (expired or deleted); what remains is a tombstone.
    Remove {
        /// The flow.
        key: FlowKey,
        /// Its group.
        group: GroupId,
        /// Its last version.
        version: FlowVersion,
    },
}

impl FlowChange {
    /// The flow concerned.
    pub fn key(&self) -> &FlowKey {
        match self {
            FlowChange::Upsert(r) => &r.key,
            FlowChange::Remove { key, .. } => key,
        }
    }

    /// The group concerned.
    pub fn group(&self) -> GroupId {
        match self {
            FlowChange::Upsert(r) => r.group,
            FlowChange::Remove { group, .. } => *group,
        }
    }

    /// The version this change made.
    pub fn version(&self) -> FlowVersion {
        match self {
            FlowChange::Upsert(r) => r.version,
            FlowChange::Remove { version, .. } => *version,
        }
    }
}

/// One write into a standby's flow table. The table compares stamps: an op that is not newer than what the
/// table holds changes nothing but the mark (I6).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FlowOp {
    /// What to write.
    pub change: FlowChange,
    /// The sender's epoch.
    pub epoch: Epoch,
    /// The receiver's current walk mark for the shard; entries that a finished walk has not marked are swept.
    pub mark: u32,
    /// Apply only where the key is absent (records of an old epoch during the grace period after takeover).
    pub only_if_absent: bool,
    /// The flow was found to differ from the owner's, whose word this is: it replaces what is held, whatever its stamp.
    pub repair: bool,
}

impl FlowOp {
    /// What orders this op among everything said about the key.
    pub fn stamp(&self) -> FlowStamp {
        FlowStamp { epoch: self.epoch, version: self.change.version() }
    }

    /// Births are read from the clock of whoever made the flow, and machines did not start together. Taken into
    /// a table whose own clock says `now`, none is later than that: a flow that this node makes after a takeover
    /// is then newer than whatever it inherited under the same key. Between records that are cut to `now`, the
    /// order in which they came decides, which is the order in which their owner made them.
    pub fn limit_birth(&mut self, now: u64) {
        let version = match &mut self.change {
            FlowChange::Upsert(record) => &mut record.version,
            FlowChange::Remove { version, .. } => version,
        };
        version.birth = version.birth.min(now);
    }

    /// I6: whether this op changes a table that holds `held` for the key. Every table decides by this, the
    /// kernel's as well as a test's. A removal names the last version, so it wins over that version itself.
    pub fn supersedes(&self, held: Option<FlowStamp>) -> bool {
        match (&self.change, held) {
            (FlowChange::Upsert(_), None) => true,
            (FlowChange::Remove { .. }, None) => false,
            (_, Some(_)) if self.only_if_absent => false,
            (_, Some(_)) if self.repair => true,
            (FlowChange::Upsert(_), Some(held)) => self.stamp() > held,
            (FlowChange::Remove { .. }, Some(held)) => self.stamp() >= held,
        }
    }
}

/// What became of a [`FlowOp`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WriteOutcome {
    /// The table now holds the record (or the removal).
    Applied,
    /// The table holds something at least as new; only the mark was set.
    Stale,
    /// The table is full: a negative acknowledgement, and the node is not caught up.
    Full,
    /// The VIP, service or group is not known here (yet): a negative acknowledgement.
    UnknownGroup,
    /// The kernel refused for another reason: a negative acknowledgement. The errno.
    Failed(i32),
}

impl WriteOutcome {
    /// Whether the sender may forget the record.
    pub fn is_ok(self) -> bool {
        matches!(self, WriteOutcome::Applied | WriteOutcome::Stale)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shard_is_the_fold_of_address_and_port() {
        let shard = |client: &str| {
            let service = "192.0.2.10:443".parse().unwrap();
            FlowKey { client: client.parse().unwrap(), service, protocol: Protocol::Tcp }.shard()
        };
        // 0x0a00 ^ 0x0001 ^ port, and eight parts of IPv6: 0x2001 ^ 0xdb8 ^ 0x3 ^ 0x1 ^ port.
        assert_eq!([0, 1, 2, 3].map(|port| shard(&format!("10.0.0.1:{port}"))), [1, 0, 3, 2]);
        let six = |port: u16| shard(&format!("[2001:db8:0:3::1]:{port}"));
        assert_eq!([0, 1, 2, 3].map(six), [3, 2, 1, 0]);
        assert_eq!(shard("[2001:db8:0:3::2]:0"), (0x2001_u16 ^ 0xdb8 ^ 3 ^ 2) as u8 % SHARDS);
    }

    #[test]
    fn a_kind_is_fixed_by_the_mode() {
        for mode in [Mode::Nat, Mode::Fullnat, Mode::OneArm, Mode::HostOneArm] {
            assert_eq!(FlowKind::of(mode), FlowKind::Nat);
        }
        assert_eq!(FlowKind::of(Mode::DsrL2), FlowKind::DsrL2);
        assert_eq!(FlowKind::of(Mode::DsrGue), FlowKind::DsrGue);
    }
}
