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
    // Each block as likely as any other: blocks lie side by side, and the first of them must not get what hashes to
    // where there are none.
    let chosen = ((hash >> 18) as u64 * blocks.count_ones() as u64) >> 14;
    let block = nth(blocks, chosen as u32);
    Some((block * PORT_BLOCK + ((hash >> 8) % PORT_BLOCK)) as u16)
}

/// The position of the bit of `word` that has `n` others below it; `word` has more than `n`. By halves, and without a
/// branch: the verifier would follow each way through.
#[inline(always)]
const fn nth(mut word: u64, mut n: u32) -> u32 {
    let mut position = 0;
    let mut width = 32;
    while width > 0 {
        let below = (word & ((1 << width) - 1)).count_ones();
        // All ones if the bit is in the upper half.
        let upper = !((n.wrapping_sub(below) as i32 >> 31) as u32);
        n -= below & upper;
        word >>= width & upper;
        position += width & upper;
        width >>= 1;
    }
    position
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

    proptest! {
        #[test]
        fn the_nth_bit_has_n_below_it(word in 1_u64.., n: u32) {
            let n = n % word.count_ones();
            let position = nth(word, n);
            prop_assert!(word >> position & 1 == 1);
            prop_assert_eq!((word & ((1 << position) - 1)).count_ones(), n);
        }
    }

    #[test]
    fn blocks_side_by_side_get_equal_shares() {
        let mut shares = [0_u32; 64];
        for hash in 0..40_000 {
            let port = port(0xf << 32, hash, 0).unwrap();
            shares[usize::from(port) / PORT_BLOCK as usize] += 1;
        }
        assert!(shares[32..36].iter().all(|share| (9_000..11_000).contains(share)), "{shares:?}");
    }

    #[test]
    fn i8_most_ports_of_all_blocks_are_used_before_one_is_refused() {
        let mut used = BTreeSet::new();
        let mut hash = 7_u32;
        let found =
            |used: &mut BTreeSet<u16>, hash| (0..32).any(|n| used.insert(port(0xf << 32, hash, n).unwrap()));
        while found(&mut used, hash) {
            hash = hash.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        }
        assert!(used.len() > 4096 * 80 / 100, "{}", used.len());
    }

    #[test]
    fn probing_reaches_most_of_a_block() {
        let ports: BTreeSet<u16> = (0..4096).filter_map(|hash| port(1 << 40, hash, 0)).collect();
        assert!(ports.len() > 900, "{}", ports.len());
    }
}
