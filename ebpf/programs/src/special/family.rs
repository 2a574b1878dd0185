//! What differs between IPv4 and IPv6 beyond plain TCP and UDP.

use aya_ebpf::bindings::BPF_ANY;
use lockstep_abi::address::AddressValue;
use lockstep_abi::checksum::{add, fold, replace};
use lockstep_abi::flow::{Address, FlowKey};
use lockstep_abi::reason::Reason;
use lockstep_packet::fragment::{FragmentKey4, FragmentKey6, FragmentValue};
use lockstep_packet::icmp::Class;
use lockstep_packet::ip::Ip;
use lockstep_packet::quoted::{self, Change, difference6};
use lockstep_packet::{icmp, icmp6};

use crate::family::{Family, V4, V6};
use crate::hook::{Deltas, Hook, Tc};
use crate::maps::{Address6, FRAGMENTS4, FRAGMENTS6};
use crate::special::walk::Walk;

/// Bytes of an ICMP error before the packet that it quotes.
pub(crate) const ICMP_HEADER: u32 = 8;

/// IPv4 or IPv6, once more.
pub(crate) trait Special: Family {
    /// Whether ICMP's checksum covers the addresses.
    const ICMP_COVERS_ADDRESSES: bool;
    /// Where an IP header has its destination.
    const DESTINATION: u32;

    /// The MTU that an ICMP message tells, if it tells one.
    fn told_mtu(header: &[u8; 8]) -> Option<u32>;

    /// Walks over the header at `at`.
    fn walk(hook: &Tc, at: u32, walk: &mut Walk) -> Result<(), Reason>;

    /// What an ICMP message of this type is.
    fn class(kind: u8) -> Class;

    /// Keeps what a first fragment shows.
    fn remember(ip: &Ip<Self::Address>, walk: &Walk, first: &FragmentValue);

    /// What a later fragment's first showed.
    fn remembered(ip: &Ip<Self::Address>, walk: &Walk) -> Option<&'static FragmentValue>;

    /// The addresses, source first, of a quoted packet whose header is at `at`, each to its place.
    fn addresses(
        hook: &Tc,
        at: u32,
        source_be: *mut Self::Address,
        destination_be: *mut Self::Address,
    ) -> bool;

    /// Makes the packet quoted by an error one of `twin`'s tuple; `outer` is the checksum difference of the error's own
    /// addresses. Its places are in the walks over both.
    fn requote(
        hook: &Tc,
        error: &Walk,
        quoted: &Walk,
        twin: &FlowKey<Self::Address>,
        deltas: Deltas,
        outer: u32,
    ) -> Result<(), Reason>;

    /// The [`lockstep_abi::checksum`] difference of two addresses.
    fn difference(from: &Self::Address, to: &Self::Address) -> u32;

    /// Whether two addresses are one.
    fn same(a: &Self::Address, b: &Self::Address) -> bool;
}

/// The address of this family at an index.
#[inline(always)]
pub(crate) fn address_of<F: Family>(address: &AddressValue) -> F::Address {
    F::narrow(address.address)
}

/// An outer header's difference as [`Family::rewrite`] wants it.
#[inline(always)]
pub(crate) fn outer_deltas(difference: u32) -> Deltas {
    Deltas { addresses: fold(difference), ports: 0 }
}

impl Special for V4 {
    const ICMP_COVERS_ADDRESSES: bool = false;
    const DESTINATION: u32 = 16;

    /// Routers older than RFC 1191 say 0.
    #[inline(always)]
    fn told_mtu(header: &[u8; 8]) -> Option<u32> {
        match icmp::mtu(header) {
            Some(mtu_bytes @ 1..) => Some(u32::from(mtu_bytes)),
            _ => None,
        }
    }

    #[inline(always)]
    fn walk(hook: &Tc, at: u32, walk: &mut Walk) -> Result<(), Reason> {
        walk.over4(hook, at)
    }

    #[inline(always)]
    fn class(kind: u8) -> Class {
        icmp::classify(kind)
    }

    #[inline(always)]
    fn remember(ip: &Ip<u32>, walk: &Walk, first: &FragmentValue) {
        // What finds no room is missed by the fragments that follow.
        let _ = FRAGMENTS4.insert(&key4(ip, walk), first, u64::from(BPF_ANY));
    }

    #[inline(always)]
    fn remembered(ip: &Ip<u32>, walk: &Walk) -> Option<&'static FragmentValue> {
        // SAFETY: an element that is replaced as a whole; one that is reused meanwhile has another's ports, and the
        // receiver's checksum finds out.
        unsafe { FRAGMENTS4.get(&key4(ip, walk)) }
    }

    #[inline(always)]
    fn addresses(hook: &Tc, at: u32, source_be: *mut u32, destination_be: *mut u32) -> bool {
        hook.copy(at + 12, source_be) && hook.copy(at + 16, destination_be)
    }

    #[inline(always)]
    fn requote(
        hook: &Tc,
        error: &Walk,
        quoted: &Walk,
        twin: &FlowKey<u32>,
        deltas: Deltas,
        _outer: u32,
    ) -> Result<(), Reason> {
        let header = error.transport + ICMP_HEADER;
        let (checksum_at, addresses_at) = (header + 10, header + 12);
        let new = quoted::rewrite4(
            quoted.protocol,
            hook.load(checksum_at).ok_or(Reason::Malformed)?,
            &hook.load(quoted.transport).ok_or(Reason::Malformed)?,
            hook.load(error.transport + 2).ok_or(Reason::Malformed)?,
            change(deltas),
            (twin.source_port_be, twin.destination_port_be),
        );
        hook.store(checksum_at, &new.header_checksum)?;
        hook.store(addresses_at, &[twin.source_be, twin.destination_be])?;
        hook.store(quoted.transport, &new.transport)?;
        hook.store(error.transport + 2, &new.icmp_checksum)
    }

    #[inline(always)]
    fn difference(from: &u32, to: &u32) -> u32 {
        replace(*from, *to)
    }

    #[inline(always)]
    fn same(a: &u32, b: &u32) -> bool {
        a == b
    }
}

#[inline(always)]
fn key4(ip: &Ip<u32>, walk: &Walk) -> FragmentKey4 {
    FragmentKey4 {
        source_be: ip.source_be,
        destination_be: ip.destination_be,
        id_be: walk.id_be as u16,
        protocol: ip.protocol,
        pad: 0,
    }
}

#[inline(always)]
fn change(deltas: Deltas) -> Change {
    Change { addresses: u32::from(deltas.addresses), ports: u32::from(deltas.ports) }
}

impl Special for V6 {
    const ICMP_COVERS_ADDRESSES: bool = true;
    const DESTINATION: u32 = 24;

    #[inline(always)]
    fn told_mtu(header: &[u8; 8]) -> Option<u32> {
        icmp6::mtu(header)
    }

    #[inline(always)]
    fn walk(hook: &Tc, at: u32, walk: &mut Walk) -> Result<(), Reason> {
        walk.over6(hook, at)
    }

    #[inline(always)]
    fn class(kind: u8) -> Class {
        icmp6::classify(kind)
    }

    #[inline(always)]
    fn remember(ip: &Ip<Address6>, walk: &Walk, first: &FragmentValue) {
        let _ = FRAGMENTS6.insert(&key6(ip, walk), first, u64::from(BPF_ANY));
    }

    #[inline(always)]
    fn remembered(ip: &Ip<Address6>, walk: &Walk) -> Option<&'static FragmentValue> {
        // SAFETY: as for IPv4.
        unsafe { FRAGMENTS6.get(&key6(ip, walk)) }
    }

    #[inline(always)]
    fn addresses(hook: &Tc, at: u32, source_be: *mut Address6, destination_be: *mut Address6) -> bool {
        hook.copy(at + 8, source_be) && hook.copy(at + 24, destination_be)
    }

    #[inline(always)]
    fn requote(
        hook: &Tc,
        error: &Walk,
        quoted: &Walk,
        twin: &FlowKey<Address6>,
        deltas: Deltas,
        outer: u32,
    ) -> Result<(), Reason> {
        let addresses_at = error.transport + ICMP_HEADER + 8;
        let new = quoted::rewrite6(
            quoted.protocol,
            &hook.load(quoted.transport).ok_or(Reason::Malformed)?,
            hook.load(error.transport + 2).ok_or(Reason::Malformed)?,
            change(deltas),
            outer,
            (twin.source_port_be, twin.destination_port_be),
        );
        hook.store(addresses_at, &twin.source_be)?;
        hook.store(addresses_at + 16, &twin.destination_be)?;
        hook.store(quoted.transport, &new.transport)?;
        // The checksum makes up for what changes inside, and for the addresses in front of it.
        hook.resum(!outer);
        hook.store(error.transport + 2, &new.icmp_checksum)
    }

    #[inline(always)]
    fn difference(from: &Address6, to: &Address6) -> u32 {
        difference6(from, to)
    }

    #[inline(always)]
    fn same(a: &Address6, b: &Address6) -> bool {
        lockstep_packet::ipv6::same(a, b)
    }
}

#[inline(always)]
fn key6(ip: &Ip<Address6>, walk: &Walk) -> FragmentKey6 {
    FragmentKey6 { source_be: ip.source_be, destination_be: ip.destination_be, id_be: walk.id_be }
}

/// The difference of two pairs of addresses.
#[inline(always)]
pub(crate) fn outer_difference<F: Special>(
    ip: &Ip<F::Address>,
    source_be: &F::Address,
    destination_be: &F::Address,
) -> u32 {
    add(F::difference(&ip.source_be, source_be), F::difference(&ip.destination_be, destination_be))
}

/// The sum of an address, for a pseudo header.
#[inline(always)]
pub(crate) fn sum_of<A: Address>(address: &A) -> u32 {
    let sum = address.sum();
    add(sum as u32, (sum >> 32) as u32)
}
