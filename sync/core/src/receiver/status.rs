//! Whether this node could carry a group on.

use std::time::Duration;

use lockstep_model::flow::SHARDS;
use lockstep_model::ids::{Epoch, GroupId, LogIndex, NodeId};

use super::Receiver;
use super::inbound::Complete;
use crate::message::StreamId;
use crate::time::Time;

/// How much of a group's flows this node holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SyncState {
    /// It owns the group.
    Owner,
    /// Nothing was ever completely received.
    Never,
    /// Of the newest epoch, not everything was received yet, or something was refused.
    Syncing,
    /// Everything up to [`GroupSync::age`] ago.
    CaughtUp,
}

/// How much of a group's flows this node holds, and how old that is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GroupSync {
    /// State.
    pub state: SyncState,
    /// The newest epoch of which everything was received; 0: none.
    pub epoch: Epoch,
    /// Who it was received from; none: made here.
    pub origin: Option<NodeId>,
    /// How long ago the origin was last heard, on the shard where that is longest.
    pub age: Duration,
    /// Whether every stream of the origin is up.
    pub connected: bool,
    /// Since when in the log this node is to hold the group, as the receiver has heard; `None`: it is not.
    pub replica: Option<LogIndex>,
}

/// Where a stream from an origin is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InboundStatus {
    /// The stream.
    pub stream: StreamId,
    /// Whether it is up.
    pub connected: bool,
    /// The last position received.
    pub received: u64,
    /// The last position that is in the kernel, or was refused.
    pub handled: u64,
    /// Flows whose last write was refused.
    pub refused: usize,
    /// Walks between their markers.
    pub walks: usize,
    /// How long ago the origin was last heard.
    pub age: Duration,
}

impl Receiver {
    /// Where every stream is.
    pub fn streams(&self, now: Time) -> Vec<InboundStatus> {
        let status = self.streams.iter().map(|(&stream, inbound)| {
            let (received, handled) = inbound.positions();
            InboundStatus {
                stream,
                connected: inbound.connection.is_some(),
                received,
                handled,
                refused: inbound.refused_len(),
                walks: inbound.open_walks(),
                age: now.since(inbound.alive),
            }
        });
        status.collect()
    }

    /// How much of a group's flows this node holds.
    pub fn group_sync(&self, now: Time, group: GroupId) -> GroupSync {
        let replica = self.groups.membership(group);
        if let Some(epoch) = self.groups.owned(group) {
            let (origin, age) = (None, Duration::ZERO);
            return GroupSync { state: SyncState::Owner, epoch, origin, age, connected: true, replica };
        }
        let highest = self.groups.highest(group);
        let complete = self.best_origin(group);
        let former = self.best_former(group);
        if let Some((epoch, origin, until)) = former.filter(|f| complete.is_none_or(|(epoch, _)| f.0 > epoch))
        {
            let age = now.since(until);
            return GroupSync { state: SyncState::Syncing, epoch, origin, age, connected: false, replica };
        }
        let Some((epoch, origin)) = complete else {
            let begun = highest > Epoch(0) && self.streams.values().any(|i| i.connection.is_some());
            let state = if begun { SyncState::Syncing } else { SyncState::Never };
            return GroupSync {
                state,
                epoch: Epoch(0),
                origin: None,
                age: Duration::MAX,
                connected: false,
                replica,
            };
        };
        let shards = (0..SHARDS).filter_map(|shard| self.streams.get(&StreamId { peer: origin, shard }));
        let refused = shards.clone().any(|inbound| inbound.has_refused(group));
        let age = shards.clone().map(|inbound| now.since(inbound.alive)).max().unwrap_or(Duration::MAX);
        let connected = shards.clone().all(|inbound| inbound.connection.is_some());
        let state = if epoch == highest && !refused { SyncState::CaughtUp } else { SyncState::Syncing };
        GroupSync { state, epoch, origin: Some(origin), age, connected, replica }
    }

    /// The newest epoch of which this node once had everything, from whom, and until when: its own, or of an earlier session
    /// of an origin, a daemon that was started again, and has not said yet what it holds, or holds nothing any more.
    fn best_former(&self, group: GroupId) -> Option<(Epoch, Option<NodeId>, Time)> {
        let former = |peer: NodeId| {
            let shards = (0..SHARDS)
                .map(|shard| {
                    self.counting(group, self.streams.get(&StreamId { peer, shard })?.once_complete(group))
                })
                .collect::<Option<Vec<_>>>()?;
            let epoch = shards.iter().map(|known| known.epoch).min()?;
            Some((epoch, Some(peer), shards.iter().map(|known| known.at).min()?))
        };
        let own = self.groups.formerly(group).map(|(epoch, until)| (epoch, None, until));
        self.origins().filter_map(former).chain(own).max()
    }

    /// What a node was sent counts for as long as it is to hold the group without a break.
    fn counting(&self, group: GroupId, known: Option<Complete>) -> Option<Complete> {
        known.filter(|known| self.groups.counts(group, known.since))
    }

    fn origins(&self) -> impl Iterator<Item = NodeId> {
        self.streams.keys().filter(|stream| stream.shard == 0).map(|stream| stream.peer)
    }

    /// The origin of which a whole epoch was received on every shard, with the newest such epoch.
    fn best_origin(&self, group: GroupId) -> Option<(Epoch, NodeId)> {
        let complete = |peer: NodeId| {
            let epochs = (0..SHARDS).map(|shard| {
                let inbound = self.streams.get(&StreamId { peer, shard })?;
                self.counting(group, inbound.complete(group)).map(|known| known.epoch)
            });
            epochs.collect::<Option<Vec<_>>>().and_then(|epochs| epochs.into_iter().min())
        };
        self.origins().filter_map(|peer| complete(peer).map(|epoch| (epoch, peer))).max()
    }
}
