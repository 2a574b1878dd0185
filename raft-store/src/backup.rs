//! What outlives a cluster: the agreed state in a file, and the first data directory of a new cluster made from it.
//!
//! A backup is `LSBACK01 | length | crc32c | lockstep.raft.v1.Backup`; see `docs/membership.md`.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use lockstep_model::ids::NodeId;
use lockstep_model::state::State;
use lockstep_proto::raft::v1 as pb;
use prost::Message;

use crate::codec;
use crate::config::{EPOCH_JUMP, MAX_SNAPSHOT};
use crate::envelope;
use crate::layout::succession::Successor;
use crate::layout::{ClusterId, Identity};
use crate::snapshot::Image;
use crate::types::{LeaderId, LogId, Membership, Peer, SnapshotMeta, StoredMembership};

const MAGIC: &[u8; 8] = b"LSBACK01";

/// The agreed state, and where in its cluster's log it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backup {
    /// The cluster it is of.
    pub cluster_name: String,
    /// Its number.
    pub cluster_id: ClusterId,
    /// Everything up to here is in it.
    pub log_index: u64,
    /// Raft's term then.
    pub term: u64,
    /// The state.
    pub state: State,
}

impl Backup {
    /// The file.
    pub fn encode(&self) -> Vec<u8> {
        let message = pb::Backup {
            cluster_name: self.cluster_name.clone(),
            cluster_id: self.cluster_id.to_vec(),
            log_index: self.log_index,
            term: self.term,
            state: Some((&self.state).into()),
        };
        envelope::wrap(MAGIC, &message.encode_to_vec())
    }

    /// What a file says, or what is wrong with it.
    pub fn decode(file: &[u8]) -> Result<Backup, String> {
        if file.len() > MAX_SNAPSHOT {
            return Err(format!("{} bytes; allowed: {MAX_SNAPSHOT}", file.len()));
        }
        let message =
            pb::Backup::decode(envelope::unwrap(MAGIC, "backup", file)?).map_err(|e| e.to_string())?;
        let state = message.state.ok_or("it holds no state")?;
        Ok(Backup {
            cluster_name: message.cluster_name,
            cluster_id: ClusterId::from_slice(&message.cluster_id)
                .ok_or("a cluster id of other than 16 bytes")?,
            log_index: message.log_index,
            term: message.term,
            state: State::try_from(state).map_err(|e| e.to_string())?,
        })
    }

    /// The beginning of a new cluster with this intent: a new number, one voter with a number that nobody had, no
    /// owners, and log indexes, which are epochs, beyond all that the old cluster may have come to.
    pub(crate) fn found(mut self, cluster_name: &str, address: SocketAddr) -> (Successor, Identity) {
        self.state.refound();
        let node = NodeId(self.state.last_node.get() + 1);
        let term = self.term + 1;
        let leader_id = LeaderId { term, node_id: node.get() };
        let last = LogId { leader_id, index: self.log_index + EPOCH_JUMP };
        let voters = vec![BTreeSet::from([node.get()])];
        let membership = Membership::new(voters, BTreeMap::from([(node.get(), Peer { address })]));
        let membership = membership.expect("its only voter has an address");
        let meta = SnapshotMeta {
            last_log_id: Some(last),
            last_membership: StoredMembership::new(Some(last), membership),
        };
        let identity =
            Identity { cluster_name: cluster_name.to_owned(), cluster_id: ClusterId(rand::random()), node };
        let vote = codec::vote(&crate::types::Vote { leader_id, committed: false });
        let snapshot = Image::encode(meta, &self.state).bytes;
        (Successor::Founder { identity: identity.clone(), snapshot, vote }, identity)
    }
}

#[cfg(test)]
mod tests {
    use lockstep_model::command::Command;
    use lockstep_model::ids::LogIndex;
    use lockstep_model::intent::{NodeRole, NodeSpec};
    use lockstep_model::state::apply;

    use super::*;

    fn backup() -> Backup {
        let mut state = State::default();
        let address = ([10, 9, 0, 1], 7400).into();
        let spec = NodeSpec {
            name: "a".into(),
            role: NodeRole::Dataplane,
            cluster_address: address,
            lease_address: address,
        };
        apply(&mut state, LogIndex(2), &Command::RegisterNode { id: NodeId(3), spec });
        let (cluster_name, cluster_id) = ("edge".to_owned(), ClusterId([7; 16]));
        Backup { cluster_name, cluster_id, log_index: 500, term: 4, state }
    }

    #[test]
    fn a_backup_is_read_as_it_was_written() {
        assert_eq!(Backup::decode(&backup().encode()), Ok(backup()));
    }

    #[test]
    fn i1_a_damaged_backup_is_refused() {
        let file = backup().encode();
        for at in 0..file.len() {
            for bit in 0..8 {
                let mut damaged = file.clone();
                damaged[at] ^= 1 << bit;
                assert!(Backup::decode(&damaged).is_err(), "bit {bit} of byte {at}");
            }
            assert!(Backup::decode(&file[..at]).is_err(), "cut at {at}");
        }
    }

    #[test]
    fn another_version_is_named() {
        let mut file = backup().encode();
        file[7] = b'2';
        let refused = "a backup of version 02; this program reads version 01";
        assert_eq!(Backup::decode(&file), Err(refused.to_owned()));
    }

    #[test]
    fn i3_single_owner_a_new_cluster_has_epochs_beyond_the_old_ones() {
        let (successor, identity) = backup().found("edge", ([10, 9, 0, 1], 7400).into());
        let Successor::Founder { snapshot, vote, .. } = successor else { panic!("a cluster is founded") };
        let image = Image::decode(snapshot).expect("it was just encoded");
        let last = image.meta.last_log_id.expect("a position");
        assert_eq!(last.index, 500 + (1 << 32));
        assert_eq!(vote.leader_id.map(|l| l.term), Some(5));
        assert_ne!(identity.cluster_id, ClusterId([7; 16]));
        assert_eq!(identity.node, NodeId(4), "a number that nobody had");
        assert_eq!(image.meta.last_membership.voter_ids().collect::<Vec<_>>(), [identity.node.get()]);
        assert!(image.state.nodes.is_empty());
    }
}
