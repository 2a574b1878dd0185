//! What the driver publishes of itself, for whoever asks.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use lockstep_model::ids::{Epoch, GroupId, NodeId};
use lockstep_sync_core::{GroupSync, InboundStatus, Origin, Receiver, StreamLag, SyncState, Time};

use super::peer_status::PeerStatus;

/// The state of replication at one moment.
pub(super) struct Snapshot {
    taken: Instant,
    groups: BTreeMap<GroupId, GroupSync>,
    lag: Vec<StreamLag>,
    peers: BTreeMap<NodeId, PeerStatus>,
    young: u64,
    inbound: Vec<InboundStatus>,
    counters: Vec<(String, u64)>,
}

impl Default for Snapshot {
    fn default() -> Self {
        let (groups, lag, peers, young, inbound, counters) = Default::default();
        Self { taken: Instant::now(), groups, lag, peers, young, inbound, counters }
    }
}

impl Snapshot {
    pub(super) fn take(
        now: Time,
        origin: &Origin,
        receiver: &Receiver,
        peers: BTreeMap<NodeId, PeerStatus>,
        counted: &[(&'static str, u64)],
    ) -> Self {
        let groups = receiver.known_groups().into_iter();
        let named = |prefix: &'static str, list: Vec<(&'static str, u64)>| {
            list.into_iter().map(move |(name, value)| (format!("{prefix}_{name}"), value))
        };
        let origin_counters = named("origin", origin.counters().named());
        let receiver_counters = named("receiver", receiver.counters().named());
        Self {
            taken: Instant::now(),
            groups: groups.map(|group| (group, receiver.group_sync(now, group))).collect(),
            lag: origin.lag(now),
            peers,
            young: origin.young() as u64,
            inbound: receiver.streams(now),
            counters: origin_counters
                .chain(receiver_counters)
                .chain(counted.iter().map(|(name, value)| ((*name).to_owned(), *value)))
                .collect(),
        }
    }

    pub(super) fn group(&self, group: GroupId) -> GroupSync {
        let unknown = GroupSync {
            state: SyncState::Never,
            epoch: Epoch(0),
            origin: None,
            age: Duration::MAX,
            connected: false,
            replica: None,
        };
        let mut sync = self.groups.get(&group).copied().unwrap_or(unknown);
        if sync.state != SyncState::Owner {
            sync.age = sync.age.saturating_add(self.taken.elapsed());
        }
        sync
    }

    pub(super) fn lag(&self) -> Vec<StreamLag> {
        self.lag.clone()
    }

    pub(super) fn peers(&self) -> BTreeMap<NodeId, PeerStatus> {
        self.peers.clone()
    }

    pub(super) fn young(&self) -> u64 {
        self.young
    }

    pub(super) fn inbound(&self) -> Vec<InboundStatus> {
        self.inbound.clone()
    }

    pub(super) fn counters(&self) -> Vec<(String, u64)> {
        self.counters.clone()
    }
}
