//! Packets through the real programs on the real verifier, by `BPF_PROG_TEST_RUN`: bytes in; bytes, verdict
//! and counters out. Each test has a network namespace and maps of its own. Needs root.

mod age;
mod events;
mod frame;
mod guard;
mod lease;
mod limits;
mod live;
mod local;
mod nat;
mod race;
mod rig;
mod select;
mod state;
