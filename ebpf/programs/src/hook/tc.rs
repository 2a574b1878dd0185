//! tc ingress: the packet as the stack would get it, perhaps an aggregate of many, perhaps with a checksum that a
//! device is to complete.

use core::ffi::c_void;

use aya_ebpf::bindings::{__sk_buff, BPF_F_MARK_MANGLED_0, BPF_F_PSEUDO_HDR, TC_ACT_SHOT, TC_ACT_UNSPEC};
use aya_ebpf::helpers::generated::{bpf_csum_update, bpf_l4_csum_replace, bpf_redirect, bpf_skb_pull_data};
use aya_ebpf::programs::TcContext;
use lockstep_abi::TCP;
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
        let bytes = if bytes < self.length() { bytes } else { self.length() };
        // What it could not pull, the next look for it does not find.
        // SAFETY: the context is valid while the program runs.
        let _ = unsafe { bpf_skb_pull_data(self.skb(), bytes) };
    }

    /// A partial checksum holds the pseudo header only, so it takes the difference of the addresses and not that of
    /// the ports; the kernel knows which it has. Where a device has summed the whole packet, the kernel takes the
    /// checksum's change into that sum, as it must: the addresses' own is [`Family::rewrite`]'s to tell. `BPF_F_IPV6`
    /// (Linux 6.16) would do both at once, but wrongly where there is no checksum to mend.
    ///
    /// [`Family::rewrite`]: crate::family::Family::rewrite
    #[inline(always)]
    fn mend_checksum(&self, offset: u32, deltas: Deltas, udp: bool) -> Result<(), Reason> {
        let mangled = if udp { u64::from(BPF_F_MARK_MANGLED_0) } else { 0 };
        let pseudo = u64::from(BPF_F_PSEUDO_HDR) | mangled;
        // SAFETY: the context is valid while the program runs.
        let mut failed =
            unsafe { bpf_l4_csum_replace(self.skb(), offset, 0, u64::from(deltas.addresses), pseudo) };
        if deltas.ports != 0 {
            // SAFETY: the same.
            failed |= unsafe { bpf_l4_csum_replace(self.skb(), offset, 0, u64::from(deltas.ports), mangled) };
        }
        if failed == 0 { Ok(()) } else { Err(Reason::RewriteFailed) }
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
