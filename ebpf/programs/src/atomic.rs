//! Compare-and-swap, and reads and writes that the compiler neither splits nor moves.

use core::intrinsics::{AtomicOrdering, atomic_cxchg, atomic_xadd};
use core::mem::{MaybeUninit, size_of};

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
    size_of::<FlowKey<A>>() / size_of::<u32>()
}

/// Reads a key out of a map value, word by word, in this order.
///
/// # Safety
/// `key` points into a live map value.
#[inline(always)]
pub(crate) unsafe fn read_key<A: Address>(key: *const FlowKey<A>) -> FlowKey<A> {
    let from: *const u32 = key.cast();
    let mut copy = MaybeUninit::<FlowKey<A>>::uninit();
    let to: *mut u32 = copy.as_mut_ptr().cast();
    // SAFETY: the caller's promise; a key is whole words (sizes are asserted in abi), each is written, and every bit
    // pattern is a key.
    unsafe {
        for i in 0..words::<A>() {
            to.add(i).write(from.add(i).read_volatile());
        }
        copy.assume_init()
    }
}

/// Whether a key in a map value is this one, word by word.
///
/// # Safety
/// `key` points into a live map value.
#[inline(always)]
pub(crate) unsafe fn same_key<A: Address>(key: *const FlowKey<A>, other: &FlowKey<A>) -> bool {
    let left: *const u32 = key.cast();
    let right: *const u32 = core::ptr::from_ref(other).cast();
    let mut differs = 0;
    // SAFETY: the caller's promise; a key is whole words.
    unsafe {
        for i in 0..words::<A>() {
            differs |= left.add(i).read_volatile() ^ right.add(i).read();
        }
    }
    differs == 0
}

/// Exchanges two keys, word by word: the stack has no room for a third.
#[inline(always)]
pub(crate) fn swap_keys<A: Address>(left: &mut FlowKey<A>, right: &mut FlowKey<A>) {
    let left: *mut u32 = core::ptr::from_mut(left).cast();
    let right: *mut u32 = core::ptr::from_mut(right).cast();
    // SAFETY: both are whole words and borrowed for this alone; volatile keeps the compiler from making a copy.
    unsafe {
        for i in 0..words::<A>() {
            let word = left.add(i).read_volatile();
            left.add(i).write_volatile(right.add(i).read_volatile());
            right.add(i).write_volatile(word);
        }
    }
}

/// Writes a key into a map value, word by word.
///
/// # Safety
/// `into` points into a live map value.
#[inline(always)]
pub(crate) unsafe fn write_key<A: Address>(into: *mut FlowKey<A>, key: &FlowKey<A>) {
    let to: *mut u32 = into.cast();
    let from: *const u32 = core::ptr::from_ref(key).cast();
    // SAFETY: the caller's promise; a key is whole words.
    unsafe {
        for i in 0..words::<A>() {
            to.add(i).write_volatile(from.add(i).read());
        }
    }
}
