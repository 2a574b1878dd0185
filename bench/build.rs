//! Builds `programs`; `src/object.rs` embeds the object.

fn main() {
    lockstep_ebpf_build::Programs {
        folder: "programs",
        binary: "lockstep-bench-programs",
        sources: &["../ebpf/abi"],
        object: "bench.bpf.o",
    }
    .build();
}
