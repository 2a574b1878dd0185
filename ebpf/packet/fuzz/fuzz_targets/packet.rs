//! libFuzzer's entry; what is done with the bytes is in `entry.rs`, which the crate's own tests run as well.

#![no_main]

#[path = "../entry.rs"]
mod entry;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    entry::run(bytes);
});
