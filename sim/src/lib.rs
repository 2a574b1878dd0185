//! Deterministic simulation of whole clusters.
//!
//! Several nodes run in one thread and in virtual time: the real Raft store (openraft on its simulated
//! runtime, our log on a disk that forgets), the real `model::apply`, the real ownership machines, and a kernel
//! that forwards for an address while it holds a lease. The network loses, delays, repeats and reorders; nodes
//! are paused, killed and lose power; clocks drift. After every step an oracle, which sees all nodes and true
//! time, looks for what must never happen (`docs/simulation.md`). A schedule is its seed.
//!
//! Not here: packets, flows, and the daemon's own wiring, of which [`world`] repeats what matters for order.

#![forbid(unsafe_code)]
#![warn(missing_docs)]

pub mod clock;
pub mod exhaust;
mod faults;
pub mod net;
pub mod node;
pub mod oracle;
pub mod schedule;
pub mod trace;
pub mod world;
