//! Ending flows in place, by the programs' `age` stage: see `lockstep_abi::age`.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use aya::Pod;
use lockstep_abi::age::{AGE_BATCH, AGE_HEADER, AgeEntry};
use lockstep_abi::flow::FlowKey4;

use crate::sys;

const BUFFER: usize = AGE_HEADER + AGE_BATCH * size_of::<AgeEntry>();

/// Runs the stage over `keys`, as many runs as it takes; the outcomes are in the order of the keys.
pub(crate) fn run(program: &OwnedFd, keys: &[FlowKey4], flags: u32) -> io::Result<Vec<AgeEntry>> {
    let mut outcomes = Vec::with_capacity(keys.len());
    for batch in keys.chunks(AGE_BATCH) {
        let mut input = [0u8; BUFFER];
        for (position, key) in batch.iter().enumerate() {
            let entry = AgeEntry { key: *key, flags, ..AgeEntry::default() };
            input[place(position)].copy_from_slice(bytes_of(&entry));
        }
        let length = AGE_HEADER + size_of::<AgeEntry>() * batch.len();
        let mut output = [0u8; BUFFER];
        sys::test_run(program.as_fd(), &input[..length], &mut output[..length])?;
        for position in 0..batch.len() {
            let bytes = &output[place(position)];
            // SAFETY: as long as an AgeEntry, of which any bytes are one; read without relying on alignment.
            outcomes.push(unsafe { std::ptr::read_unaligned(bytes.as_ptr().cast::<AgeEntry>()) });
        }
    }
    Ok(outcomes)
}

fn place(position: usize) -> std::ops::Range<usize> {
    let start = AGE_HEADER + position * size_of::<AgeEntry>();
    start..start + size_of::<AgeEntry>()
}

fn bytes_of<T: Pod>(value: &T) -> &[u8] {
    // SAFETY: Pod: every byte is initialised, and the slice lives as long as the value.
    unsafe { std::slice::from_raw_parts(std::ptr::from_ref(value).cast(), size_of::<T>()) }
}
