//! The streams that this node keeps open: one for each other data-plane node and shard, those to one node over one
//! connection.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use lockstep_model::flow::SHARDS;
use lockstep_model::ids::NodeId;
use lockstep_sync_core::StreamId;
use lockstep_sync_transport::{
    Connections, Connector, Identity, Line, StreamEvent, Subscriber, TransportCounters,
};
use tokio::runtime::Handle;
use tokio::sync::mpsc;

pub(super) struct Peers {
    /// Where the streams run.
    runtime: Handle,
    identity: Identity,
    connector: Connector,
    connections: Connections,
    events: mpsc::Sender<StreamEvent>,
    counters: Arc<TransportCounters>,
    subscribers: Mutex<BTreeMap<StreamId, Subscriber>>,
}

impl Peers {
    pub(super) fn new(
        runtime: Handle,
        identity: Identity,
        connector: Connector,
        connections: Connections,
        events: mpsc::Sender<StreamEvent>,
        counters: Arc<TransportCounters>,
    ) -> Self {
        let subscribers = Mutex::default();
        Self { runtime, identity, connector, connections, events, counters, subscribers }
    }

    /// Opens streams to new peers and closes those to others.
    pub(super) fn set(&self, peers: &BTreeSet<NodeId>) {
        let _streams = self.runtime.enter();
        let mut subscribers = self.subscribers.lock().expect("nothing panics while it holds this lock");
        subscribers.retain(|stream, _| peers.contains(&stream.peer));
        for &peer in peers.iter().filter(|peer| **peer != self.identity.node) {
            let mut line = None;
            for shard in 0..SHARDS {
                let stream = StreamId { peer, shard };
                subscribers.entry(stream).or_insert_with(|| {
                    let line = line.get_or_insert_with(|| Arc::new(Line::new(peer, self.connector.clone())));
                    Subscriber::start(
                        self.identity,
                        stream,
                        line.clone(),
                        self.connections.clone(),
                        self.events.clone(),
                        self.counters.clone(),
                    )
                });
            }
        }
    }
}
