//! Clusters of the real binaries in network namespaces: the topology, the traffic that checks every byte, the
//! faults, the captures that judge who forwarded when, the demo with its report, and the scenarios of the tests.
//!
//! Black box: nothing here links the balancer. It starts `lockstepd`, talks to it through its command line and
//! its gRPC interface, and looks at packets.

pub mod api;
pub mod bpf;
pub mod capture;
pub mod certificates;
pub mod chaos;
pub mod clock;
pub mod cluster;
pub mod comparisons;
pub mod demo;
pub mod disk;
pub mod dump;
pub mod fault;
pub mod harm;
pub mod interrupt;
pub mod ip;
pub mod linear;
pub mod machine;
pub mod manifest;
pub mod namespace;
pub mod neighbours;
pub mod nft;
pub mod other_build;
pub mod process;
pub mod programs;
pub mod report;
pub mod run;
pub mod runner;
pub mod scenarios;
pub mod session;
mod sockopt;
pub mod stats;
pub mod topology;
pub mod traffic;
pub mod trial;
pub mod wait;
pub mod workers;
