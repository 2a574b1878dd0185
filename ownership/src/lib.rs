//! Who may serve a group now (DESIGN section 7): sans-IO state machines of voter, owner and leader.
//!
//! Raft says who *should* serve a group; a lease, made of the promises of a quorum of voters, says who *may*,
//! now. Everything here is a function of its inputs: time comes in as [`time::Instant`], datagrams as
//! [`message::Message`], the Raft log as [`log::LogEvent`] and [`view::View`]; what is to be done comes out of
//! `poll_output`. No clock, random source, thread, socket or hash-map order inside.
//!
//! - [`voter::Voter`] gives promises. Its invariant: at most one holder per group has a promise at any time.
//! - [`owner::Owner`] collects promises into a lease. Its invariant: a lease never outlasts the promises of a
//!   quorum (I3).
//! - [`leader::Leader`] decides who should own what. It can do no harm to I3, only to availability.
//! - [`participant::Participant`] is one node: the three together, with the Raft log's view they share.

#![forbid(unsafe_code)]
#![warn(missing_docs)]

pub mod failover;
pub mod identity;
pub mod leader;
pub mod log;
pub mod membership;
pub mod message;
pub mod owner;
pub mod participant;
pub mod status;
pub mod time;
pub mod view;
pub mod voter;
