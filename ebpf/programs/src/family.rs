//! What differs between IPv4 and IPv6: where things stand in a header, and which maps hold what. The stages are
//! written once over this.

use aya_ebpf::bindings::{__sk_buff, bpf_fib_lookup as FibParams};
use aya_ebpf::maps::HashMap;
use aya_ebpf::maps::lpm_trie::Key;
use lockstep_abi::address::TransitValue;
use lockstep_abi::checksum::{add, apply, replace};
use lockstep_abi::flow::{Address, FlowKey, FlowValue};
use lockstep_abi::learn::LearnEntry;
use lockstep_abi::map::{
    STAGE_COMPLAIN4, STAGE_COMPLAIN6, STAGE_OPEN4, STAGE_OPEN6, STAGE_SLOW4, STAGE_SLOW6, STAGE_SPECIAL4,
    STAGE_SPECIAL6,
};
use lockstep_abi::reason::Reason;
use lockstep_abi::service::{GuardKey, GuardValue, RangeKey, ServiceKey, ServiceRef};
use lockstep_packet::ip::{Header4, Header6, Ip};
use lockstep_packet::offset::NETWORK;
use lockstep_packet::{ipv4, ipv6};

use crate::hook::{Deltas, Hook};
use crate::insert::{begin4, begin6};
use crate::maps::{
    ADDRESS_INDEX4, ADDRESS_INDEX6, Address6, FLOWS4, FLOWS6, GUARDS4, GUARDS6, KEY4, KEY6, LEARN4, LEARN6,
    RANGES4, RANGES6, SCRATCH4, SCRATCH6, SERVICES4, SERVICES6, SNAT_SOURCES4, SNAT_SOURCES6, TRANSIT4,
    TRANSIT6,
};
use crate::words;
use crate::{encapsulate4, encapsulate6};

/// The next hop in the routing table's answer is of this family.
const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;

/// Time to live of what is sent from here.
const ANSWER_TTL: u8 = 64;

/// Bits of a port, and of what stands before it in a range's key behind the address.
const RANGE_BITS: u32 = 32;

/// IPv4 or IPv6.
pub(crate) trait Family {
    type Address: Address;

    /// 4 or 6.
    const NUMBER: u32;
    /// Where the transport header of a plain packet begins.
    const TRANSPORT: u32;
    /// Where the source address stands; the destination's is behind it.
    const ADDRESSES: u32;
    /// Bits of an address.
    const BITS: u32;
    /// Address family of the kernel's interfaces.
    const AF: u8;
    /// IANA number of its ICMP.
    const ICMP: u8;
    /// ICMP type.
    const ECHO_REQUEST: u8;
    /// ICMP type.
    const ECHO_REPLY: u8;
    const STAGE_SLOW: u32;
    const STAGE_OPEN: u32;
    const STAGE_SPECIAL: u32;
    const STAGE_COMPLAIN: u32;

    /// The header; `None` if it is out of reach.
    #[inline(always)]
    fn ip<H: Hook>(hook: &H) -> Option<Result<Ip<Self::Address>, Reason>> {
        Self::ip_of(hook, hook.length().wrapping_sub(NETWORK))
    }

    /// The header of a packet of which so many bytes are there.
    fn ip_of<H: Hook>(hook: &H, bytes: u32) -> Option<Result<Ip<Self::Address>, Reason>>;

    /// Writes the addresses of `twin`, reversed, and the time to live, which is one less than before, and mends the
    /// header's own checksum.
    fn rewrite<H: Hook>(
        hook: &H,
        ip: &Ip<Self::Address>,
        twin: &FlowKey<Self::Address>,
        deltas: Deltas,
    ) -> Option<()>;

    /// Exchanges the addresses and writes the time to live of an answer.
    fn turn_around<H: Hook>(hook: &H, ip: &Ip<Self::Address>) -> Option<()>;

    /// Whether its addresses keep a packet on its link: no flow begins with it.
    fn stays_on_link(key: &FlowKey<Self::Address>) -> bool;

    /// Tells the routing table from where to where.
    fn ask(fib: &mut FibParams, source_be: &Self::Address, destination_be: &Self::Address);

    /// The next hop that the routing table named, in an answer of this family.
    fn answered(fib: &FibParams) -> Self::Address;

    /// The address of the first word, or of all four.
    fn narrow(wide: [u32; 4]) -> Self::Address;

    /// [`crate::insert::begin`], as a function that the verifier looks at by itself.
    fn begin(source: u64, hash: u32, group: u64, reopen: u32) -> i32;

    /// [`crate::direct::encapsulate`], likewise.
    fn encapsulate(raw: *mut __sk_buff) -> i32;

    fn flows() -> &'static HashMap<FlowKey<Self::Address>, FlowValue<Self::Address>>;
    /// Room for a flow that does not fit on the stack, of two.
    fn scratch(room: u32) -> Option<*mut FlowValue<Self::Address>>;
    fn key_room() -> Option<*mut FlowKey<Self::Address>>;
    /// A learnt flow that waits.
    fn learnt(index: u32) -> Option<*mut LearnEntry<Self::Address>>;
    fn address_index(address_be: &Self::Address) -> Option<u32>;
    fn service(key: &ServiceKey<Self::Address>) -> Option<&'static ServiceRef>;
    fn range(key: RangeKey<Self::Address>) -> Option<&'static ServiceRef>;
    fn guard(key: &GuardKey<Self::Address>) -> Option<*const GuardValue>;
    fn transit(source_be: &Self::Address) -> Option<&'static TransitValue>;
    fn snat_set(source_be: &Self::Address) -> Option<u32>;
}

pub(crate) struct V4;
pub(crate) struct V6;

macro_rules! maps {
    ($flows:ident, $scratch:ident, $key:ident, $index:ident, $services:ident, $ranges:ident, $guards:ident, $transit:ident,
     $snat:ident, $learn:ident) => {
        #[inline(always)]
        fn flows() -> &'static HashMap<FlowKey<Self::Address>, FlowValue<Self::Address>> {
            &$flows
        }

        #[inline(always)]
        fn scratch(room: u32) -> Option<*mut FlowValue<Self::Address>> {
            $scratch.get_ptr_mut(room)
        }

        #[inline(always)]
        fn key_room() -> Option<*mut FlowKey<Self::Address>> {
            $key.get_ptr_mut(0)
        }

        #[inline(always)]
        fn learnt(index: u32) -> Option<*mut LearnEntry<Self::Address>> {
            $learn.get_ptr_mut(index)
        }

        #[inline(always)]
        fn address_index(address_be: &Self::Address) -> Option<u32> {
            // SAFETY: elements of this map are replaced only while their address is not in use.
            unsafe { $index.get(address_be) }.copied()
        }

        #[inline(always)]
        fn service(key: &ServiceKey<Self::Address>) -> Option<&'static ServiceRef> {
            // SAFETY: an element that user space replaces as a whole; the version it names is compared with it.
            unsafe { $services.get(key) }
        }

        #[inline(always)]
        fn range(key: RangeKey<Self::Address>) -> Option<&'static ServiceRef> {
            $ranges.get(Key::new(Self::BITS + RANGE_BITS, key))
        }

        #[inline(always)]
        fn guard(key: &GuardKey<Self::Address>) -> Option<*const GuardValue> {
            $guards.get_ptr(key)
        }

        #[inline(always)]
        fn transit(source_be: &Self::Address) -> Option<&'static TransitValue> {
            $transit.get(Key::new(Self::BITS, *source_be))
        }

        #[inline(always)]
        fn snat_set(source_be: &Self::Address) -> Option<u32> {
            $snat.get(Key::new(Self::BITS, *source_be)).copied()
        }
    };
}

/// What an IPv6 header's sum changes by with the hop limit.
#[inline(always)]
fn hop_limit(from: u8, to: u8) -> u32 {
    let word = |limit: u8| u16::from_ne_bytes([0, limit]) as u32;
    replace(word(from), word(to))
}

impl Family for V4 {
    type Address = u32;

    const NUMBER: u32 = 4;
    const TRANSPORT: u32 = NETWORK + 20;
    const ADDRESSES: u32 = NETWORK + 12;
    const BITS: u32 = 32;
    const AF: u8 = AF_INET;
    const ICMP: u8 = lockstep_abi::ICMP;
    const ECHO_REQUEST: u8 = 8;
    const ECHO_REPLY: u8 = 0;
    const STAGE_SLOW: u32 = STAGE_SLOW4;
    const STAGE_OPEN: u32 = STAGE_OPEN4;
    const STAGE_SPECIAL: u32 = STAGE_SPECIAL4;
    const STAGE_COMPLAIN: u32 = STAGE_COMPLAIN4;

    maps!(
        FLOWS4,
        SCRATCH4,
        KEY4,
        ADDRESS_INDEX4,
        SERVICES4,
        RANGES4,
        GUARDS4,
        TRANSIT4,
        SNAT_SOURCES4,
        LEARN4
    );

    #[inline(always)]
    fn ip_of<H: Hook>(hook: &H, bytes: u32) -> Option<Result<Ip<u32>, Reason>> {
        let header = hook.at::<Header4>(NETWORK)?;
        // SAFETY: in bounds; the eBPF machine reads words at any address.
        Some(unsafe { *header }.parse(bytes))
    }

    #[inline(always)]
    fn rewrite<H: Hook>(hook: &H, ip: &Ip<u32>, twin: &FlowKey<u32>, deltas: Deltas) -> Option<()> {
        let header = hook.at::<Header4>(NETWORK)?;
        let ttl = |ttl: u8| u32::from(u16::from_ne_bytes([ttl, ip.protocol]));
        let difference = add(u32::from(deltas.addresses), replace(ttl(ip.ttl), ttl(ip.ttl - 1)));
        // SAFETY: in bounds; the eBPF machine writes words at any address.
        unsafe {
            (*header).checksum = apply((*header).checksum, difference);
            (*header).ttl = ip.ttl - 1;
            (*header).source_be = twin.destination_be;
            (*header).destination_be = twin.source_be;
        }
        Some(())
    }

    #[inline(always)]
    fn turn_around<H: Hook>(hook: &H, ip: &Ip<u32>) -> Option<()> {
        let header = hook.at::<Header4>(NETWORK)?;
        let ttl = |ttl: u8| u32::from(u16::from_ne_bytes([ttl, ip.protocol]));
        // SAFETY: in bounds; the eBPF machine writes words at any address.
        unsafe {
            (*header).checksum = apply((*header).checksum, replace(ttl(ip.ttl), ttl(ANSWER_TTL)));
            (*header).ttl = ANSWER_TTL;
            (*header).source_be = ip.destination_be;
            (*header).destination_be = ip.source_be;
        }
        Some(())
    }

    #[inline(always)]
    fn stays_on_link(key: &FlowKey<u32>) -> bool {
        ipv4::stays_on_link(key.source_be)
    }

    #[inline(always)]
    fn ask(fib: &mut FibParams, source_be: &u32, destination_be: &u32) {
        fib.__bindgen_anon_3.ipv4_src = *source_be;
        fib.__bindgen_anon_4.ipv4_dst = *destination_be;
    }

    #[inline(always)]
    fn answered(fib: &FibParams) -> u32 {
        // SAFETY: the caller knows the family of the answer.
        unsafe { fib.__bindgen_anon_4.ipv4_dst }
    }

    #[inline(always)]
    fn begin(source: u64, hash: u32, group: u64, reopen: u32) -> i32 {
        begin4(source, hash, group, reopen)
    }

    #[inline(always)]
    fn encapsulate(raw: *mut __sk_buff) -> i32 {
        encapsulate4(raw)
    }

    #[inline(always)]
    fn narrow(wide: [u32; 4]) -> u32 {
        wide[0]
    }
}

impl Family for V6 {
    type Address = Address6;

    const NUMBER: u32 = 6;
    const TRANSPORT: u32 = NETWORK + 40;
    const ADDRESSES: u32 = NETWORK + 8;
    const BITS: u32 = 128;
    const AF: u8 = AF_INET6;
    const ICMP: u8 = lockstep_abi::ICMPV6;
    const ECHO_REQUEST: u8 = 128;
    const ECHO_REPLY: u8 = 129;
    const STAGE_SLOW: u32 = STAGE_SLOW6;
    const STAGE_OPEN: u32 = STAGE_OPEN6;
    const STAGE_SPECIAL: u32 = STAGE_SPECIAL6;
    const STAGE_COMPLAIN: u32 = STAGE_COMPLAIN6;

    maps!(
        FLOWS6,
        SCRATCH6,
        KEY6,
        ADDRESS_INDEX6,
        SERVICES6,
        RANGES6,
        GUARDS6,
        TRANSIT6,
        SNAT_SOURCES6,
        LEARN6
    );

    #[inline(always)]
    fn ip_of<H: Hook>(hook: &H, bytes: u32) -> Option<Result<Ip<Address6>, Reason>> {
        let header = hook.at::<Header6>(NETWORK)?;
        // SAFETY: in bounds; the eBPF machine reads words at any address.
        Some(unsafe { *header }.parse(bytes))
    }

    #[inline(always)]
    fn rewrite<H: Hook>(hook: &H, ip: &Ip<Address6>, twin: &FlowKey<Address6>, deltas: Deltas) -> Option<()> {
        let header = hook.at::<Header6>(NETWORK)?;
        // SAFETY: in bounds; the eBPF machine writes words at any address.
        unsafe {
            (*header).hop_limit = ip.ttl - 1;
            words::copy(&raw mut (*header).source_be, &raw const twin.destination_be);
            words::copy(&raw mut (*header).destination_be, &raw const twin.source_be);
        }
        // No checksum in the header makes up for that.
        hook.resum(add(u32::from(deltas.addresses), hop_limit(ip.ttl, ip.ttl - 1)));
        Some(())
    }

    #[inline(always)]
    fn turn_around<H: Hook>(hook: &H, ip: &Ip<Address6>) -> Option<()> {
        let header = hook.at::<Header6>(NETWORK)?;
        // SAFETY: in bounds; the eBPF machine writes words at any address.
        unsafe {
            (*header).hop_limit = ANSWER_TTL;
            (*header).source_be = ip.destination_be;
            (*header).destination_be = ip.source_be;
        }
        hook.resum(hop_limit(ip.ttl, ANSWER_TTL));
        Some(())
    }

    #[inline(always)]
    fn stays_on_link(key: &FlowKey<Address6>) -> bool {
        ipv6::stays_on_link(&key.source_be, &key.destination_be)
    }

    #[inline(always)]
    fn ask(fib: &mut FibParams, source_be: &Address6, destination_be: &Address6) {
        fib.__bindgen_anon_3.ipv6_src = *source_be;
        fib.__bindgen_anon_4.ipv6_dst = *destination_be;
    }

    #[inline(always)]
    fn answered(fib: &FibParams) -> Address6 {
        // SAFETY: the caller knows the family of the answer.
        unsafe { fib.__bindgen_anon_4.ipv6_dst }
    }

    #[inline(always)]
    fn begin(source: u64, hash: u32, group: u64, reopen: u32) -> i32 {
        begin6(source, hash, group, reopen)
    }

    #[inline(always)]
    fn encapsulate(raw: *mut __sk_buff) -> i32 {
        encapsulate6(raw)
    }

    #[inline(always)]
    fn narrow(wide: [u32; 4]) -> Address6 {
        wide
    }
}
