//! The next hop table: which MAC a packet to a neighbour needs, kept from netlink for the fast path.
//!
//! ```text
//! netlink events ─► netlink ─► table (sans-IO) ─► writes, in order ─► sink: HOPS, HOP_INDEX, HOP_STAMP
//!                                  └─► refresh: "the neighbour is in use" ─► netlink
//! ```
//!
//! The slow path asks the kernel's routing table and stores (stamp, index) in the flow; the fast path believes the
//! index while the stamp is the current one and the hop usable, and otherwise takes the slow path. Hence:
//!
//! - a neighbour's new MAC, or a neighbour that is gone, is written in place: it takes effect on live flows at once;
//! - a change of routes, rules, addresses or links raises the stamp: every flow asks again, once;
//! - an index is given to another neighbour only after the stamp was raised and a grace period has passed;
//! - lost events are answered by reading everything again, and a raised stamp.
//!
//! What is not here (a full table, a link that is not Ethernet) costs speed, never correctness: the slow path asks
//! the kernel for each packet.

mod event;
mod netlink;
mod refresh;
mod sink;
mod table;
mod watcher;

pub use sink::{HopSink, KernelHops};
pub use table::{Adopted, HopCounts, LostHop, Write};
pub use watcher::{HopOptions, HopReport, HopStats, HopStopper, HopWatcher, Reread};
