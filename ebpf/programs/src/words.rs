//! Copies and fills in whole words. What the compiler makes of an assignment that it does not take apart is a call of
//! a loop over bytes: of 64 of them, that costs more than the routing table's answer.

use core::mem::{align_of, size_of};

use lockstep_abi::flow::{Address, FlowKey};

/// Copies `T` in words of eight bytes, or of four where it does not fill those.
///
/// # Safety
/// `from` and `to` point to a `T` each; the eBPF machine reads packets and map values at any address, the stack only
/// as it is aligned.
#[inline(always)]
pub(crate) unsafe fn copy<T>(to: *mut T, from: *const T) {
    // SAFETY: the caller's promise.
    unsafe {
        if size_of::<T>().is_multiple_of(8) {
            for i in 0..size_of::<T>() / 8 {
                to.cast::<u64>().add(i).write_volatile(from.cast::<u64>().add(i).read_volatile());
            }
        } else {
            const { assert!(size_of::<T>().is_multiple_of(4)) };
            for i in 0..size_of::<T>() / 4 {
                to.cast::<u32>().add(i).write_volatile(from.cast::<u32>().add(i).read_volatile());
            }
        }
    }
}

/// Fills a `T` in a map value with zeros.
///
/// # Safety
/// `to` points to a `T`, of which zeros are a value.
#[inline(always)]
pub(crate) unsafe fn clear<T>(to: *mut T) {
    const { assert!(size_of::<T>().is_multiple_of(4) && align_of::<T>() >= 4) };
    for i in 0..size_of::<T>() / 4 {
        // SAFETY: the caller's promise.
        unsafe { to.cast::<u32>().add(i).write_volatile(0) };
    }
}

/// Writes the tuple of packets in the other direction.
///
/// # Safety
/// `to` points to a key, in a map value.
#[inline(always)]
pub(crate) unsafe fn reverse<A: Address>(to: *mut FlowKey<A>, key: &FlowKey<A>) {
    // SAFETY: the caller's promise; the last word is the protocol, and what is behind it.
    unsafe {
        copy(&raw mut (*to).source_be, &raw const key.destination_be);
        copy(&raw mut (*to).destination_be, &raw const key.source_be);
        (&raw mut (*to).source_port_be).write_volatile(key.destination_port_be);
        (&raw mut (*to).destination_port_be).write_volatile(key.source_port_be);
        protocol(to, key.protocol);
    }
}

/// Writes a key's protocol and the zeros behind it.
///
/// # Safety
/// `key` points to a key.
#[inline(always)]
pub(crate) unsafe fn protocol<A>(key: *mut FlowKey<A>, protocol: u8) {
    // SAFETY: the caller's promise; the protocol is the first byte of an aligned word.
    unsafe { (&raw mut (*key).protocol).cast::<u32>().write_volatile(u32::from(protocol).to_le()) };
}
