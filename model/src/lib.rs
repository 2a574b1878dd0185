//! What Lockstep knows: ids, addresses, services, groups, flows and limits, and pure functions over them.
//!
//! No async, no I/O, no clock, no randomness: the same input gives the same output on every node.

#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod apply;
#[cfg(any(test, feature = "arbitrary"))]
pub mod arbitrary;
pub mod check;
pub mod command;
mod desired;
pub mod duration;
pub mod flow;
pub mod health;
pub mod ids;
pub mod image;
pub mod intent;
pub mod limits;
pub mod maglev;
pub mod manifest;
pub mod protocol;
pub mod schedule;
pub mod state;
