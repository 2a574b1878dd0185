//! Flow entries. A flow has two: the original's key is the packet as the client sends it, the reply's key the
//! packet as the endpoint sends it. Each names the other, and the name of the other is the translation:
//! a packet that matches one entry leaves with the addresses of the *other* one's key, reversed.

use crate::assert_size;
use crate::checksum::{add, replace};
use crate::state;

/// A packet's 5-tuple. 16 bytes: one compare in the kernel's hash table.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct FlowKey4 {
    /// Source address, network order.
    pub source_be: u32,
    /// Destination address, network order.
    pub destination_be: u32,
    /// Source port, network order.
    pub source_port_be: u16,
    /// Destination port, network order.
    pub destination_port_be: u16,
    /// IANA protocol.
    pub protocol: u8,
    /// Zero.
    pub pad: [u8; 3],
}
assert_size!(FlowKey4, 16);

impl FlowKey4 {
    /// The tuple of packets in the other direction.
    #[inline(always)]
    pub const fn reversed(&self) -> Self {
        Self {
            source_be: self.destination_be,
            destination_be: self.source_be,
            source_port_be: self.destination_port_be,
            destination_port_be: self.source_port_be,
            protocol: self.protocol,
            pad: [0; 3],
        }
    }

    /// The shard of an original key; the same as `lockstep_model::flow::FlowKey::shard`.
    #[inline(always)]
    pub const fn shard(&self) -> u32 {
        let client = u32::from_be(self.source_be);
        let folded = (client >> 16) ^ (client & 0xffff) ^ (u16::from_be(self.source_port_be) as u32);
        folded % crate::map::SHARDS
    }
}

/// [`FlowValue4::kind`]: the client's direction; holds the flow's state.
pub const ORIGINAL: u32 = 1;
/// [`FlowValue4::kind`]: the endpoint's direction.
pub const REPLY: u32 = 2;

/// [`FlowValue4::path`]: packets without SYN, FIN and RST need no decision. Follows the state.
pub const PATH_FAST: u32 = 1;
/// [`FlowValue4::path`]: the flow is being removed; terminal.
pub const PATH_DEAD: u32 = 2;

/// [`FlowValue4::flags`]: the service's flows are not replicated; no events.
pub const NO_SYNC: u32 = 1;

/// One direction of a flow. Replaced as a whole only by user space on a node without the lease; the kernel
/// changes `path`, `state`, `last_seen_ns`, `epoch` in place, and everything but the key when a SYN begins
/// another connection on a dead flow's key. A reply entry whose original names another twin was left by that;
/// it stays dead until the sweeper frees it or the flow returns to its endpoint.
///
/// A freed element may be reused at once, under a reader's hands. A reader takes `generation_end`, then
/// what it needs, then compares `generation` and `key`: values are filled front to back.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FlowValue4 {
    /// Any number that differs from the last user of the memory's. First word on purpose.
    pub generation: u32,
    /// [`ORIGINAL`] or [`REPLY`].
    pub kind: u32,
    /// The entry's own key.
    pub key: FlowKey4,
    /// The other entry's key. Its reverse is what the packet becomes.
    pub twin: FlowKey4,
    /// [`crate::checksum`] difference of both addresses.
    pub address_delta: u32,
    /// The same of both ports.
    pub port_delta: u32,
    /// Index of the VIP in [`crate::map::ADDRESSES`].
    pub address_index: u32,
    /// [`PATH_FAST`], [`PATH_DEAD`].
    pub path: u32,
    /// Original only: [`crate::state`] in the low half, the change counter n in the high half. Changed by
    /// compare-and-swap; who wins emits the event.
    pub state: u64,
    /// Clock of the last packet of this direction, exact to [`LAST_SEEN_GRAIN_NS`]. A flow's age counts from
    /// the later one of the pair. Of a dead original: when it was marked dead.
    pub last_seen_ns: u64,
    /// The first owner's clock when the flow was made.
    pub birth_ns: u64,
    /// Epoch of the owner that made it or changed its state last, or from which it was learnt.
    pub epoch: u64,
    /// The service's id.
    pub service: u64,
    /// The endpoint's id.
    pub endpoint: u64,
    /// Mark of the last walk that mentioned it; the receiver's.
    pub mark: u32,
    /// [`NO_SYNC`] or 0.
    pub flags: u32,
    /// Zero.
    pub reserved: [u32; 3],
    /// Equal to `generation`. Last word on purpose.
    pub generation_end: u32,
}
assert_size!(FlowValue4, 128);

/// How stale `last_seen_ns` may be: it is written only when older, so that a busy flow does not dirty its
/// cache line with each packet.
pub const LAST_SEEN_GRAIN_NS: u64 = 1_000_000_000 / 16;

/// What the two entries of a flow are made of.
#[derive(Clone, Copy, Debug)]
pub struct NewFlow {
    /// As the client sends.
    pub key: FlowKey4,
    /// The endpoint's address, network order.
    pub endpoint_be: u32,
    /// The endpoint's port, network order.
    pub endpoint_port_be: u16,
    /// Index of the VIP.
    pub address_index: u32,
    /// Low half of the state word.
    pub state_bits: u32,
    /// Change counter.
    pub n: u32,
    /// Clock now, for `last_seen_ns`.
    pub now_ns: u64,
    /// Birth.
    pub birth_ns: u64,
    /// Epoch.
    pub epoch: u64,
    /// Service id.
    pub service: u64,
    /// Endpoint id.
    pub endpoint: u64,
    /// Walk mark.
    pub mark: u32,
    /// [`NO_SYNC`] or 0.
    pub flags: u32,
    /// See [`FlowValue4::generation`].
    pub generation: u32,
}

impl NewFlow {
    /// Key of the reply entry: from the endpoint to the client.
    #[inline(always)]
    pub const fn reply_key(&self) -> FlowKey4 {
        FlowKey4 {
            source_be: self.endpoint_be,
            destination_be: self.key.source_be,
            source_port_be: self.endpoint_port_be,
            destination_port_be: self.key.source_port_be,
            protocol: self.key.protocol,
            pad: [0; 3],
        }
    }

    /// The original entry's value; its key is `self.key`.
    #[inline(always)]
    pub const fn original(&self) -> FlowValue4 {
        self.value(ORIGINAL, self.key, self.reply_key())
    }

    /// The reply entry's value; its key is [`Self::reply_key`]. Written before the original.
    #[inline(always)]
    pub const fn reply(&self) -> FlowValue4 {
        self.value(REPLY, self.reply_key(), self.key)
    }

    #[inline(always)]
    const fn value(&self, kind: u32, key: FlowKey4, twin: FlowKey4) -> FlowValue4 {
        let out = twin.reversed();
        FlowValue4 {
            generation: self.generation,
            kind,
            key,
            twin,
            address_delta: add(
                replace(key.source_be, out.source_be),
                replace(key.destination_be, out.destination_be),
            ),
            port_delta: add(
                replace(key.source_port_be as u32, out.source_port_be as u32),
                replace(key.destination_port_be as u32, out.destination_port_be as u32),
            ),
            address_index: self.address_index,
            path: state::path(self.state_bits),
            state: if kind == ORIGINAL { state::word(self.state_bits, self.n) } else { 0 },
            last_seen_ns: self.now_ns,
            birth_ns: self.birth_ns,
            epoch: self.epoch,
            service: self.service,
            endpoint: self.endpoint,
            mark: self.mark,
            flags: self.flags,
            reserved: [0; 3],
            generation_end: self.generation,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_two_entries_of_a_flow_mirror_each_other() {
        let flow = NewFlow {
            key: FlowKey4 {
                source_be: 0x3202_00c0,
                destination_be: 0x0a02_00c0,
                source_port_be: 40000u16.to_be(),
                destination_port_be: 80u16.to_be(),
                protocol: crate::TCP,
                pad: [0; 3],
            },
            endpoint_be: 0x0b00_000a,
            endpoint_port_be: 8080u16.to_be(),
            address_index: 1,
            state_bits: state::ESTABLISHED,
            n: 3,
            now_ns: 10,
            birth_ns: 9,
            epoch: 8,
            service: 7,
            endpoint: 6,
            mark: 5,
            flags: 0,
            generation: 4,
        };
        let (original, reply) = (flow.original(), flow.reply());
        assert_eq!((original.key, original.twin), (reply.twin, reply.key));
        assert_eq!((original.path, reply.path), (PATH_FAST, PATH_FAST));
        assert_eq!((original.state, reply.state), (state::word(state::ESTABLISHED, 3), 0));
        assert_eq!(add(original.address_delta, reply.address_delta) % u32::MAX, 0);
        assert_eq!(add(original.port_delta, reply.port_delta) % u32::MAX, 0);
        let out = original.twin.reversed();
        assert_eq!((out.source_be, out.destination_be), (flow.key.source_be, flow.endpoint_be));
        let back = reply.twin.reversed();
        assert_eq!(
            (back.source_be, back.source_port_be),
            (flow.key.destination_be, flow.key.destination_port_be)
        );
    }
}
