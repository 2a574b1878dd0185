//! Captures at the switch, with the kernel's timestamps: who sent what, as the network saw it.

pub mod frame;
pub mod judge;
pub mod socket;
pub mod watch;
