//! Compare-and-swap, and reads and writes that the compiler neither splits nor moves.

use core::intrinsics::{AtomicOrdering, atomic_cxchg, atomic_xadd};
use core::mem::size_of;

use lockstep_abi::flow::{Address, FlowKey};

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

/// Words of a key.
const fn words<A>() -> usize {
    size_of::<FlowKey<A>>() / size_of::<u64>()
}

/// Whether a key in a map value is this one, word by word.
///
/// # Safety
/// `key` points into a live map value.
#[inline(always)]
pub(crate) unsafe fn same_key<A: Address>(key: *const FlowKey<A>, other: &FlowKey<A>) -> bool {
    let left: *const u64 = key.cast();
    let right: *const u64 = core::ptr::from_ref(other).cast();
    // SAFETY: the caller's promise; a key is whole words, and on the stack one is in a `transport::Room`. One after the
    // other: to compare all at once they would all have to wait on the stack.
    unsafe {
        for i in 0..words::<A>() {
            if left.add(i).read_volatile() != right.add(i).read_volatile() {
                return false;
            }
        }
    }
    true
}

/// Copies a key into a map value, word by word.
///
/// # Safety
/// `into` points into a live map value, and `key` to a key.
#[inline(always)]
pub(crate) unsafe fn copy_key<A: Address>(into: *mut FlowKey<A>, key: *const FlowKey<A>) {
    let to: *mut u64 = into.cast();
    let from: *const u64 = key.cast();
    // SAFETY: the caller's promise; a key is whole words.
    unsafe {
        for i in 0..words::<A>() {
            to.add(i).write_volatile(from.add(i).read_volatile());
        }
    }
}
