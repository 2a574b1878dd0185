//! Ports and flags of a plain TCP or UDP packet.

use core::mem::MaybeUninit;

use lockstep_abi::TCP;
use lockstep_abi::flow::FlowKey;
use lockstep_abi::reason::Reason;
use lockstep_packet::ip::Ip;
use lockstep_packet::l4::{self, TcpHeader, UdpHeader};

use crate::family::Family;
use crate::hook::Hook;
use crate::words;

/// Room on the stack for a key, aligned for the words that keys are copied and compared in.
#[repr(C, align(8))]
pub(crate) struct Room<A>(MaybeUninit<FlowKey<A>>);

impl<A> Room<A> {
    #[inline(always)]
    pub(crate) const fn new() -> Self {
        Self(MaybeUninit::uninit())
    }

    #[inline(always)]
    pub(crate) const fn as_mut_ptr(&mut self) -> *mut FlowKey<A> {
        self.0.as_mut_ptr()
    }

    /// # Safety
    /// The key was written.
    #[inline(always)]
    pub(crate) const unsafe fn key(&self) -> &FlowKey<A> {
        // SAFETY: the caller's promise.
        unsafe { self.0.assume_init_ref() }
    }
}

/// Writes the packet's key to `key`, a map value or a [`Room`]; answers the TCP flags (0 for UDP). `None` if the
/// fixed header is out of reach. Straight from the packet, since each way around costs a copy.
///
/// # Safety
/// `key` points to room for a key.
#[inline(always)]
pub(crate) unsafe fn transport<H: Hook, F: Family>(
    hook: &H,
    ip: &Ip<F::Address>,
    key: *mut FlowKey<F::Address>,
) -> Option<Result<u8, Reason>> {
    // A whole header, so that a truncated one is malformed.
    let (header, flags) = if ip.protocol == TCP {
        let header = hook.at::<TcpHeader>(F::TRANSPORT)?;
        // SAFETY: in bounds; the eBPF machine reads words at any address.
        (header.cast::<u8>(), unsafe { (*header).flags })
    } else {
        (hook.at::<UdpHeader>(F::TRANSPORT)?.cast::<u8>(), 0)
    };
    // SAFETY: both addresses stand before the transport header, source first as in a key, and both ports begin it;
    // the caller's promise.
    unsafe {
        let addresses = header.sub((F::TRANSPORT - F::ADDRESSES) as usize);
        words::copy(key.cast::<[F::Address; 2]>(), addresses.cast());
        words::copy((&raw mut (*key).source_port_be).cast::<u32>(), header.cast());
        words::protocol(key, ip.protocol);
    }
    if l4::contradictory(flags) { Some(Err(Reason::TcpFlags)) } else { Some(Ok(flags)) }
}

/// Where the checksum of TCP or UDP stands in a frame.
#[inline(always)]
pub(crate) fn checksum_offset<F: Family>(protocol: u8) -> u32 {
    use lockstep_packet::offset::{TCP_CHECKSUM, UDP_CHECKSUM};
    F::TRANSPORT + if protocol == TCP { TCP_CHECKSUM } else { UDP_CHECKSUM }
}
