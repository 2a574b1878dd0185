//! Streams over loopback TCP: who is let in, what arrives, and what happens when a side goes away.

use std::net::SocketAddr;
use std::num::NonZeroU16;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use lockstep_model::flow::{FlowChange, FlowKey, FlowKind, FlowRecord, FlowState, FlowVersion};
use lockstep_model::ids::{EndpointId, Epoch, GroupId, LogIndex, NodeId, ServiceId};
use lockstep_model::protocol::Protocol;
use lockstep_sync_core::{Connection, Down, Nack, NackReason, Purpose, Session, StreamId, Up};
use lockstep_sync_transport::{
    Connections, Connector, Identity, Line, RECORD_VERSIONS, RecordVersions, Refused, StreamEvent,
    StreamSender, Subscriber, Subscriptions, TransportCounter, TransportCounters,
};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::{Endpoint, Server};

const CLUSTER: [u8; 16] = [1; 16];
const ORIGIN: NodeId = NodeId(1);
const STANDBY: NodeId = NodeId(2);

struct Node {
    events: mpsc::Receiver<StreamEvent>,
    sender: mpsc::Sender<StreamEvent>,
    counters: Arc<TransportCounters>,
    connections: Connections,
}

impl Node {
    fn new() -> Self {
        let (sender, events) = mpsc::channel(64);
        Self { events, sender, counters: Arc::default(), connections: Connections::default() }
    }

    async fn next(&mut self) -> StreamEvent {
        tokio::time::timeout(Duration::from_secs(10), self.events.recv())
            .await
            .expect("an event within ten seconds")
            .expect("the streams keep their sender")
    }

    async fn serve(&self, cluster: [u8; 16]) -> (SocketAddr, tokio::task::JoinHandle<()>) {
        let (address, server, _) = self.serve_as(cluster, RECORD_VERSIONS).await;
        (address, server)
    }

    async fn serve_as(
        &self,
        cluster: [u8; 16],
        records: RecordVersions,
    ) -> (SocketAddr, tokio::task::JoinHandle<()>, Refused) {
        let identity = Identity { cluster, node: ORIGIN, records };
        let service = Subscriptions::new(
            identity,
            self.connections.clone(),
            self.sender.clone(),
            self.counters.clone(),
        );
        let refused = service.refused();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = Server::builder().add_service(service.into_server());
        let server = tokio::spawn(async move {
            server.serve_with_incoming(TcpListenerStream::new(listener)).await.unwrap()
        });
        (address, server, refused)
    }

    fn subscribe(&self, address: SocketAddr) -> (Subscriber, Arc<AtomicU16>) {
        self.subscribe_as(address, RECORD_VERSIONS)
    }

    fn subscribe_as(&self, address: SocketAddr, records: RecordVersions) -> (Subscriber, Arc<AtomicU16>) {
        let port = Arc::new(AtomicU16::new(address.port()));
        let current = port.clone();
        let connector: Connector = Arc::new(move |peer, told| {
            assert_eq!(peer, ORIGIN);
            let port = told.map_or_else(|| current.load(Ordering::Relaxed), NonZeroU16::get);
            Endpoint::from_shared(format!("http://127.0.0.1:{port}")).map_err(|error| error.to_string())
        });
        let identity = Identity { cluster: CLUSTER, node: STANDBY, records };
        let stream = StreamId { peer: ORIGIN, shard: 3 };
        let subscriber = Subscriber::start(
            identity,
            stream,
            Arc::new(Line::new(ORIGIN, connector)),
            self.connections.clone(),
            self.sender.clone(),
            self.counters.clone(),
        );
        (subscriber, port)
    }
}

fn hello() -> Up {
    Up::Hello { session: Some(Session([9; 16])), position: 41, credit: 100, audits: true, removes: true }
}

async fn connected(standby: &mut Node) -> (Connection, StreamSender<Up>) {
    let StreamEvent::Connected { connection, sender, .. } = standby.next().await else {
        panic!("not connected")
    };
    sender.send(hello());
    (connection, sender)
}

async fn subscribed(origin: &mut Node) -> (Connection, StreamSender<Down>) {
    let StreamEvent::Subscribed { stream, connection, message, sender } = origin.next().await else {
        panic!("not subscribed")
    };
    assert_eq!((stream, message), (StreamId { peer: STANDBY, shard: 3 }, hello()));
    (connection, sender)
}

fn welcome() -> Down {
    Down::Welcome { session: Session([9; 16]), resumed: true, position: 41 }
}

async fn down(standby: &mut Node) -> Down {
    match standby.next().await {
        StreamEvent::Down { message, .. } => message,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn messages_arrive_as_they_were_sent() {
    let (mut origin, mut standby) = (Node::new(), Node::new());
    let (address, _server) = origin.serve(CLUSTER).await;
    let _subscriber = standby.subscribe(address);
    let (_, up) = connected(&mut standby).await;
    let (connection, sender) = subscribed(&mut origin).await;
    let key = FlowKey {
        client: "198.51.100.1:4711".parse().unwrap(),
        service: "192.0.2.10:443".parse().unwrap(),
        protocol: Protocol::Udp,
    };
    let (group, epoch, walk) = (GroupId(7), Epoch(8), lockstep_sync_core::WalkId(5));
    let removed = FlowChange::Remove { key, group, version: FlowVersion { birth: 1, n: 2 } };
    let messages = [
        welcome(),
        Down::WalkBegin { group, epoch, walk, purpose: Purpose::Hold(LogIndex(9)), position: 42 },
        Down::WalkBegin { group, epoch, walk, purpose: Purpose::Remove(LogIndex(9)), position: 43 },
        Down::Batch { group, epoch, position: 43, changes: vec![removed] },
        Down::WalkEnd { group, epoch, walk, position: 44 },
        Down::Heartbeat { position: 44, owned: vec![(group, epoch)] },
    ];
    messages.iter().for_each(|message| sender.send(message.clone()));
    for message in messages {
        assert_eq!(down(&mut standby).await, message);
    }
    let nacks = vec![Nack { position: 43, reason: NackReason::Full }];
    let ack = Up::Ack { position: 44, nacks, credit: 100 };
    up.send(ack.clone());
    let StreamEvent::Up { connection: from, message, .. } = origin.next().await else { panic!("no message") };
    assert_eq!((from, message), (connection, ack));
}

#[tokio::test]
async fn either_side_can_end_a_stream_and_it_is_opened_again() {
    let (mut origin, mut standby) = (Node::new(), Node::new());
    let (address, _server) = origin.serve(CLUSTER).await;
    let _subscriber = standby.subscribe(address);

    let (first, up) = connected(&mut standby).await;
    let (_, sender) = subscribed(&mut origin).await;
    sender.send(welcome());
    assert_eq!(down(&mut standby).await, welcome());
    drop(sender);
    assert!(
        matches!(standby.next().await, StreamEvent::Disconnected { connection, .. } if connection == first)
    );
    assert!(matches!(origin.next().await, StreamEvent::Unsubscribed { .. }));
    drop(up);

    let (second, up) = connected(&mut standby).await;
    assert!(second > first);
    let (_, _sender) = subscribed(&mut origin).await;
    drop(up);
    assert!(
        matches!(standby.next().await, StreamEvent::Disconnected { connection, .. } if connection == second)
    );
    assert!(matches!(origin.next().await, StreamEvent::Unsubscribed { .. }));
    let _again = connected(&mut standby).await;
}

#[tokio::test]
async fn a_standby_finds_an_origin_that_came_back() {
    let (mut origin, mut standby) = (Node::new(), Node::new());
    let (address, server) = origin.serve(CLUSTER).await;
    server.abort();
    let _stopped = server.await;
    let (_subscriber, port) = standby.subscribe(address);
    let (address, _server) = origin.serve(CLUSTER).await;
    port.store(address.port(), Ordering::Relaxed);
    let _up = connected(&mut standby).await;
    subscribed(&mut origin).await;
}

#[tokio::test]
async fn a_node_of_another_cluster_is_refused() {
    let (origin, mut standby) = (Node::new(), Node::new());
    let (address, _server) = origin.serve([2; 16]).await;
    let _subscriber = standby.subscribe(address);
    let (connection, _up) = connected(&mut standby).await;
    let StreamEvent::Disconnected { connection: gone, .. } = standby.next().await else {
        panic!("not refused")
    };
    assert_eq!(gone, connection);
    assert!(origin.counters.get(TransportCounter::RefusedCluster) > 0);
}

fn flow() -> FlowChange {
    FlowChange::Upsert(FlowRecord {
        key: FlowKey {
            client: "198.51.100.1:4711".parse().unwrap(),
            service: "192.0.2.10:443".parse().unwrap(),
            protocol: Protocol::Tcp,
        },
        group: GroupId(7),
        service: ServiceId(1 << 40),
        endpoint: EndpointId(3),
        endpoint_address: "10.0.0.11:8443".parse().unwrap(),
        source: None,
        kind: FlowKind::Nat,
        version: FlowVersion { birth: 1 << 50, n: 300 },
        state: FlowState::Established,
        state_bits: 5,
        remaining: Duration::from_secs(60),
    })
}

/// The whole way of a record between nodes of two versions, in both directions of an upgrade.
#[tokio::test]
async fn nodes_of_two_neighbouring_versions_understand_each_other() {
    let versions = |oldest, newest| RecordVersions { oldest, newest };
    for (old, new) in
        [(versions(2, 2), versions(2, 3)), (versions(2, 3), versions(2, 2)), (versions(2, 3), versions(3, 4))]
    {
        let (mut origin, mut standby) = (Node::new(), Node::new());
        let (address, _server, refused) = origin.serve_as(CLUSTER, old).await;
        let _subscriber = standby.subscribe_as(address, new);
        let _up = connected(&mut standby).await;
        let (_, sender) = subscribed(&mut origin).await;
        let batch = Down::Batch { group: GroupId(7), epoch: Epoch(8), position: 42, changes: vec![flow()] };
        sender.send(welcome());
        sender.send(batch.clone());
        assert_eq!(
            (down(&mut standby).await, down(&mut standby).await),
            (welcome(), batch),
            "{old} to {new}"
        );
        assert_eq!(refused.reason(STANDBY), None);
    }
}

#[tokio::test]
async fn a_standby_of_an_unknown_version_is_refused_by_the_origin_which_says_why() {
    let (origin, mut standby) = (Node::new(), Node::new());
    let (address, _server, refused) = origin.serve_as(CLUSTER, RecordVersions { oldest: 2, newest: 3 }).await;
    let (subscriber, _) = standby.subscribe_as(address, RecordVersions { oldest: 4, newest: 5 });
    let _up = connected(&mut standby).await;
    assert!(matches!(standby.next().await, StreamEvent::Disconnected { .. }));
    assert!(origin.counters.get(TransportCounter::RefusedVersion) > 0);
    assert_eq!(origin.counters.get(TransportCounter::StreamsServed), 0);
    let reason = refused.reason(STANDBY).expect("the origin knows whom it refused");
    assert_eq!(reason, "it reads flow records of version 4 to 5, this node writes 2 to 3");

    drop(subscriber);
    // Once it runs a version that both know, it is served, and nothing is held against it.
    let mut upgraded = Node::new();
    let mut origin = origin;
    let _subscriber = upgraded.subscribe_as(address, RecordVersions { oldest: 3, newest: 4 });
    let _up = connected(&mut upgraded).await;
    subscribed(&mut origin).await;
    assert_eq!(refused.reason(STANDBY), None);
}
