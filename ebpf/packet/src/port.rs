//! Source ports by hash and probe, out of the blocks that an address's group may use.

use lockstep_abi::address::PORT_BLOCK;

/// The port of try `attempt` for a flow with this hash; bit b of `blocks` stands for ports 1024 b to 1024 b + 1023.
/// `None` without blocks. Ports below 1024 are never given.
#[inline(always)]
pub const fn port(blocks: u64, hash: u32, attempt: u32) -> Option<u16> {
    let blocks = blocks & !1;
    if blocks == 0 {
        return None;
    }
    let hash = hash.wrapping_add(attempt).wrapping_mul(0x9e37_79b1);
    let hash = (hash ^ (hash >> 15)).wrapping_mul(0x85eb_ca77);
    let from = hash >> 26;
    // The first block at or behind where the hash points, round the end.
    let ahead = blocks.rotate_right(from).trailing_zeros();
    let block = (from + ahead) & 63;
    Some((block * PORT_BLOCK + ((hash >> 8) % PORT_BLOCK)) as u16)
}

#[cfg(test)]
mod tests {
    extern crate std;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    use super::*;

    proptest! {
        #[test]
        fn i8_a_port_is_always_of_one_of_the_blocks(blocks: u64, hash: u32, attempt in 0u32..64) {
            match port(blocks, hash, attempt) {
                None => prop_assert_eq!(blocks & !1, 0),
                Some(port) => {
                    prop_assert!(port >= 1024);
                    prop_assert!(blocks >> (u32::from(port) / PORT_BLOCK) & 1 == 1);
                }
            }
        }
    }

    #[test]
    fn probing_reaches_most_of_a_block() {
        let ports: BTreeSet<u16> = (0..4096).filter_map(|hash| port(1 << 40, hash, 0)).collect();
        assert!(ports.len() > 900, "{}", ports.len());
    }
}
