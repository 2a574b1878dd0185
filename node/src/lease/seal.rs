//! Seals and opens lease datagrams: who sent it, for whom, in which cluster, and never twice.

use hmac::{Hmac, Mac};
use lockstep_model::ids::NodeId;
use lockstep_ownership::identity::{BootId, Identity};
use lockstep_ownership::message::Message;
use lockstep_proto::lease::v1 as pb;
use prost::Message as _;
use sha2::Sha256;

use super::codec::{self, Malformed};
use super::replay::{ReplayGuard, Stale};

/// The largest datagram sent or looked at.
pub(crate) const MAX_DATAGRAM: usize = 60 * 1024;
/// Separates this use of the cluster's secret from any other.
const DOMAIN: &[u8] = b"lockstep.lease.v1";

type HmacSha256 = Hmac<Sha256>;

/// Why a datagram was dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Dropped {
    /// It is no envelope, or what is in it is no message.
    Malformed,
    /// Not made with the cluster's secret, or changed on its way.
    BadMac,
    /// From another cluster that has the same secret.
    ForeignCluster,
    /// Meant for another node.
    NotForUs,
    /// Seen before.
    Replay,
    /// From a run of the sender that has ended.
    EarlierRun,
    /// More senders than a cluster has nodes.
    TooManySenders,
    /// It names this very node as its sender.
    FromOurselves,
}

impl Dropped {
    /// All, for metrics.
    pub(crate) const ALL: [Dropped; 8] = [
        Dropped::Malformed,
        Dropped::BadMac,
        Dropped::ForeignCluster,
        Dropped::NotForUs,
        Dropped::Replay,
        Dropped::EarlierRun,
        Dropped::TooManySenders,
        Dropped::FromOurselves,
    ];

    /// Metric label.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Dropped::Malformed => "malformed",
            Dropped::BadMac => "bad_mac",
            Dropped::ForeignCluster => "foreign_cluster",
            Dropped::NotForUs => "not_for_us",
            Dropped::Replay => "replay",
            Dropped::EarlierRun => "earlier_run",
            Dropped::TooManySenders => "too_many_senders",
            Dropped::FromOurselves => "from_ourselves",
        }
    }
}

impl From<Malformed> for Dropped {
    fn from(_: Malformed) -> Self {
        Dropped::Malformed
    }
}

/// One node's end of the datagram channel.
pub(crate) struct Seal {
    mac: HmacSha256,
    cluster: [u8; 16],
    me: Identity,
    counter: u64,
    guard: ReplayGuard,
}

impl Seal {
    pub(crate) fn new(secret: &[u8; 32], cluster: [u8; 16], me: Identity) -> Self {
        let key = keyed(secret).chain_update(DOMAIN).finalize().into_bytes();
        Self { mac: keyed(&key), cluster, me, counter: 0, guard: ReplayGuard::default() }
    }

    /// A datagram with `message` for `target`.
    pub(crate) fn seal(&mut self, target: NodeId, message: &Message) -> Vec<u8> {
        self.counter += 1;
        let header = pb::Header {
            cluster_id: self.cluster.to_vec(),
            sender: self.me.node.get(),
            boot_id: self.me.boot.0.to_vec(),
            incarnation: self.me.incarnation,
            counter: self.counter,
            target: target.get(),
        };
        let body = pb::Body { header: Some(header), message: Some(codec::encode(message)) }.encode_to_vec();
        let mac = self.mac.clone().chain_update(&body).finalize().into_bytes().to_vec();
        pb::Envelope { body, mac }.encode_to_vec()
    }

    /// The message in a datagram, and the run that provably sent it.
    pub(crate) fn open(&mut self, datagram: &[u8]) -> Result<(Identity, Message), Dropped> {
        let envelope = pb::Envelope::decode(datagram).map_err(|_| Dropped::Malformed)?;
        self.mac
            .clone()
            .chain_update(&envelope.body)
            .verify_slice(&envelope.mac)
            .map_err(|_| Dropped::BadMac)?;
        let body = pb::Body::decode(envelope.body.as_slice()).map_err(|_| Dropped::Malformed)?;
        let header = body.header.ok_or(Dropped::Malformed)?;
        if header.cluster_id != self.cluster {
            return Err(Dropped::ForeignCluster);
        }
        if header.target != self.me.node.get() {
            return Err(Dropped::NotForUs);
        }
        if header.sender == self.me.node.get() {
            return Err(Dropped::FromOurselves);
        }
        let boot = BootId(header.boot_id.try_into().map_err(|_| Dropped::Malformed)?);
        let from = Identity { node: NodeId(header.sender), boot, incarnation: header.incarnation };
        self.guard.accept(from, header.counter).map_err(|stale| match stale {
            Stale::Replay => Dropped::Replay,
            Stale::EarlierRun => Dropped::EarlierRun,
            Stale::TooManySenders => Dropped::TooManySenders,
        })?;
        let message = body.message.ok_or(Dropped::Malformed)?;
        Ok((from, codec::decode(self.me.node, message)?))
    }
}

fn keyed(key: &[u8]) -> HmacSha256 {
    HmacSha256::new_from_slice(key).expect("HMAC takes keys of any length")
}

#[cfg(test)]
mod tests {
    use lockstep_model::ids::{Epoch, GroupId};
    use lockstep_ownership::message::{Release, Tenure};

    use super::*;

    fn node(id: u64) -> Seal {
        Seal::new(&[7; 32], [1; 16], identity(id))
    }

    fn identity(id: u64) -> Identity {
        Identity { node: NodeId(id), boot: BootId([id as u8; 16]), incarnation: 1 }
    }

    fn message() -> Message {
        Message::Release(Release { tenures: vec![Tenure { group: GroupId(1), epoch: Epoch(2) }] })
    }

    #[test]
    fn what_was_sealed_opens_once_and_only_where_it_was_sent() {
        let (mut a, mut b, mut c) = (node(1), node(2), node(3));
        let datagram = a.seal(NodeId(2), &message());
        assert_eq!(c.open(&datagram), Err(Dropped::NotForUs));
        assert_eq!(b.open(&datagram), Ok((identity(1), message())));
        assert_eq!(b.open(&datagram), Err(Dropped::Replay));
        let own = a.seal(NodeId(1), &message());
        assert_eq!(a.open(&own), Err(Dropped::FromOurselves));
    }

    #[test]
    fn another_secret_cluster_or_any_changed_bit_is_refused() {
        let datagram = node(1).seal(NodeId(2), &message());
        assert_eq!(Seal::new(&[8; 32], [1; 16], identity(2)).open(&datagram), Err(Dropped::BadMac));
        assert_eq!(Seal::new(&[7; 32], [2; 16], identity(2)).open(&datagram), Err(Dropped::ForeignCluster));
        for bit in 0..datagram.len() * 8 {
            let mut changed = datagram.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            let opened = node(2).open(&changed);
            assert!(matches!(opened, Err(Dropped::BadMac | Dropped::Malformed)), "bit {bit}: {opened:?}");
        }
        assert_eq!(node(2).open(&[]), Err(Dropped::BadMac));
    }
}
