//! Newtypes for every identity and counter, so that one cannot be passed for another.
//!
//! Ids of groups, services and endpoints carry the Raft log index of the command that made them, and are
//! therefore never reused within a cluster. One command can make several: see [`LogIndex::object`].

use serde::{Deserialize, Serialize};

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub u64);

        impl $name {
            /// The number itself, for wire formats and map keys.
            pub const fn get(self) -> u64 {
                self.0
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

id!(
    /// A node's number, given by `cluster init` or `cluster join`, never reused.
    NodeId
);
id!(
    /// A group's number, made by [`LogIndex::object`].
    GroupId
);
id!(
    /// A service's number: the log index of the command that created it.
    ServiceId
);
id!(
    /// An endpoint's number within the cluster: unique over the cluster's life.
    EndpointId
);
id!(
    /// A group's ownership number: the log index of the assignment that made it. 0: never assigned.
    Epoch
);
id!(
    /// The version of the intent: the log index of the last command that changed it.
    Revision
);
id!(
    /// A position in the Raft log.
    LogIndex
);

/// One installation of a node: drawn with its data directory. Two machines that claim one name differ in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct InstallationId(pub [u8; 16]);

impl std::fmt::Display for InstallationId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|b| write!(f, "{b:02x}"))
    }
}

impl LogIndex {
    /// Bits of an id that tell apart the objects made by one command. The rest is the log index.
    pub const OBJECT_BITS: u32 = 20;

    /// The id of the `n`th object that the command at this index makes.
    ///
    /// # Panics
    /// If `n` needs more than [`Self::OBJECT_BITS`]. The limits on services and endpoints keep it far below.
    pub const fn object(self, n: u32) -> u64 {
        assert!(n < 1 << Self::OBJECT_BITS, "one command makes fewer objects than the limits allow");
        (self.0 << Self::OBJECT_BITS) | n as u64
    }
}

impl GroupId {
    /// The command that made it: what [`LogIndex::object`] was asked of.
    pub const fn made_at(self) -> LogIndex {
        LogIndex(self.0 >> LogIndex::OBJECT_BITS)
    }
}
