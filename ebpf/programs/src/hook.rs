//! What differs between the hooks: where the packet's bytes are, how checksums are mended, what the actions are
//! called. The stages are written once over this.

mod tc;
mod xdp;

use core::ffi::c_void;
use core::mem::size_of;

use lockstep_abi::reason::Reason;

use crate::count::{Verdict, count};

pub(crate) use tc::Tc;
pub(crate) use xdp::Xdp;

/// The checksum differences of a translation, folded.
#[derive(Clone, Copy)]
pub(crate) struct Deltas {
    pub(crate) addresses: u16,
    pub(crate) ports: u16,
}

/// A packet at a hook.
pub(crate) trait Hook {
    /// The hook's way on: to the next program, or to the stack.
    const PASS: i32;
    /// The hook's end of a packet.
    const DROP: i32;
    /// Whether another of our programs sees what this one passes. Then what it would do by other means, or what it
    /// has no means for, is passed on.
    const IN_FRONT: bool;

    /// The context, for helpers.
    fn context(&self) -> *mut c_void;

    /// First byte that may be read through a pointer.
    fn start(&self) -> usize;

    /// One behind the last.
    fn end(&self) -> usize;

    /// Bytes of the frame, those included that no pointer reaches.
    fn length(&self) -> u32;

    /// Bytes of the packet from its IP header on, or of the largest segment that an aggregate of this protocol will be
    /// cut into. The transport header begins at `transport`.
    fn largest(&self, transport: u32, protocol: u8) -> u32;

    /// Where it came in.
    fn ifindex(&self) -> u32;

    /// Whether it was sent to this station, and to it alone.
    fn is_ours(&self) -> bool;

    /// Whether it was sent to a group of stations.
    fn is_multicast(&self) -> bool;

    /// EtherType as it lies in memory; `None` for a frame whose payload is not where it is looked for.
    fn ethertype_be(&self) -> Option<u16>;

    /// Makes so many bytes from the start reachable through pointers, if the frame has them.
    fn pull(&self, bytes: u32);

    /// Mends a TCP or UDP checksum after a translation. Pointers taken before are void afterwards.
    fn mend_checksum(&self, offset: u32, deltas: Deltas, udp: bool) -> Result<(), Reason>;

    /// Notes that the bytes behind the Ethernet header sum up to so much more than before, where a device has summed them
    /// for the stack.
    fn resum(&self, difference: u32);

    /// To an interface, as it is.
    fn send(&self, ifindex: u32) -> i32;

    /// Continues in another program; returns only when that is missing.
    fn tail_call(&self, index: u32);

    /// A pointer to a `T` at `offset`, if all of it is there.
    #[inline(always)]
    fn at<T>(&self, offset: u32) -> Option<*mut T> {
        let start = self.start();
        let end = self.end();
        if start + offset as usize + size_of::<T>() > end {
            return None;
        }
        Some((start + offset as usize) as *mut T)
    }

    /// The `T` at `offset`.
    #[inline(always)]
    fn read<T: Copy>(&self, offset: u32) -> Option<T> {
        // SAFETY: in bounds; the eBPF machine reads words at any address, and only integers and their arrays are
        // asked for.
        self.at::<T>(offset).map(|place| unsafe { place.read() })
    }

    /// To the next program of the hook, or the stack. Why, the last of the programs counts.
    #[inline(always)]
    fn pass(&self, reason: Reason) -> Verdict {
        count(if Self::IN_FRONT { Reason::XdpPassed } else { reason });
        Ok(Self::PASS)
    }

    /// Continues in another stage.
    #[inline(always)]
    fn stage(&self, index: u32) -> Verdict {
        self.tail_call(index);
        Err(Reason::StageMissing)
    }

    /// The hook's action for a verdict; drops are counted here.
    #[inline(always)]
    fn action(verdict: Verdict) -> i32 {
        match verdict {
            Ok(action) => action,
            Err(reason) => {
                count(reason);
                Self::DROP
            }
        }
    }
}
