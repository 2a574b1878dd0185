//! The dataplane as user space sees it: loading and adopting it, filling its maps from the agreed image, its
//! leases, its flows, its counters. Blocking, without a runtime; every handle may be used from any thread.
//!
//! It is not a cache: what the kernel holds is the truth, and every decision here starts by reading it.

mod age;
mod answers;
mod apply;
mod attach;
mod clock;
mod counters;
mod dataplane;
mod directory;
mod error;
mod events;
mod family;
mod flows;
mod forwarding;
mod grace;
mod hook;
mod hops;
mod interfaces;
mod learn;
mod lease;
mod map;
mod maps;
mod object;
mod pins;
mod port_usage;
mod programs;
mod record;
mod service_slots;
mod shared;
mod survey;
mod sweeper;
mod sync_map;
mod sys;
mod targets;
mod trie;
mod write;

pub use answers::{Answer, AnswerTable};
pub use apply::ApplyReport;
pub use clock::KernelInstant;
pub use counters::Counters;
pub use dataplane::{Dataplane, DataplaneConfig, check, remove};
pub use error::DataplaneError;
pub use events::FlowEvents;
pub use flows::{FlowTable, Unmarked, WalkCursor, WalkPage, WalkedFlow};
pub use grace::wait_grace_period;
pub use hook::{Hook, HookReport, InterfaceConfig};
pub use hops::{
    Adopted, HopCounts, HopOptions, HopReport, HopSink, HopStats, HopStopper, HopWatcher, KernelHops,
    LostHop, Reread, Write,
};
pub use interfaces::Interface;
pub use lease::{LeaseError, LeaseUntil, LeaseWriter};
pub use lockstep_abi::SCHEMA;
pub use object::OBJECT;
pub use port_usage::{BlockUsage, PortUsage};
pub use survey::{
    AttachedProgram, PinnedLink, PinnedSchema, hook_for, offloads, pinned, pins_fit, programs_at_tcx, tick,
};
pub use sweeper::{Sweeper, Swept};
