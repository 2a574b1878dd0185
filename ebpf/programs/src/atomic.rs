//! Compare-and-swap, and reads and writes that the compiler neither splits nor moves.

use core::intrinsics::{AtomicOrdering, atomic_cxchg, atomic_xadd};
use core::mem::transmute;
use core::ptr::addr_of;

use lockstep_abi::flow::FlowKey4;

/// Swaps `old` for `new`; false when the word held something else.
///
/// # Safety
/// `word` points into a live map value and is aligned.
#[inline(always)]
pub(crate) unsafe fn swap(word: *mut u64, old: u64, new: u64) -> bool {
    // SAFETY: the caller's promise.
    unsafe { atomic_cxchg::<u64, { AtomicOrdering::SeqCst }, { AtomicOrdering::SeqCst }>(word, old, new).1 }
}

/// Adds to a word shared between CPUs and returns what it was.
///
/// # Safety
/// `word` points into a live map value and is aligned.
#[inline(always)]
pub(crate) unsafe fn add(word: *mut u64, by: u64) -> u64 {
    // SAFETY: the caller's promise.
    unsafe { atomic_xadd::<u64, u64, { AtomicOrdering::SeqCst }>(word, by) }
}

/// Reads a key out of a map value, word by word, in this order.
///
/// # Safety
/// `key` points into a live map value.
#[inline(always)]
pub(crate) unsafe fn read_key(key: *const FlowKey4) -> FlowKey4 {
    let words: *const u32 = key.cast();
    // SAFETY: the caller's promise; a key is four u32 wide (asserted in abi) and as strictly aligned, and
    // every bit pattern is one.
    unsafe {
        transmute::<[u32; 4], FlowKey4>([
            addr_of!(*words).read_volatile(),
            words.add(1).read_volatile(),
            words.add(2).read_volatile(),
            words.add(3).read_volatile(),
        ])
    }
}

/// Writes a key into a map value, word by word.
///
/// # Safety
/// `into` points into a live map value.
#[inline(always)]
pub(crate) unsafe fn write_key(into: *mut FlowKey4, key: &FlowKey4) {
    let into: *mut u32 = into.cast();
    // SAFETY: the caller's promise; a key is four u32 wide and as strictly aligned.
    unsafe {
        let words = transmute::<FlowKey4, [u32; 4]>(*key);
        into.write_volatile(words[0]);
        into.add(1).write_volatile(words[1]);
        into.add(2).write_volatile(words[2]);
        into.add(3).write_volatile(words[3]);
    }
}
