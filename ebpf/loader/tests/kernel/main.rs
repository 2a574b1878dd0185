//! The loader against a real kernel: each test in a network namespace and a pin directory of its own.
//! Needs root and a BPF file system.

mod adopt;
mod affinity;
mod apply;
mod bed;
mod change;
mod events;
mod families;
mod flows;
mod hooks;
mod hops;
mod leases;
mod loads;
mod ranges;
mod rules;
mod survey;
mod sweeper;
mod targets;
