//! What the kernel reports of a flow through the ring buffer.

use crate::assert_size;
use crate::flow::FlowKey;

/// [`FlowEvent::kind`]: the flow was made.
pub const CREATED: u32 = 1;
/// [`FlowEvent::kind`]: its state changed.
pub const CHANGED: u32 = 2;

/// The events' reader looks again by itself.
pub const AWAKE: u32 = 0;
/// The events' reader waits for the ring's descriptor: each event makes it readable.
pub const ASLEEP: u32 = 1;

/// A flow after a change. Events of the two families differ in length. Complete on its own: the reader needs no lookup.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FlowEvent<A> {
    /// [`CREATED`] or [`CHANGED`].
    pub kind: u32,
    /// The flow's shard.
    pub shard: u32,
    /// As the client sends.
    pub key: FlowKey<A>,
    /// As the endpoint answers.
    pub reply_key: FlowKey<A>,
    /// [`crate::state`] bits after the change.
    pub state_bits: u32,
    /// Change counter after the change.
    pub n: u32,
    /// The flow's birth.
    pub birth_ns: u64,
    /// Epoch of the lease it happened under.
    pub epoch: u64,
    /// Group id.
    pub group: u64,
    /// Service id.
    pub service: u64,
    /// Endpoint id.
    pub endpoint: u64,
    /// The kernel's clock at the change: the flow's idle timeout starts here.
    pub now_ns: u64,
    /// [`crate::flow::FlowValue::flags`] without the kind.
    pub flags: u32,
    /// Zero.
    pub pad: u32,
}
/// Over IPv4.
pub type FlowEvent4 = FlowEvent<u32>;
/// Over IPv6.
pub type FlowEvent6 = FlowEvent<[u32; 4]>;
assert_size!(FlowEvent4, 104);
assert_size!(FlowEvent6, 152);
