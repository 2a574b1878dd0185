//! XDP, in front of tc: the frame as the driver got it.

use core::ffi::c_void;
use core::ptr::addr_of;

use aya_ebpf::bindings::{xdp_action, xdp_md};
use aya_ebpf::helpers::generated::bpf_redirect;
use aya_ebpf::programs::XdpContext;
use lockstep_abi::checksum::{add, apply};
use lockstep_abi::map::MAX_MACS;
use lockstep_abi::reason::Reason;

use lockstep_packet::offset::NETWORK;

use super::{Deltas, Hook};
use crate::maps::{MACS, XDP_STAGES};

pub(crate) struct Xdp(pub(crate) XdpContext);

impl Xdp {
    #[inline(always)]
    pub(crate) fn raw(&self) -> *mut xdp_md {
        self.md()
    }

    #[inline(always)]
    fn md(&self) -> *mut xdp_md {
        self.0.ctx
    }
}

impl Hook for Xdp {
    const PASS: i32 = xdp_action::XDP_PASS as i32;
    const DROP: i32 = xdp_action::XDP_DROP as i32;
    const IN_FRONT: bool = true;

    #[inline(always)]
    fn context(&self) -> *mut c_void {
        self.md().cast()
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
        (self.0.data_end() - self.0.data()) as u32
    }

    #[inline(always)]
    fn largest(&self, _transport: u32, _protocol: u8) -> u32 {
        self.length().wrapping_sub(NETWORK)
    }

    #[inline(always)]
    fn ifindex(&self) -> u32 {
        // SAFETY: the context is valid while the program runs.
        unsafe { (*self.md()).ingress_ifindex }
    }

    /// A device may hand over what is for others.
    #[inline(always)]
    fn is_ours(&self) -> bool {
        let ifindex = self.ifindex();
        let Some(to) = self.at::<[u16; 3]>(0) else { return false };
        let Some(known) = MACS.get_ptr(ifindex % MAX_MACS) else { return false };
        // SAFETY: a live array element, which user space replaces as a whole, and a packet's bytes in bounds; the eBPF
        // machine reads words at any address.
        unsafe {
            let mac = addr_of!((*known).mac);
            let high = mac.cast::<u32>().read_volatile() ^ to.cast::<u32>().read_volatile();
            let low = mac.cast::<u16>().add(2).read_volatile() ^ to.cast::<u16>().add(2).read_volatile();
            addr_of!((*known).ifindex).read_volatile() == ifindex && high | u32::from(low) == 0
        }
    }

    #[inline(always)]
    fn is_multicast(&self) -> bool {
        self.read::<u8>(0).is_some_and(|first| first & 1 != 0)
    }

    #[inline(always)]
    fn ethertype_be(&self) -> Option<u16> {
        self.read::<u16>(12)
    }

    #[inline(always)]
    fn pull(&self, _bytes: u32) {}

    #[inline(always)]
    fn mend_checksum(&self, offset: u32, deltas: Deltas, udp: bool) -> Result<(), Reason> {
        let field = self.at::<u16>(offset).ok_or(Reason::Malformed)?;
        // SAFETY: in bounds; the eBPF machine reads and writes words at any address.
        unsafe {
            let old = field.read_volatile();
            if udp && old == 0 {
                return Ok(());
            }
            let new = apply(old, add(u32::from(deltas.addresses), u32::from(deltas.ports)));
            field.write_volatile(if udp && new == 0 { 0xffff } else { new });
        }
        Ok(())
    }

    /// What a device has summed goes with the frame that XDP may change, and is forgotten.
    #[inline(always)]
    fn resum(&self, _difference: u32) {}

    #[inline(always)]
    fn send(&self, ifindex: u32) -> i32 {
        if ifindex == self.ifindex() {
            return xdp_action::XDP_TX as i32;
        }
        // SAFETY: a helper without pointers.
        unsafe { bpf_redirect(ifindex, 0) as i32 }
    }

    #[inline(always)]
    fn tail_call(&self, index: u32) {
        // SAFETY: the context is valid, and nothing here needs dropping.
        unsafe { XDP_STAGES.tail_call(&self.0, index) };
    }
}
