//! The standby's side: one stream to one peer for one shard, opened again whenever it ends.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use lockstep_proto::sync::v1 as pb;
use lockstep_sync_core::{Connection, Down, StreamId};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::UnboundedReceiverStream;

use crate::counters::{TransportCounter, TransportCounters};
use crate::event::{Connections, Identity, StreamEvent, StreamSender};
use crate::line::Line;
use crate::wire::{down_from_proto, up_to_proto};

/// The first wait before a stream is opened again, doubled by each failure …
const BACKOFF_FIRST: Duration = Duration::from_millis(10);
/// … up to this.
const BACKOFF_LAST: Duration = Duration::from_secs(1);

/// A stream on which nothing came for this long is opened anew; heartbeats come ten times a second.
const SILENCE: Duration = Duration::from_secs(3);

/// A message larger than this is refused before it is parsed: a full batch and what surrounds it.
const MAX_DOWN_BYTES: usize = 128 * 1024;

/// Keeps one stream open. Dropping it ends the stream.
#[derive(Debug)]
pub struct Subscriber(JoinHandle<()>);

impl Drop for Subscriber {
    fn drop(&mut self) {
        self.0.abort();
    }
}

struct Task {
    identity: Identity,
    stream: StreamId,
    line: Arc<Line>,
    connections: Connections,
    events: mpsc::Sender<StreamEvent>,
    counters: Arc<TransportCounters>,
}

impl Subscriber {
    /// Subscribes to `stream.peer`, whom `line` leads to; must be called within a tokio runtime.
    pub fn start(
        identity: Identity,
        stream: StreamId,
        line: Arc<Line>,
        connections: Connections,
        events: mpsc::Sender<StreamEvent>,
        counters: Arc<TransportCounters>,
    ) -> Self {
        let task = Task { identity, stream, line, connections, events, counters };
        Self(tokio::spawn(task.run()))
    }
}

/// Why a stream ended.
enum Ended {
    /// After it had worked.
    AfterWelcome(String),
    /// Before that.
    Early(String),
    /// The driver has stopped.
    Stopped,
}

impl Task {
    async fn run(self) {
        let mut wait = BACKOFF_FIRST;
        let (peer, shard) = (self.stream.peer, self.stream.shard);
        loop {
            match self.once().await {
                Ended::Stopped => return,
                Ended::AfterWelcome(reason) => {
                    tracing::info!(%peer, shard, reason, "replication stream ended");
                    wait = BACKOFF_FIRST;
                }
                Ended::Early(reason) => {
                    self.counters.count(TransportCounter::StreamsFailed);
                    tracing::debug!(%peer, shard, reason, "replication stream could not be opened");
                }
            }
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(BACKOFF_LAST);
        }
    }

    async fn once(&self) -> Ended {
        let (life, channel) = match self.line.get().await {
            Ok(connection) => connection,
            Err(reason) => return Ended::Early(reason),
        };
        let ended = self.over(channel).await;
        self.line.ended(life).await;
        ended
    }

    async fn over(&self, channel: tonic::transport::Channel) -> Ended {
        let connection = self.connections.next();
        let (sender, up, closed) = StreamSender::new();
        let connected = StreamEvent::Connected { stream: self.stream, connection, sender };
        if self.events.send(connected).await.is_err() {
            return Ended::Stopped;
        }
        // From here on the driver is told of the end, whatever it is.
        let gone = Gone { events: self.events.clone(), stream: self.stream, connection, told: false };
        let mut welcomed = false;
        let (identity, shard) = (self.identity, self.stream.shard);
        let up = UnboundedReceiverStream::new(up).map(move |message| up_to_proto(identity, shard, message));
        let mut client = pb::sync_client::SyncClient::new(channel).max_decoding_message_size(MAX_DOWN_BYTES);
        let reason = tokio::select! {
            reason = self.listen(&mut client, up, connection, &mut welcomed) => reason,
            _ = closed => Some("closed by this node".to_owned()),
        };
        if gone.tell().await.is_err() {
            return Ended::Stopped;
        }
        match reason {
            None => Ended::Stopped,
            Some(reason) if welcomed => Ended::AfterWelcome(reason),
            Some(reason) => Ended::Early(reason),
        }
    }

    /// Why it ended; `None`: the driver has stopped.
    async fn listen(
        &self,
        client: &mut pb::sync_client::SyncClient<tonic::transport::Channel>,
        up: impl futures::Stream<Item = pb::Up> + Send + 'static,
        connection: Connection,
        welcomed: &mut bool,
    ) -> Option<String> {
        let answer = tokio::time::timeout(SILENCE, client.subscribe(up)).await;
        let mut down = match answer {
            Ok(Ok(answer)) => answer.into_inner(),
            Ok(Err(status)) => return Some(status.to_string()),
            Err(_) => {
                self.counters.count(TransportCounter::Silent);
                return Some("no answer".to_owned());
            }
        };
        loop {
            let message = match tokio::time::timeout(SILENCE, down.message()).await {
                Ok(Ok(Some(message))) => message,
                Ok(Ok(None)) => return Some("closed by the peer".to_owned()),
                Ok(Err(status)) => return Some(status.to_string()),
                Err(_) => {
                    self.counters.count(TransportCounter::Silent);
                    return Some("silent".to_owned());
                }
            };
            let message = match down_from_proto(
                self.identity.records,
                self.stream.peer.get(),
                self.stream.shard,
                message,
            ) {
                Ok(message) => message,
                Err(error) => {
                    self.counters.count(TransportCounter::Malformed);
                    return Some(error.to_string());
                }
            };
            if matches!(message, Down::Welcome { .. }) {
                *welcomed = true;
                self.counters.count(TransportCounter::StreamsOpened);
            }
            self.events.send(StreamEvent::Down { stream: self.stream, connection, message }).await.ok()?;
        }
    }
}

/// Tells the driver that a stream is down, also when the task is aborted.
struct Gone {
    events: mpsc::Sender<StreamEvent>,
    stream: StreamId,
    connection: Connection,
    told: bool,
}

impl Gone {
    fn event(&self) -> StreamEvent {
        StreamEvent::Disconnected { stream: self.stream, connection: self.connection }
    }

    async fn tell(mut self) -> Result<(), ()> {
        let told = self.events.send(self.event()).await;
        self.told = true;
        told.map_err(|_| ())
    }
}

impl Drop for Gone {
    fn drop(&mut self) {
        if self.told {
            return;
        }
        let (events, event) = (self.events.clone(), self.event());
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                let _stopped = events.send(event).await;
            });
        }
    }
}
