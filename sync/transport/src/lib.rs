//! Replication streams over gRPC: `lockstep.sync.v1` between the sans-IO cores of two nodes.
//!
//! A node serves [`Subscriptions`] on a listener of its own and keeps one [`Subscriber`] for each other
//! data-plane node and shard. Both hand everything to one driver through [`StreamEvent`]s, and get what the
//! driver has to say through a [`StreamSender`].
//!
//! Not here: what the messages mean, and TLS, which the node supplies with its endpoints.

#![forbid(unsafe_code)]

mod counters;
mod event;
mod gathered;
mod line;
mod record;
mod refused;
mod sent;
mod server;
mod subscriber;
mod wire;

pub use counters::{TransportCounter, TransportCounters};
pub use event::{Connections, Identity, StreamEvent, StreamSender};
pub use gathered::{Gathered, Sending, gathered};
pub use line::{Connector, Line};
pub use record::{RECORD_VERSIONS, RecordError, RecordVersions, decode, encode};
pub use refused::Refused;
pub use sent::SentBytes;
pub use server::{MAX_UP_BYTES, Subscriptions};
pub use subscriber::Subscriber;
pub use wire::{WireError, down_from_proto, down_to_proto, up_from_proto, up_to_proto};
