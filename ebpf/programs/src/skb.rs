//! Packets at tc by the kernel's helpers: at offsets that are known only when the packet is there, and beyond what
//! pointers reach.

use core::ffi::c_void;
use core::mem::{MaybeUninit, size_of};
use core::ptr::{from_ref, null_mut};

use aya_ebpf::bindings::{BPF_F_MARK_MANGLED_0, BPF_F_PSEUDO_HDR, BPF_F_RECOMPUTE_CSUM};
use aya_ebpf::helpers::generated::{
    bpf_csum_diff, bpf_l4_csum_replace, bpf_skb_adjust_room, bpf_skb_change_tail, bpf_skb_load_bytes,
    bpf_skb_store_bytes,
};
use lockstep_abi::checksum::add;
use lockstep_abi::reason::Reason;
use lockstep_packet::offset::{ETHERNET, NETWORK};

use crate::hook::{Deltas, Hook, Tc};
use crate::hop::Macs;
use crate::maps::CHUNK;

/// Bytes that are summed at a time.
pub(crate) const CHUNK_BYTES: usize = 512;
/// So many times at most.
const CHUNKS: u32 = 3;
/// No sum.
const NOT_THERE: u64 = u64::MAX;

impl Tc {
    /// The `T` at `offset`: integers, or an array of them.
    #[inline(always)]
    pub(crate) fn load<T: Copy>(&self, offset: u32) -> Option<T> {
        let mut room = MaybeUninit::<T>::uninit();
        // SAFETY: room for a T, which the helper fills; it is believed only then.
        unsafe {
            let to = room.as_mut_ptr().cast();
            if bpf_skb_load_bytes(self.skb().cast(), offset, to, size_of::<T>() as u32) == 0 {
                Some(room.assume_init())
            } else {
                None
            }
        }
    }

    /// Copies the `T` at `offset` into a live map value; false if it is not there.
    #[inline(always)]
    pub(crate) fn copy<T: Copy>(&self, offset: u32, to: *mut T) -> bool {
        // SAFETY: the callers hand over places in map values.
        unsafe { bpf_skb_load_bytes(self.skb().cast(), offset, to.cast(), size_of::<T>() as u32) == 0 }
    }

    /// Writes what the sum of the whole packet does not change by: its checksum changes with it.
    #[inline(always)]
    pub(crate) fn store<T>(&self, offset: u32, value: &T) -> Result<(), Reason> {
        self.put(offset, value, 0)
    }

    /// Writes headers of a packet that becomes another.
    #[inline(always)]
    pub(crate) fn store_anew<T>(&self, offset: u32, value: &T) -> Result<(), Reason> {
        self.put(offset, value, u64::from(BPF_F_RECOMPUTE_CSUM))
    }

    #[inline(always)]
    fn put<T>(&self, offset: u32, value: &T, flags: u64) -> Result<(), Reason> {
        let from = from_ref(value).cast::<c_void>();
        // SAFETY: a value of that size; the context is valid while the program runs.
        let result = unsafe { bpf_skb_store_bytes(self.skb(), offset, from, size_of::<T>() as u32, flags) };
        if result == 0 { Ok(()) } else { Err(Reason::RewriteFailed) }
    }

    /// Makes the frame this long. It is one packet afterwards, if it was an aggregate, and all of it can be reached.
    #[inline(always)]
    pub(crate) fn resize(&self, bytes: u32) -> Result<(), Reason> {
        // SAFETY: the context is valid while the program runs.
        let result = unsafe { bpf_skb_change_tail(self.skb(), bytes, 0) };
        if result == 0 { Ok(()) } else { Err(Reason::RewriteFailed) }
    }

    /// Makes room, or takes it away, behind the Ethernet header (`BPF_ADJ_ROOM_MAC`) or behind the IP header
    /// (`BPF_ADJ_ROOM_NET`).
    #[inline(always)]
    pub(crate) fn room(&self, bytes: i32, mode: u32, flags: u64) -> Result<(), Reason> {
        // SAFETY: the context is valid while the program runs.
        let result = unsafe { bpf_skb_adjust_room(self.skb(), bytes, mode, flags) };
        if result == 0 { Ok(()) } else { Err(Reason::RewriteFailed) }
    }

    /// Mends a checksum wherever it stands; pointers taken before are void afterwards. A partial one holds the pseudo
    /// header only, so it takes the difference of the addresses and not that of the ports; the kernel knows which it has.
    /// Where a device has summed the whole packet, the kernel takes the checksum's change into that sum, as it must: the
    /// addresses' own is [`Family::rewrite`]'s to tell. `BPF_F_IPV6` (Linux 6.16) would do both at once, but wrongly where
    /// there is no checksum to mend.
    ///
    /// [`Family::rewrite`]: crate::family::Family::rewrite
    #[inline(always)]
    pub(crate) fn mend_by_helper(&self, offset: u32, deltas: Deltas, udp: bool) -> Result<(), Reason> {
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

    /// Exchanges the MACs and sends the packet back.
    #[inline(always)]
    pub(crate) fn back(&self) -> Result<i32, Reason> {
        let macs = self.at::<Macs>(ETHERNET).ok_or(Reason::RewriteFailed)?;
        // SAFETY: in bounds; the eBPF machine reads and writes words at any address.
        unsafe {
            let [a, b, c, d, e, f] = *macs;
            *macs = [d, e, f, a, b, c];
        }
        Ok(self.send(self.ifindex()))
    }

    /// Bytes from the IP header on: of the packet, or of the largest segment of an aggregate whose transport header
    /// begins at `transport`. 0: not known, where an aggregate's segments are of different sizes (SCTP).
    #[inline(always)]
    pub(crate) fn largest_behind(&self, transport: u32, protocol: u8) -> u32 {
        // SAFETY: the context is valid while the program runs.
        let (length, segment) = unsafe { ((*self.skb()).len, (*self.skb()).gso_size) };
        if segment == 0 {
            return length.wrapping_sub(NETWORK);
        }
        let header = match protocol {
            lockstep_abi::TCP => u32::from(self.load::<u8>(transport + 12).unwrap_or(u8::MAX) >> 4) * 4,
            lockstep_abi::UDP => 8,
            _ => return 0,
        };
        transport.wrapping_sub(NETWORK) + header + segment
    }

    /// The sum of so many bytes, a multiple of 4 and no more than 1536, as [`lockstep_abi::checksum`] counts. `None`:
    /// they are not there.
    #[inline(always)]
    pub(crate) fn sum(&self, from: u32, bytes: u32) -> Option<u32> {
        let sum = self.sum_of(from, bytes);
        if sum == NOT_THERE { None } else { Some(sum as u32) }
    }

    /// [`Self::sum`] in one word.
    #[inline(never)]
    fn sum_of(&self, from: u32, bytes: u32) -> u64 {
        let Some(chunk) = CHUNK.get_ptr_mut(0) else {
            return NOT_THERE;
        };
        let (mut sum, mut from, mut left) = (0, from, bytes);
        for _ in 0..CHUNKS {
            if left == 0 {
                break;
            }
            let now = if left < CHUNK_BYTES as u32 { left } else { CHUNK_BYTES as u32 };
            // SAFETY: the element is this CPU's own, and programs of one hook do not nest; `now` bytes of it are
            // written and then read.
            unsafe {
                if bpf_skb_load_bytes(self.skb().cast(), from, chunk.cast(), now) != 0 {
                    return NOT_THERE;
                }
                sum = add(sum, bpf_csum_diff(null_mut(), 0, chunk.cast(), now, 0) as u32);
            }
            from += now;
            left -= now;
        }
        if left == 0 { u64::from(sum) } else { NOT_THERE }
    }
}
