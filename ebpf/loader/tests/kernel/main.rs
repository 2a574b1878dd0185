//! The loader against a real kernel: each test in a network namespace and a pin directory of its own.
//! Needs root and a BPF file system.

mod adopt;
mod apply;
mod bed;
mod events;
mod flows;
mod hops;
mod leases;
mod sweeper;
