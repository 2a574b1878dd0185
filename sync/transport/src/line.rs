//! The connection to one peer that all shards' streams share: what they say at the same moment leaves in one write, and is
//! encrypted once. Their windows are apart, so that none waits for another's; Raft and leases have connections of their own,
//! and so has the question where the peer listens for this one.

use std::num::NonZeroU16;
use std::sync::Arc;
use std::time::Duration;

use lockstep_model::flow::SHARDS;
use lockstep_model::ids::NodeId;
use lockstep_proto::sync::v1 as pb;
use tokio::sync::Mutex;
use tonic::Code;
use tonic::transport::{Channel, Endpoint};

/// How to reach a peer: its cluster listener, or another port of the same address. The node adds TLS.
pub type Connector = Arc<dyn Fn(NodeId, Option<NonZeroU16>) -> Result<Endpoint, String> + Send + Sync>;

/// Bytes of a stream that may be under way: more than the records that the credit allows, so that only the credit,
/// which the kernel's writes give, holds an origin up.
const STREAM_WINDOW: u32 = 1 << 20;

/// The same of all streams together.
const WINDOW: u32 = STREAM_WINDOW * SHARDS as u32;

/// How long a peer may take to say where it listens.
const LOCATE_TIMEOUT: Duration = Duration::from_secs(2);

/// A connection, opened when a stream needs it.
pub struct Line {
    peer: NodeId,
    connector: Connector,
    current: Mutex<Current>,
}

#[derive(Default)]
struct Current {
    /// Which connection it is.
    life: u64,
    channel: Option<Channel>,
}

impl Line {
    /// None is opened yet.
    pub fn new(peer: NodeId, connector: Connector) -> Self {
        Self { peer, connector, current: Mutex::default() }
    }

    /// The connection there is, or a new one, and which it is.
    pub(crate) async fn get(&self) -> Result<(u64, Channel), String> {
        // Held while it connects: the other streams need the same connection.
        let mut current = self.current.lock().await;
        if let Some(channel) = &current.channel {
            return Ok((current.life, channel.clone()));
        }
        let asked = self.connect(None).await?;
        let channel = match locate(asked.clone()).await? {
            Some(port) => self.connect(Some(port)).await?,
            None => asked,
        };
        current.life += 1;
        current.channel = Some(channel.clone());
        Ok((current.life, channel))
    }

    async fn connect(&self, port: Option<NonZeroU16>) -> Result<Channel, String> {
        let endpoint = (self.connector)(self.peer, port)?
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(WINDOW);
        endpoint.connect().await.map_err(|error| sources(&error))
    }

    /// A stream over that connection ended: the next one begins with another.
    pub(crate) async fn ended(&self, life: u64) {
        let mut current = self.current.lock().await;
        if current.life == life {
            current.channel = None;
        }
    }
}

impl std::fmt::Debug for Line {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Line").field("peer", &self.peer).finish_non_exhaustive()
    }
}

/// Where the peer serves replication, if not where it was asked.
async fn locate(channel: Channel) -> Result<Option<NonZeroU16>, String> {
    let mut client = pb::sync_client::SyncClient::new(channel);
    let answer = tokio::time::timeout(LOCATE_TIMEOUT, client.locate(pb::LocateRequest {})).await;
    match answer.map_err(|_| "the peer does not say where it listens for replication".to_owned())? {
        Ok(answer) => {
            let port = answer.into_inner().port;
            let valid = u16::try_from(port).ok().and_then(NonZeroU16::new);
            valid.map(Some).ok_or_else(|| format!("the peer says that it listens on port {port}"))
        }
        // Of a version before this question, or the listener itself.
        Err(status) if status.code() == Code::Unimplemented => Ok(None),
        Err(status) => Err(status.to_string()),
    }
}

/// An error with what caused it: tonic's own text says only "transport error".
fn sources(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |e| e.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
