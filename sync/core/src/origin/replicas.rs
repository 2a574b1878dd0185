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
    /// Who is told of each group, as of an index of the log. Of what this node owns, who is new gets a walk, and who was named until
    /// now is told to remove what it holds. Who was out for a while is new.
    pub fn set_replicas(&mut self, now: Time, as_of: LogIndex, replicas: Replicas) {
        self.as_of = as_of;
        if self.replicas == replicas {
            return;
        }
        let first = self.reads_for_nobody();
        let before = std::mem::replace(&mut self.replicas, replicas);
        for (group, _) in self.owned() {
            if before.get(&group) == self.replicas.get(&group) {
                continue;
            }
            for (stream, outbound) in &mut self.streams {
                let told = told(&self.replicas, group, stream.peer);
                // Of a group that nothing was known of, nobody is told to remove anything by mistake.
                if let Some(is) = told.filter(|_| self::told(&before, group, stream.peer) != told) {
                    outbound.begin_anew(now, group, is.map_or(Purpose::Remove(as_of), Purpose::Hold));
                }
            }
        }
        self.wait_for_others(now, first);
        let replicas = &self.replicas;
        self.lags.retain(|(peer, group), _| since(replicas, *group, *peer).is_some());
    }
}

/// Since when a peer holds a group, or is to.
pub(super) fn since(replicas: &Replicas, group: GroupId, peer: NodeId) -> Option<LogIndex> {
    replicas.get(&group)?.get(&peer).copied()
}

/// The same; `None`: this node does not know who is to hold the group, or nobody was named yet.
fn told(replicas: &Replicas, group: GroupId, peer: NodeId) -> Option<Option<LogIndex>> {
    let nodes = replicas.get(&group).filter(|nodes| !nodes.is_empty())?;
    Some(nodes.get(&peer).copied())
}

/// A peer that holds the group is told what it may lack, another to remove what it may hold.
pub(super) fn tell(
    outbound: &mut Outbound,
    now: Time,
    replicas: &Replicas,
    as_of: LogIndex,
    group: GroupId,
    peer: NodeId,
) {
    match told(replicas, group, peer) {
        Some(Some(since)) => outbound.need_walk(now, group, since),
        Some(None) => outbound.begin_anew(now, group, Purpose::Remove(as_of)),
        None => {}
    }
}
