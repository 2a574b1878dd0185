//! The origin's side: peers subscribe.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures::{Stream, StreamExt};
use lockstep_model::flow::SHARDS;
use lockstep_model::ids::NodeId;
use lockstep_proto::sync::v1 as pb;
use lockstep_sync_core::{Connection, StreamId, Up};
use prost::Message as _;
use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use crate::counters::{TransportCounter, TransportCounters};
use crate::event::{Connections, Identity, StreamEvent, StreamSender};
use crate::refused::Refused;
use crate::sent::SentBytes;
use crate::wire::{down_to_proto, up_from_proto, versions_of};

/// How long a peer may take to say Hello.
const HELLO_TIMEOUT: Duration = Duration::from_secs(2);

/// A message larger than this is refused before it is parsed: an acknowledgement that refuses everything the
/// credit allows.
pub const MAX_UP_BYTES: usize = 256 * 1024;

/// The service `lockstep.sync.v1.Sync`.
#[derive(Clone)]
pub struct Subscriptions {
    identity: Identity,
    connections: Connections,
    events: mpsc::Sender<StreamEvent>,
    counters: Arc<TransportCounters>,
    refused: Refused,
    sent: SentBytes,
}

impl Subscriptions {
    /// A service that hands subscribers to the driver behind `events`.
    pub fn new(
        identity: Identity,
        connections: Connections,
        events: mpsc::Sender<StreamEvent>,
        counters: Arc<TransportCounters>,
    ) -> Self {
        let (refused, sent) = Default::default();
        Self { identity, connections, events, counters, refused, sent }
    }

    /// Peers that are not served.
    pub fn refused(&self) -> Refused {
        self.refused.clone()
    }

    /// What was sent.
    pub fn sent(&self) -> SentBytes {
        self.sent.clone()
    }

    /// For tonic's router.
    pub fn into_server(self) -> pb::sync_server::SyncServer<Self> {
        pb::sync_server::SyncServer::new(self).max_decoding_message_size(MAX_UP_BYTES)
    }

    /// The stream, and the version of its records.
    fn check(&self, hello: &pb::Hello) -> Result<(StreamId, u32), Status> {
        let refuse = |counter, status| {
            self.counters.count(counter);
            Err(status)
        };
        if hello.cluster_id != self.identity.cluster {
            let status = Status::permission_denied("another cluster's node: cluster_id differs");
            return refuse(TransportCounter::RefusedCluster, status);
        }
        let shard = u8::try_from(hello.shard).ok().filter(|shard| *shard < SHARDS);
        let Some(shard) = shard.filter(|_| hello.shards == u32::from(SHARDS)) else {
            let (shard, shards) = (hello.shard, hello.shards);
            let status = format!("shard {shard} of {shards}: this node divides flows into {SHARDS} shards");
            return refuse(TransportCounter::RefusedShards, Status::failed_precondition(status));
        };
        if hello.node == self.identity.node.get() {
            let status = Status::invalid_argument("a node does not subscribe to itself");
            return refuse(TransportCounter::RefusedHello, status);
        }
        let (peer, known, ours) = (NodeId(hello.node), versions_of(hello), self.identity.records);
        let Some(version) = known.common(ours) else {
            let reason = format!("it reads flow records of version {known}, this node writes {ours}");
            if self.refused.refuse(peer, &reason) {
                tracing::error!(%peer, reason, "a peer cannot hold this node's flows: no version in common");
            }
            let status = Status::failed_precondition(format!(
                "record versions: the subscriber reads {known}, the origin writes {ours}"
            ));
            return refuse(TransportCounter::RefusedVersion, status);
        };
        self.refused.let_in(peer);
        Ok((StreamId { peer, shard }, version))
    }
}

type DownStream = Pin<Box<dyn Stream<Item = Result<pb::Down, Status>> + Send>>;

#[tonic::async_trait]
impl pb::sync_server::Sync for Subscriptions {
    type SubscribeStream = DownStream;

    async fn subscribe(&self, request: Request<Streaming<pb::Up>>) -> Result<Response<DownStream>, Status> {
        let mut up = request.into_inner();
        let first = tokio::time::timeout(HELLO_TIMEOUT, up.message()).await;
        let Ok(Ok(Some(pb::Up { message: Some(pb::up::Message::Hello(hello)) }))) = first else {
            self.counters.count(TransportCounter::RefusedHello);
            return Err(Status::invalid_argument("the first message must be a Hello"));
        };
        let (stream, version) = self.check(&hello)?;
        let message = up_from_proto(pb::Up { message: Some(pb::up::Message::Hello(hello)) })
            .map_err(|error| Status::invalid_argument(error.to_string()))?;
        let connection = self.connections.next();
        let (sender, down, closed) = StreamSender::new();
        let subscribed = StreamEvent::Subscribed { stream, connection, message, sender };
        if self.events.send(subscribed).await.is_err() {
            return Err(Status::unavailable("this node is stopping"));
        }
        self.counters.count(TransportCounter::StreamsServed);
        tokio::spawn(self.clone().listen(stream, connection, up, closed));
        let (identity, sent) = (self.identity, self.sent.to(stream.peer));
        let down = UnboundedReceiverStream::new(down).map(move |message| {
            let message = down_to_proto(identity, stream.shard, version, message);
            sent.fetch_add(message.encoded_len() as u64, Ordering::Relaxed);
            Ok(message)
        });
        Ok(Response::new(Box::pin(down)))
    }

    async fn locate(&self, _: Request<pb::LocateRequest>) -> Result<Response<pb::LocateResponse>, Status> {
        Err(Status::unimplemented("replication is served here"))
    }
}

impl Subscriptions {
    /// Hands a subscriber's messages over until it or the driver ends the stream.
    async fn listen(
        self,
        stream: StreamId,
        connection: Connection,
        mut up: Streaming<pb::Up>,
        mut closed: oneshot::Receiver<()>,
    ) {
        loop {
            let message = tokio::select! {
                message = up.message() => message,
                _ = &mut closed => break,
            };
            let Ok(Some(message)) = message else { break };
            let message = match up_from_proto(message) {
                Ok(Up::Hello { .. }) => {
                    self.counters.count(TransportCounter::Malformed);
                    tracing::warn!(peer = %stream.peer, shard = stream.shard, "a second Hello on one stream");
                    break;
                }
                Ok(message) => message,
                Err(error) => {
                    self.counters.count(TransportCounter::Malformed);
                    tracing::warn!(peer = %stream.peer, shard = stream.shard, %error, "unreadable acknowledgement");
                    break;
                }
            };
            if self.events.send(StreamEvent::Up { stream, connection, message }).await.is_err() {
                return;
            }
        }
        // The driver may have stopped: then nobody needs to know.
        let _stopped = self.events.send(StreamEvent::Unsubscribed { stream, connection }).await;
    }
}
