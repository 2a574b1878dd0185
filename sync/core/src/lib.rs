//! Flow replication without I/O: what an owner says to its standbys, and what a standby makes of it.
//!
//! [`Origin`] turns changes of this node's flow table into messages for every peer; [`Receiver`] turns the
//! messages of every peer into writes of this node's flow table. Neither has a clock, a socket or a kernel:
//! time and input come in through `handle_*`, work leaves through `poll_output`, and `next_deadline` says
//! when to call `handle_timeout`.
//!
//! Invariants: after changes stop and streams heal, every standby holds what the owner holds (I5); messages
//! that are duplicated, reordered or replayed change nothing (I6); everything held is bounded by the number
//! of flows or by a constant of [`limits`] (I13).

#![forbid(unsafe_code)]

pub mod audit;
pub mod limits;
pub mod message;
pub mod origin;
pub mod receiver;
pub mod time;

pub use message::{Connection, Down, Nack, NackReason, Purpose, Session, StreamId, Up, WalkId};
pub use origin::{Lag, Origin, OriginOutput, PassId, Replicas, StreamLag};
pub use receiver::{GroupSync, InboundStatus, Receiver, ReceiverOutput, SyncState, WorkId, yield_to_owner};
pub use time::Time;
