//! The streams that this node keeps open: one for each other data-plane node and shard.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use lockstep_model::flow::SHARDS;
use lockstep_model::ids::NodeId;
use lockstep_sync_core::StreamId;
use lockstep_sync_transport::{Connections, Connector, Identity, StreamEvent, Subscriber, TransportCounters};
use tokio::sync::mpsc;

pub(super) struct Peers {
    identity: Identity,
    connector: Connector,
    connections: Connections,
    events: mpsc::Sender<StreamEvent>,
    counters: Arc<TransportCounters>,
    subscribers: Mutex<BTreeMap<StreamId, Subscriber>>,
}

impl Peers {
    pub(super) fn new(
        identity: Identity,
        connector: Connector,
        connections: Connections,
        events: mpsc::Sender<StreamEvent>,
        counters: Arc<TransportCounters>,
    ) -> Self {
        let subscribers = Mutex::default();
        Self { identity, connector, connections, events, counters, subscribers }
    }

    /// Opens streams to new peers and closes those to others.
    pub(super) fn set(&self, peers: &BTreeSet<NodeId>) {
        let mut subscribers = self.subscribers.lock().expect("nothing panics while it holds this lock");
        subscribers.retain(|stream, _| peers.contains(&stream.peer));
        for &peer in peers.iter().filter(|peer| **peer != self.identity.node) {
            for shard in 0..SHARDS {
                let stream = StreamId { peer, shard };
                subscribers.entry(stream).or_insert_with(|| {
                    Subscriber::start(
                        self.identity,
                        stream,
                        self.connector.clone(),
                        self.connections.clone(),
                        self.events.clone(),
                        self.counters.clone(),
                    )
                });
            }
        }
    }
}
