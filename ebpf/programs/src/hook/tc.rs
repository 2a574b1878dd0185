//! tc ingress: the packet as the stack would get it, perhaps an aggregate of many, perhaps with a checksum that a
//! device is to complete.

use core::ffi::c_void;

use aya_ebpf::bindings::{__sk_buff, TC_ACT_SHOT, TC_ACT_UNSPEC};
use aya_ebpf::helpers::generated::{bpf_csum_update, bpf_redirect, bpf_skb_pull_data};
use aya_ebpf::programs::TcContext;
use lockstep_abi::TCP;
use lockstep_abi::checksum::apply;
use lockstep_abi::reason::Reason;

use lockstep_packet::offset::NETWORK;

use super::{Deltas, Hook};
use crate::maps::TC_STAGES;

/// Where TCP says how long its header is.
const TCP_LENGTH: u32 = 12;
const UDP_HEADER: u32 = 8;
/// `PACKET_HOST` of linux/if_packet.h.
const PACKET_HOST: u32 = 0;
/// `PACKET_MULTICAST`.
const PACKET_MULTICAST: u32 = 2;

pub(crate) struct Tc(pub(crate) TcContext);

impl Tc {
    #[inline(always)]
    pub(crate) fn raw(&self) -> *mut __sk_buff {
        self.skb()
    }

    #[inline(always)]
    pub(crate) fn skb(&self) -> *mut __sk_buff {
        self.0.skb.skb
    }
}

/// A whole checksum after a difference.
#[inline(always)]
fn mended(old: u16, difference: u16, udp: bool) -> u16 {
    let new = apply(old, u32::from(difference));
    if udp && new == 0 { u16::MAX } else { new }
}

impl Hook for Tc {
    const PASS: i32 = TC_ACT_UNSPEC;
    const DROP: i32 = TC_ACT_SHOT;
    const IN_FRONT: bool = false;

    #[inline(always)]
    fn context(&self) -> *mut c_void {
        self.skb().cast()
    }

    #[inline(always)]
    fn start(&self) -> usize {
        self.0.data()
    }

    #[inline(always)]
    fn end(&self) -> usize {
        self.0.data_end()
    }

    #[inline(always)]
    fn length(&self) -> u32 {
        self.0.len()
    }

    #[inline(always)]
    fn largest(&self, transport: u32, protocol: u8) -> u32 {
        // SAFETY: the context is valid while the program runs.
        let (length, segment) = unsafe { ((*self.skb()).len, (*self.skb()).gso_size) };
        if segment == 0 {
            return length.wrapping_sub(NETWORK);
        }
        let header = if protocol == TCP {
            u32::from(self.read::<u8>(transport + TCP_LENGTH).unwrap_or(u8::MAX) >> 4) * 4
        } else {
            UDP_HEADER
        };
        transport - NETWORK + header + segment
    }

    #[inline(always)]
    fn ifindex(&self) -> u32 {
        // SAFETY: the context is valid while the program runs.
        unsafe { (*self.skb()).ifindex }
    }

    #[inline(always)]
    fn is_ours(&self) -> bool {
        // SAFETY: the context is valid while the program runs.
        unsafe { (*self.skb()).pkt_type == PACKET_HOST }
    }

    #[inline(always)]
    fn is_multicast(&self) -> bool {
        // SAFETY: the context is valid while the program runs.
        unsafe { (*self.skb()).pkt_type == PACKET_MULTICAST }
    }

    #[inline(always)]
    fn ethertype_be(&self) -> Option<u16> {
        // SAFETY: the context is valid while the program runs.
        let skb = unsafe { &*self.skb() };
        // A VLAN tag beside the packet: the tag's interface sees it again, without.
        if skb.vlan_present != 0 { None } else { Some(skb.protocol as u16) }
    }

    #[inline(always)]
    fn pull(&self, bytes: u32) {
        if self.start() + bytes as usize <= self.end() {
            return;
        }
        let bytes = if bytes < self.length() { bytes } else { self.length() };
        // What it could not pull, the next look for it does not find.
        // SAFETY: the context is valid while the program runs.
        let _ = unsafe { bpf_skb_pull_data(self.skb(), bytes) };
    }

    /// The kernel's helper mends the addresses' part (see [`Tc::mend_by_helper`]), and what it made of the checksum
    /// tells of which kind that is: of a whole one the ports' part is mended here, without another call.
    #[inline(always)]
    fn mend_checksum(&self, offset: u32, deltas: Deltas, udp: bool) -> Result<(), Reason> {
        let old: u16 = self.read(offset).ok_or(Reason::Malformed)?;
        if udp && old == 0 {
            return Ok(());
        }
        // A difference of nothing tells nothing.
        if matches!(deltas.addresses, 0 | u16::MAX) {
            return self.mend_by_helper(offset, deltas, udp);
        }
        self.mend_by_helper(offset, Deltas { ports: 0, ..deltas }, udp)?;
        let field = self.at::<u16>(offset).ok_or(Reason::RewriteFailed)?;
        // SAFETY: in bounds; the eBPF machine reads and writes words at any address.
        unsafe {
            if field.read_volatile() == mended(old, deltas.addresses, udp) {
                field.write_volatile(mended(field.read_volatile(), deltas.ports, udp));
            }
        }
        Ok(())
    }

    #[inline(always)]
    fn resum(&self, difference: u32) {
        // It refuses where there is no such sum, and then there is nothing to do.
        // SAFETY: the context is valid while the program runs.
        let _ = unsafe { bpf_csum_update(self.skb(), difference) };
    }

    #[inline(always)]
    fn send(&self, ifindex: u32) -> i32 {
        // SAFETY: a helper without pointers.
        unsafe { bpf_redirect(ifindex, 0) as i32 }
    }

    #[inline(always)]
    fn tail_call(&self, index: u32) {
        // SAFETY: the context is valid, and nothing here needs dropping.
        unsafe { TC_STAGES.tail_call(&self.0, index) };
    }
}
