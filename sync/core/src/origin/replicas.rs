//! Who is told of which group.

use std::collections::BTreeMap;

use lockstep_model::ids::{GroupId, LogIndex, NodeId};

use super::Origin;
use super::outbound::Outbound;
use crate::message::Purpose;
use crate::time::Time;

/// Who holds the flows of each group, or is to, and since when in the log.
pub type Replicas = BTreeMap<GroupId, BTreeMap<NodeId, LogIndex>>;

impl Origin {
    /// Who is told of each group. Of what this node owns, who is new gets a walk, and who was named until now is told to remove
    /// what it holds. Who was out for a while is new.
    pub fn set_replicas(&mut self, now: Time, replicas: Replicas) {
        let before = std::mem::replace(&mut self.replicas, replicas);
        for (group, _) in self.owned() {
            for (stream, outbound) in &mut self.streams {
                let now_told = purpose(&self.replicas, group, stream.peer);
                // Of a group that nothing was known of, nobody is told to remove anything by mistake.
                if let Some(purpose) = now_told.filter(|_| purpose(&before, group, stream.peer) != now_told) {
                    outbound.begin_anew(now, group, purpose);
                }
            }
        }
        let replicas = &self.replicas;
        self.lags.retain(|(peer, group), _| since(replicas, *group, *peer).is_some());
    }
}

/// Since when a peer holds a group, or is to.
pub(super) fn since(replicas: &Replicas, group: GroupId, peer: NodeId) -> Option<LogIndex> {
    replicas.get(&group)?.get(&peer).copied()
}

/// What a peer is to do with a group; `None`: this node does not know who is to hold it.
fn purpose(replicas: &Replicas, group: GroupId, peer: NodeId) -> Option<Purpose> {
    let nodes = replicas.get(&group)?;
    Some(nodes.get(&peer).map_or(Purpose::Remove, |since| Purpose::Hold(*since)))
}

/// A peer that holds the group is told what it may lack, another to remove what it may hold.
pub(super) fn tell(outbound: &mut Outbound, now: Time, replicas: &Replicas, group: GroupId, peer: NodeId) {
    match purpose(replicas, group, peer) {
        Some(Purpose::Hold(since)) => outbound.need_walk(now, group, since),
        Some(Purpose::Remove) => outbound.begin_anew(now, group, Purpose::Remove),
        None => {}
    }
}
