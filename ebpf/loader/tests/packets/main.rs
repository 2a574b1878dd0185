//! Packets through the real programs on the real verifier, by `BPF_PROG_TEST_RUN`: bytes in; bytes, verdict
//! and counters out. Over IPv4 and IPv6, at tc and with XDP in front of it, which must come to the same. Each test has
//! a network namespace of its own, and shares loaded programs with others one after the other. Needs root.

mod case;
#[path = "../../src/clock.rs"]
#[allow(dead_code, unreachable_pub, reason = "the loader's own, of which only the ticks are needed")]
mod clock;
mod direct;
mod echo;
mod errors;
mod events;
mod fragments;
mod frame;
mod guard;
mod lease;
mod limits;
mod local;
mod message;
mod nat;
mod neighbour;
mod open;
mod options;
mod pool;
mod rig;
mod sctp;
mod select;
mod state;
mod summed;
#[path = "../../src/sys.rs"]
#[allow(dead_code, reason = "the loader's own, of which only what touches maps is needed")]
mod sys;
mod table;
mod too_big;

mod admission;
mod affinity;
mod age;
mod hops;
mod live;
mod miss;
mod modes;
mod ports;
mod race;
mod ranges;
mod recycled;
mod reopen;
mod rules;
