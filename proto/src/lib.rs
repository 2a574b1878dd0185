//! The protobuf packages of Lockstep, the code generated from them, and conversions to and from the model.
//!
//! Whatever another version of the binary may read is defined in `proto/`. Field numbers are never reused.

#![forbid(unsafe_code)]
#![warn(missing_docs)]

pub mod convert;

/// The encoded `FileDescriptorSet` of every package, for gRPC reflection.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

macro_rules! packages {
    ($($(#[$doc:meta])* $name:ident: $package:literal;)*) => {$(
        $(#[$doc])*
        pub mod $name {
            #![allow(
                missing_docs,
                clippy::all,
                clippy::allow_attributes_without_reason,
                reason = "generated; the .proto file says what its parts are"
            )]
            /// Version 1.
            pub mod v1 {
                tonic::include_proto!($package);
            }
        }
    )*};
}

packages! {
    /// What the other packages share: intent, commands, state, flows.
    types: "lockstep.types.v1";
    /// Raft and bootstrap between nodes.
    raft: "lockstep.raft.v1";
    /// Lease datagrams.
    lease: "lockstep.lease.v1";
    /// Health of endpoints between nodes.
    health: "lockstep.health.v1";
    /// Flow replication.
    sync: "lockstep.sync.v1";
    /// Intent and membership for operators.
    admin: "lockstep.admin.v1";
    /// What a node sees.
    inspect: "lockstep.inspect.v1";
}
