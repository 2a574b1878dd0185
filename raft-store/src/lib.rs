//! Agreement on intent: openraft over a log of our own and gRPC.
//!
//! | layer | what it is | generic over |
//! |---|---|---|
//! | [`fs`] | the few file operations the store makes, and a disk that forgets | |
//! | `wal`, [`log_store`], [`snapshot`], [`state_machine`] | what is durable (I1) | runtime, file system |
//! | [`dump`] | what is on disk, for people | file system |
//! | [`transport`], `network`, [`dispatch`] | Raft's messages, checked at the door | runtime, transport |
//! | [`replica`] | one member of a formed cluster | runtime, transport, file system |
//! | [`grpc`], [`node`] | the above over Tokio and tonic, and forming a cluster | file system |

#![forbid(unsafe_code)]

pub mod backup;
mod codec;
pub mod commit;
pub mod config;
pub mod dispatch;
pub mod dump;
mod envelope;
pub mod error;
pub mod fs;
pub mod grpc;
pub mod guard;
pub mod layout;
pub mod log_store;
pub mod metrics;
mod network;
pub mod node;
pub mod observer;
pub mod replica;
pub mod snapshot;
pub mod state_machine;
pub mod transport;
pub mod types;
mod wal;

pub use grpc::{Connector, PlainConnector};
pub use metrics::{Metrics, Role};
pub use node::{Departure, DiskFull, Formed, RaftConfig, RaftError, RaftNode};
pub use wal::{SEGMENT_BYTES, WalStats};
