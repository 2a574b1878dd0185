//! Flow entries. A flow has two: the original's key is the packet as the client sends it, the reply's key the
//! packet as the endpoint sends it. Each names the other, and the name of the other is the translation:
//! a packet that matches one entry leaves with the addresses of the *other* one's key, reversed.

use crate::assert_size;
use crate::checksum::fold_wide;
use crate::state;

/// A packet's 5-tuple, with addresses of one family. Over IPv4 16 bytes: one compare in the kernel's hash table.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct FlowKey<A> {
    /// Source address, network order.
    pub source_be: A,
    /// Destination address, network order.
    pub destination_be: A,
    /// Source port, network order. ICMP echo: the identifier on the side that asks, 0 on the other.
    pub source_port_be: u16,
    /// Destination port, network order.
    pub destination_port_be: u16,
    /// IANA protocol.
    pub protocol: u8,
    /// Zero.
    pub pad: [u8; 3],
}
/// Over IPv4.
pub type FlowKey4 = FlowKey<u32>;
/// Over IPv6.
pub type FlowKey6 = FlowKey<[u32; 4]>;
assert_size!(FlowKey4, 16);
assert_size!(FlowKey6, 40);

/// An address of either family, as the packet has it.
pub trait Address: Copy + Eq + 'static {
    /// The plain sum of its 32-bit words.
    fn sum(&self) -> u64;
    /// The same of their complements.
    fn complement(&self) -> u64;
    /// The exclusive or of its 16-bit words, host order.
    fn fold(&self) -> u32;
    /// In four words, IPv4 in the first.
    fn wide(&self) -> [u32; 4];
}

impl Address for u32 {
    #[inline(always)]
    fn sum(&self) -> u64 {
        *self as u64
    }

    #[inline(always)]
    fn complement(&self) -> u64 {
        !*self as u64
    }

    #[inline(always)]
    fn fold(&self) -> u32 {
        let host = u32::from_be(*self);
        (host >> 16) ^ (host & 0xffff)
    }

    #[inline(always)]
    fn wide(&self) -> [u32; 4] {
        [*self, 0, 0, 0]
    }
}

impl Address for [u32; 4] {
    #[inline(always)]
    fn sum(&self) -> u64 {
        self[0] as u64 + self[1] as u64 + self[2] as u64 + self[3] as u64
    }

    #[inline(always)]
    fn complement(&self) -> u64 {
        !self[0] as u64 + !self[1] as u64 + !self[2] as u64 + !self[3] as u64
    }

    #[inline(always)]
    fn fold(&self) -> u32 {
        (self[0] ^ self[1] ^ self[2] ^ self[3]).fold()
    }

    #[inline(always)]
    fn wide(&self) -> [u32; 4] {
        *self
    }
}

impl<A: Address> FlowKey<A> {
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
    pub fn shard(&self) -> u32 {
        (self.source_be.fold() ^ (u16::from_be(self.source_port_be) as u32)) % crate::map::SHARDS
    }
}

/// [`FlowValue::path`]: packets without SYN, FIN and RST need no decision. Follows the state.
pub const PATH_FAST: u32 = 1;
/// [`FlowValue::path`]: the flow is being removed; terminal.
pub const PATH_DEAD: u32 = 2;

/// [`FlowValue::path`]: with direct return, which the slow path does; beside [`PATH_FAST`].
pub const PATH_DIRECT: u32 = 4;

/// [`FlowValue::flags`], as [`KIND`]: the client's direction; holds the flow's state.
pub const ORIGINAL: u32 = 1;
/// [`FlowValue::flags`], as [`KIND`]: the endpoint's direction.
pub const REPLY: u32 = 2;
/// [`FlowValue::flags`]: [`ORIGINAL`] or [`REPLY`].
pub const KIND: u32 = 3;
/// [`FlowValue::flags`]: the service's flows are not replicated; no events.
pub const NO_SYNC: u32 = 4;
/// [`FlowValue::flags`]: replicated once established; no events before.
pub const SYNC_LATE: u32 = 8;
/// [`FlowValue::flags`], as [`FORWARDING`]: both directions are translated. Zero on purpose.
pub const FORWARD_NAT: u32 = 0;
/// [`FlowValue::flags`], as [`FORWARDING`]: to the endpoint's MAC, as it is.
pub const FORWARD_DSR_L2: u32 = 1 << 8;
/// [`FlowValue::flags`], as [`FORWARDING`]: to the endpoint, in IP.
pub const FORWARD_DSR_IPIP: u32 = 2 << 8;
/// [`FlowValue::flags`], as [`FORWARDING`]: to the endpoint, in UDP.
pub const FORWARD_DSR_GUE: u32 = 3 << 8;
/// [`FlowValue::flags`]: how packets of the client's direction leave. With direct return the reply is never seen:
/// the flow has no reply entry.
pub const FORWARDING: u32 = 3 << 8;

/// One direction of a flow. Replaced as a whole only by user space, and by the `learn` stage for it, on a node without the
/// lease; the kernel changes `path`, `hop`, `state`, `last_seen_ns`, `epoch` in place, and everything but the key when a SYN begins
/// another connection on a dead flow's key. A reply entry whose original names another twin was left by that;
/// it stays dead until the sweeper frees it or the flow returns to its endpoint.
///
/// A freed element may be reused at once, under a reader's hands. A reader takes `generation_end`, then
/// what it needs, then compares `generation` and `key`: values are filled front to back. What a packet of an
/// established flow needs stands before `generation_end`: over IPv4, one cache line.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FlowValue<A> {
    /// Any number that differs from the last user of the memory's. First word on purpose.
    pub generation: u32,
    /// [`PATH_FAST`], [`PATH_DEAD`].
    pub path: u32,
    /// The entry's own key.
    pub key: FlowKey<A>,
    /// The other entry's key. Its reverse is what the packet becomes.
    pub twin: FlowKey<A>,
    /// When the last packet of this direction came, by the clock that moves with the kernel's tick (exact to a few
    /// of them). A flow's age counts from the later one of the pair. Of a dead original: when it was marked dead.
    pub last_seen_ns: u64,
    /// [`crate::hop::word`]: this direction's next hop. 0: not known yet.
    pub hop: u32,
    /// [`crate::checksum`] difference of both addresses, folded.
    pub address_delta: u16,
    /// The same of both ports.
    pub port_delta: u16,
    /// Index of the group's address in [`crate::map::ADDRESSES`]: the VIP, or what the source is translated to.
    pub address_index: u16,
    /// Its stamp.
    pub address_stamp: u16,
    /// Equal to `generation`. Behind all that a packet needs, on purpose.
    pub generation_end: u32,
    /// Original only: [`crate::state`] in the low half, the change counter n in the high half. Changed by
    /// compare-and-swap; who wins emits the event. Of a reply 0, or [`state::CLAIMED`] while somebody writes over it or
    /// takes it back.
    pub state: u64,
    /// The first owner's clock when the flow was made.
    pub birth_ns: u64,
    /// Epoch of the owner that made it or changed its state last, or from which it was learnt.
    pub epoch: u64,
    /// The service's id, or the rule's.
    pub service: u64,
    /// The endpoint's id; 0: made by a rule.
    pub endpoint: u64,
    /// [`KIND`], [`NO_SYNC`], [`SYNC_LATE`], [`FORWARDING`].
    pub flags: u32,
    /// Mark of the last walk that mentioned it; the receiver's.
    pub mark: u32,
    /// The service's slot, see [`crate::service::ServiceRef`]; 0: none.
    pub service_slot: u16,
    /// The endpoint's index in [`crate::map::TARGETS`]; 0: none.
    pub target: u16,
    /// Zero.
    pub reserved: [u32; 2],
}
/// Over IPv4.
pub type FlowValue4 = FlowValue<u32>;
/// Over IPv6.
pub type FlowValue6 = FlowValue<[u32; 4]>;
assert_size!(FlowValue4, 128);
assert_size!(FlowValue6, 176);
const _: () = assert!(core::mem::offset_of!(FlowValue4, generation_end) == 60);

impl<A> FlowValue<A> {
    /// [`ORIGINAL`] or [`REPLY`].
    #[inline(always)]
    pub const fn kind(&self) -> u32 {
        self.flags & KIND
    }
}

/// What the two entries of a flow are made of.
#[derive(Clone, Copy, Debug)]
pub struct NewFlow<A> {
    /// As the client sends.
    pub key: FlowKey<A>,
    /// As the endpoint answers. With direct return: [`Self::key`] reversed, and no entry.
    pub reply_key: FlowKey<A>,
    /// Index of the group's address.
    pub address_index: u16,
    /// Its stamp.
    pub address_stamp: u16,
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
    /// [`FlowValue::flags`] without the kind.
    pub flags: u32,
    /// Service slot.
    pub service_slot: u16,
    /// Target index.
    pub target: u16,
    /// See [`FlowValue::generation`].
    pub generation: u32,
}

impl<A: Address> NewFlow<A> {
    /// The original entry's value; its key is `self.key`.
    #[inline(always)]
    pub fn original(&self) -> FlowValue<A> {
        self.value(ORIGINAL, self.key, self.reply_key)
    }

    /// The reply entry's value; its key is `self.reply_key`. Written before the original.
    #[inline(always)]
    pub fn reply(&self) -> FlowValue<A> {
        self.value(REPLY, self.reply_key, self.key)
    }

    #[inline(always)]
    fn value(&self, kind: u32, key: FlowKey<A>, twin: FlowKey<A>) -> FlowValue<A> {
        let (address_delta, port_delta) = deltas(&key, &twin);
        FlowValue {
            generation: self.generation,
            path: state::path(self.state_bits, self.flags),
            key,
            twin,
            last_seen_ns: self.now_ns,
            hop: 0,
            address_delta,
            port_delta,
            address_index: self.address_index,
            address_stamp: self.address_stamp,
            generation_end: self.generation,
            state: if kind == ORIGINAL { state::word(self.state_bits, self.n) } else { 0 },
            birth_ns: self.birth_ns,
            epoch: self.epoch,
            service: self.service,
            endpoint: self.endpoint,
            flags: self.flags | kind,
            mark: self.mark,
            service_slot: self.service_slot,
            target: self.target,
            reserved: [0; 2],
        }
    }
}

/// The checksum differences, of addresses and of ports, that make a packet of `key` one of `twin` reversed.
#[inline(always)]
pub fn deltas<A: Address>(key: &FlowKey<A>, twin: &FlowKey<A>) -> (u16, u16) {
    let addresses = key.source_be.complement()
        + key.destination_be.complement()
        + twin.source_be.sum()
        + twin.destination_be.sum();
    let ports = !key.source_port_be as u64
        + !key.destination_port_be as u64
        + twin.source_port_be as u64
        + twin.destination_port_be as u64;
    (fold_wide(addresses), fold_wide(ports))
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
            reply_key: FlowKey4 {
                source_be: 0x0b00_000a,
                destination_be: 0x3202_00c0,
                source_port_be: 8080u16.to_be(),
                destination_port_be: 40000u16.to_be(),
                protocol: crate::TCP,
                pad: [0; 3],
            },
            address_index: 1,
            address_stamp: 2,
            state_bits: state::ESTABLISHED,
            n: 3,
            now_ns: 10,
            birth_ns: 9,
            epoch: 8,
            service: 7,
            endpoint: 6,
            mark: 5,
            flags: 0,
            service_slot: 3,
            target: 9,
            generation: 4,
        };
        let (original, reply) = (flow.original(), flow.reply());
        assert_eq!((original.key, original.twin), (reply.twin, reply.key));
        assert_eq!((original.path, reply.path), (PATH_FAST, PATH_FAST));
        assert_eq!((original.state, reply.state), (state::word(state::ESTABLISHED, 3), 0));
        assert_eq!((original.kind(), reply.kind()), (ORIGINAL, REPLY));
        let sum = |a: u16, b: u16| (u32::from(a) + u32::from(b)) % 0xffff;
        assert_eq!(sum(original.address_delta, reply.address_delta), 0);
        assert_eq!(sum(original.port_delta, reply.port_delta), 0);
        let out = original.twin.reversed();
        assert_eq!((out.source_be, out.destination_be), (flow.key.source_be, flow.reply_key.source_be));
        let back = reply.twin.reversed();
        assert_eq!(
            (back.source_be, back.source_port_be),
            (flow.key.destination_be, flow.key.destination_port_be)
        );
    }
}
