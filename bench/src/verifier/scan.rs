//! What a program's instructions ask of the kernel.

use std::collections::BTreeMap;

use aya_obj::generated::bpf_insn;

use super::kernels::{self, Version};

// linux/bpf_common.h, linux/bpf.h
const CLASS: u8 = 0x07;
const LDX: u8 = 0x01;
const STX: u8 = 0x03;
const JMP: u8 = 0x05;
const JMP32: u8 = 0x06;
const ALU: u8 = 0x04;
const ALU64: u8 = 0x07;
const MODE: u8 = 0xe0;
const MODE_MEMSX: u8 = 0x80;
const MODE_ATOMIC: u8 = 0xc0;
const OPERATION: u8 = 0xf0;
const LD_IMM64: u8 = 0x18;
const CALL: u8 = 0x85;
const PSEUDO_CALL: u8 = 1;
const PSEUDO_KFUNC: u8 = 2;
const PSEUDO_FUNC: u8 = 4;
const ATOMIC_ADD: i32 = 0x00;
const LOAD_ACQUIRE: i32 = 0x100;
const STORE_RELEASE: i32 = 0x110;

/// A feature, since when it is there; none: younger than the tables.
pub(crate) type Features = BTreeMap<String, Option<Version>>;

/// Of linked instructions: a program with every function that it calls.
pub(crate) fn features(instructions: &[bpf_insn]) -> Features {
    let mut found = Features::new();
    let mut skip = false;
    for instruction in instructions {
        // The second half of a 64-bit constant is no instruction.
        if std::mem::take(&mut skip) {
            continue;
        }
        skip = instruction.code == LD_IMM64;
        if let Some((what, since)) = feature(instruction) {
            found.insert(what, since);
        }
    }
    found
}

fn feature(instruction: &bpf_insn) -> Option<(String, Option<Version>)> {
    let named = |what: &str, since| Some((what.to_owned(), Some(since)));
    let (code, imm, off, source) =
        (instruction.code, instruction.imm, instruction.off, instruction.src_reg());
    match (code & CLASS, code & OPERATION) {
        _ if code == CALL => match source {
            PSEUDO_CALL => named("function calls between BPF functions", Version(4, 16)),
            // The loader's library links none yet. Kernels promise nothing about them anyway.
            PSEUDO_KFUNC => Some((format!("kernel function {imm}"), None)),
            _ => Some((format!("helper {}", helper_name(imm as u32)), kernels::helper(imm as u32))),
        },
        _ if code == LD_IMM64 && source == PSEUDO_FUNC => {
            named("callbacks (pointers to functions)", Version(5, 13))
        }
        (STX, _) if code & MODE == MODE_ATOMIC => match imm {
            ATOMIC_ADD => None,
            LOAD_ACQUIRE | STORE_RELEASE => named("load-acquire and store-release", Version(6, 15)),
            _ => named("atomic exchange, compare-and-exchange and fetch", Version(5, 12)),
        },
        (LDX, _) if code & MODE == MODE_MEMSX => named("sign-extending loads (cpu v4)", Version(6, 6)),
        (ALU | ALU64, 0xb0) if off != 0 => named("sign-extending moves (cpu v4)", Version(6, 6)),
        (ALU | ALU64, 0x30 | 0x90) if off == 1 => named("signed division (cpu v4)", Version(6, 6)),
        (ALU64, 0xd0) => named("unconditional byte swap (cpu v4)", Version(6, 6)),
        (JMP32, 0x00) => named("long jumps (cpu v4)", Version(6, 6)),
        (JMP, 0xe0) => named("may_goto", Version(6, 9)),
        (JMP32, _) => named("32-bit jumps (cpu v3)", Version(5, 1)),
        _ => None,
    }
}

fn helper_name(number: u32) -> String {
    HELPERS
        .iter()
        .find(|(known, _)| *known == number)
        .map_or_else(|| format!("number {number}"), |(_, name)| format!("bpf_{name}"))
}

/// Names of those that a network program is likely to call, for people; the others are told by number.
const HELPERS: &[(u32, &str)] = &[
    (1, "map_lookup_elem"),
    (2, "map_update_elem"),
    (3, "map_delete_elem"),
    (5, "ktime_get_ns"),
    (6, "trace_printk"),
    (7, "get_prandom_u32"),
    (8, "get_smp_processor_id"),
    (9, "skb_store_bytes"),
    (10, "l3_csum_replace"),
    (11, "l4_csum_replace"),
    (12, "tail_call"),
    (13, "clone_redirect"),
    (18, "skb_vlan_push"),
    (19, "skb_vlan_pop"),
    (20, "skb_get_tunnel_key"),
    (21, "skb_set_tunnel_key"),
    (23, "redirect"),
    (26, "skb_load_bytes"),
    (28, "csum_diff"),
    (31, "skb_change_proto"),
    (32, "skb_change_type"),
    (34, "get_hash_recalc"),
    (38, "skb_change_tail"),
    (39, "skb_pull_data"),
    (40, "csum_update"),
    (41, "set_hash_invalid"),
    (43, "skb_change_head"),
    (44, "xdp_adjust_head"),
    (48, "set_hash"),
    (50, "skb_adjust_room"),
    (51, "redirect_map"),
    (54, "xdp_adjust_meta"),
    (65, "xdp_adjust_tail"),
    (69, "fib_lookup"),
    (93, "spin_lock"),
    (94, "spin_unlock"),
    (118, "jiffies64"),
    (121, "xdp_output"),
    (125, "ktime_get_boot_ns"),
    (130, "ringbuf_output"),
    (131, "ringbuf_reserve"),
    (132, "ringbuf_submit"),
    (133, "ringbuf_discard"),
    (134, "ringbuf_query"),
    (135, "csum_level"),
    (152, "redirect_neigh"),
    (153, "per_cpu_ptr"),
    (154, "this_cpu_ptr"),
    (155, "redirect_peer"),
    (160, "ktime_get_coarse_ns"),
    (163, "check_mtu"),
    (164, "for_each_map_elem"),
    (181, "loop"),
    (188, "xdp_get_buff_len"),
    (189, "xdp_load_bytes"),
    (190, "xdp_store_bytes"),
    (195, "map_lookup_percpu_elem"),
    (204, "tcp_raw_gen_syncookie_ipv4"),
    (205, "tcp_raw_gen_syncookie_ipv6"),
    (206, "tcp_raw_check_syncookie_ipv4"),
    (207, "tcp_raw_check_syncookie_ipv6"),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn instruction(code: u8, source: u8, off: i16, imm: i32) -> bpf_insn {
        // SAFETY: an instruction is eight bytes of integers: code, registers, offset, constant.
        unsafe {
            let bytes: [u8; 8] = [
                code,
                source << 4,
                off.to_ne_bytes()[0],
                off.to_ne_bytes()[1],
                imm.to_ne_bytes()[0],
                imm.to_ne_bytes()[1],
                imm.to_ne_bytes()[2],
                imm.to_ne_bytes()[3],
            ];
            std::mem::transmute::<[u8; 8], bpf_insn>(bytes)
        }
    }

    #[test]
    fn features_are_told_by_their_instructions() {
        for (given, expected) in [
            (instruction(0x85, 0, 0, 181), Some(("helper bpf_loop", Some(Version(5, 17))))),
            (instruction(0x85, 0, 0, 9999), Some(("helper number 9999", None))),
            (
                instruction(0x85, 1, 0, 5),
                Some(("function calls between BPF functions", Some(Version(4, 16)))),
            ),
            (
                instruction(0xdb, 1, 0, 0xf1),
                Some(("atomic exchange, compare-and-exchange and fetch", Some(Version(5, 12)))),
            ),
            (instruction(0xdb, 1, 0, 0), None),
            (instruction(0xbf, 1, 8, 0), Some(("sign-extending moves (cpu v4)", Some(Version(6, 6))))),
            (instruction(0xbf, 1, 0, 0), None),
            (instruction(0x61, 1, 0, 0), None),
            (instruction(0x18, 4, 0, 0), Some(("callbacks (pointers to functions)", Some(Version(5, 13))))),
        ] {
            let found = feature(&given);
            assert_eq!(found.as_ref().map(|(what, since)| (what.as_str(), *since)), expected);
        }
    }

    #[test]
    fn the_second_half_of_a_constant_is_no_instruction() {
        let constant = [instruction(0x18, 0, 0, 1), instruction(0x85, 0, 0, 181)];
        assert!(features(&constant).is_empty());
    }
}
