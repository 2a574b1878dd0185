//! The compiled programs of `../programs`, embedded.

/// The eBPF object that `build.rs` made.
pub(crate) static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/bench.bpf.o"));
