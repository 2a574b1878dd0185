//! Builds `../programs`; `src/object.rs` embeds the object.

fn main() {
    lockstep_ebpf_build::Programs {
        folder: "../programs",
        binary: "lockstep-programs",
        sources: &["../packet", "../abi"],
        object: "lockstep.bpf.o",
    }
    .build();
}
