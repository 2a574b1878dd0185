//! Ending flows in place, by the programs' `age` stages: see `lockstep_abi::age`.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use aya::Pod;
use lockstep_abi::age::{AGE_BATCH, AGE_HEADER, AgeEntry};
use lockstep_abi::flow::FlowKey;

use crate::family::KernelFamily;
use crate::sys;

/// The stage of each family.
pub(crate) struct AgePrograms {
    pub(crate) v4: OwnedFd,
    pub(crate) v6: OwnedFd,
}

/// Runs the stage over `keys`, as many runs as it takes; the outcomes are in the order of the keys.
pub(crate) fn run<A: KernelFamily>(
    programs: &AgePrograms,
    keys: &[FlowKey<A>],
    flags: u32,
) -> io::Result<Vec<AgeEntry<A>>> {
    let program = A::age_program(programs).as_fd();
    let mut outcomes = Vec::with_capacity(keys.len());
    let size = size_of::<AgeEntry<A>>();
    let mut input = vec![0u8; AGE_HEADER + AGE_BATCH * size];
    let mut output = input.clone();
    for batch in keys.chunks(AGE_BATCH) {
        let length = AGE_HEADER + size * batch.len();
        for (place, key) in input[AGE_HEADER..].chunks_exact_mut(size).zip(batch) {
            place.copy_from_slice(bytes_of(&AgeEntry { key: *key, flags, ..AgeEntry::default() }));
        }
        sys::test_run(program, &[], &input[..length], &mut output[..length], 0)?;
        for bytes in output[AGE_HEADER..length].chunks_exact(size) {
            // SAFETY: as long as an AgeEntry, of which any bytes are one; read without relying on alignment.
            outcomes.push(unsafe { std::ptr::read_unaligned(bytes.as_ptr().cast::<AgeEntry<A>>()) });
        }
    }
    Ok(outcomes)
}

fn bytes_of<T: Pod>(value: &T) -> &[u8] {
    // SAFETY: Pod: every byte is initialised, and the slice lives as long as the value.
    unsafe { std::slice::from_raw_parts(std::ptr::from_ref(value).cast(), size_of::<T>()) }
}
