//! Clusters of the real binaries in network namespaces: the topology, the traffic that checks every byte, the
//! faults, the captures that judge who forwarded when, the demo with its report, and the scenarios of the tests.
//!
//! Black box: nothing here links the balancer. It starts `lockstepd`, talks to it through its command line and
//! its gRPC interface, and looks at packets.

pub mod capture;
pub mod clock;
pub mod interrupt;
pub mod ip;
pub mod namespace;
pub mod process;
pub mod run;
pub mod stats;
pub mod topology;
pub mod traffic;
pub mod wait;
