//! Who speaks: not a node but one run of its daemon.

use lockstep_model::ids::NodeId;

/// The kernel's boot id (`/proc/sys/kernel/random/boot_id`): two machines with one node id, say clones,
/// differ in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct BootId(pub [u8; 16]);

/// One run of one node's daemon. What a run promised or was promised is in its memory only, so another run
/// of the same node is another party.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Identity {
    /// The node.
    pub node: NodeId,
    /// The machine's boot.
    pub boot: BootId,
    /// The daemon's run within that boot; larger is later.
    pub incarnation: u64,
}
