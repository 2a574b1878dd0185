//! Between the streams and their driver.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use lockstep_model::ids::NodeId;
use lockstep_sync_core::{Connection, Down, StreamId, Up};
use tokio::sync::{mpsc, oneshot};

use crate::record::RecordVersions;

/// Who this node is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    /// The cluster.
    pub cluster: [u8; 16],
    /// The node.
    pub node: NodeId,
    /// The records it understands; [`crate::RECORD_VERSIONS`].
    pub records: RecordVersions,
}

/// Numbers for the lives of streams, unique within the process.
#[derive(Debug, Clone, Default)]
pub struct Connections(Arc<AtomicU64>);

impl Connections {
    pub(crate) fn next(&self) -> Connection {
        Connection(self.0.fetch_add(1, Ordering::Relaxed) + 1)
    }
}

/// Says things on one life of a stream. Dropping it closes the stream.
///
/// It never blocks: what it holds is bounded by the credit of the other side (towards a subscriber), or by one
/// acknowledgement for each message received (towards an origin).
#[derive(Debug)]
pub struct StreamSender<M> {
    messages: mpsc::UnboundedSender<M>,
    _open: oneshot::Sender<()>,
}

impl<M> StreamSender<M> {
    pub(crate) fn new() -> (Self, mpsc::UnboundedReceiver<M>, oneshot::Receiver<()>) {
        let (messages, receiver) = mpsc::unbounded_channel();
        let (open, closed) = oneshot::channel();
        (Self { messages, _open: open }, receiver, closed)
    }

    /// Sends, unless the stream is down already; then an event that says so is under way.
    pub fn send(&self, message: M) {
        let _down = self.messages.send(message);
    }
}

/// What the streams tell the driver.
#[derive(Debug)]
pub enum StreamEvent {
    /// A peer subscribed: `message` is its Hello.
    Subscribed {
        /// The stream.
        stream: StreamId,
        /// Its life.
        connection: Connection,
        /// The Hello.
        message: Up,
        /// How to answer.
        sender: StreamSender<Down>,
    },
    /// A subscriber said something.
    Up {
        /// The stream.
        stream: StreamId,
        /// Its life.
        connection: Connection,
        /// What.
        message: Up,
    },
    /// A subscriber is gone.
    Unsubscribed {
        /// The stream.
        stream: StreamId,
        /// Its life.
        connection: Connection,
    },
    /// A stream to a peer is open; a Hello is expected from the driver.
    Connected {
        /// The stream.
        stream: StreamId,
        /// Its life.
        connection: Connection,
        /// How to speak.
        sender: StreamSender<Up>,
    },
    /// An origin said something.
    Down {
        /// The stream.
        stream: StreamId,
        /// Its life.
        connection: Connection,
        /// What.
        message: Down,
    },
    /// The stream to a peer is gone; it will be opened again.
    Disconnected {
        /// The stream.
        stream: StreamId,
        /// Its life.
        connection: Connection,
    },
}
