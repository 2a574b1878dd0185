//! Choosing an endpoint: the same choice on every node (I7).

use lockstep_abi::flow::FlowKey4;
use lockstep_abi::map::{MAGLEV_SLOTS, MAGLEV_WORDS, MAX_ENDPOINTS};

/// A hash of the client's side of a flow and of what it connects to, the same on every node and in every
/// version: it decides where flows go that were not replicated in time. Two rounds of the SplitMix64
/// finalizer (Steele et al., OOPSLA 2014).
#[inline(always)]
pub const fn flow_hash(key: &FlowKey4) -> u32 {
    let addresses = (u32::from_be(key.source_be) as u64) << 32 | u32::from_be(key.destination_be) as u64;
    let rest = (u16::from_be(key.source_port_be) as u64) << 32
        | (u16::from_be(key.destination_port_be) as u64) << 16
        | key.protocol as u64;
    (mix(mix(addresses) ^ rest) >> 32) as u32
}

#[inline(always)]
const fn mix(word: u64) -> u64 {
    let word = word.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

/// Where in [`lockstep_abi::map::MAGLEV`] a hash's entry is: index of the word, and shift in it.
#[inline(always)]
pub const fn maglev_entry(version_slot: u32, hash: u32) -> (u32, u32) {
    let slot = hash % MAGLEV_SLOTS;
    (version_slot * MAGLEV_WORDS + slot / 4, (slot % 4) * 16)
}

/// The endpoint position in a word of the Maglev array.
#[inline(always)]
pub const fn maglev_position(word: u64, shift: u32) -> u32 {
    ((word >> shift) & 0xffff) as u32
}

/// The endpoint position of round robin's `turn`. `None` without endpoints.
#[inline(always)]
pub const fn round_robin_position(turn: u64, endpoint_count: u32) -> Option<u32> {
    if endpoint_count == 0 { None } else { Some((turn % endpoint_count as u64) as u32) }
}

/// Index in [`lockstep_abi::map::ENDPOINTS`]. `None` if the position is none of the version's.
#[inline(always)]
pub const fn endpoint_index(version_slot: u32, position: u32, endpoint_count: u32) -> Option<u32> {
    if position < endpoint_count && position < MAX_ENDPOINTS {
        Some(version_slot * MAX_ENDPOINTS + position)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use proptest::prelude::*;
    use std::vec;

    use super::*;

    fn key(client: u32, port: u16) -> FlowKey4 {
        FlowKey4 {
            source_be: client.to_be(),
            destination_be: u32::from_ne_bytes([192, 0, 2, 10]),
            source_port_be: port.to_be(),
            destination_port_be: 80u16.to_be(),
            protocol: 6,
            pad: [0; 3],
        }
    }

    #[test]
    fn i7_the_hash_is_part_of_the_contract_between_nodes() {
        // Changing these means that nodes of two versions choose differently during an upgrade.
        assert_eq!(flow_hash(&key(0xc000_0201, 40000)), 0x6e92_8e0f);
        assert_eq!(flow_hash(&key(0xc000_0202, 40001)), 0x2efd_41b7);
    }

    #[test]
    fn the_hash_spreads_consecutive_ports_evenly() {
        let mut buckets = vec![0u32; 16];
        for port in 0..16000 {
            buckets[(flow_hash(&key(0x0a00_0001, port)) % MAGLEV_SLOTS) as usize * 16
                / MAGLEV_SLOTS as usize] += 1;
        }
        assert!(buckets.iter().all(|&n| (850..1150).contains(&n)), "{buckets:?}");
    }

    proptest! {
        #[test]
        fn maglev_words_hold_what_was_packed(hash: u32, slot in 0u32..320, table in prop::collection::vec(0u16..1024, 4)) {
            let (index, shift) = maglev_entry(slot, hash);
            prop_assert!(index >= slot * MAGLEV_WORDS && index < (slot + 1) * MAGLEV_WORDS);
            let word = table.iter().enumerate().fold(0u64, |w, (i, &e)| w | u64::from(e) << (16 * i));
            prop_assert_eq!(maglev_position(word, shift), u32::from(table[(hash % MAGLEV_SLOTS) as usize % 4]));
        }

        #[test]
        fn every_position_is_inside_its_version(turn: u64, count in 0u32..=1024, slot in 0u32..320) {
            match round_robin_position(turn, count) {
                None => prop_assert_eq!(count, 0),
                Some(p) => {
                    let index = endpoint_index(slot, p, count).unwrap();
                    prop_assert_eq!(index / MAX_ENDPOINTS, slot);
                    prop_assert_eq!(index % MAX_ENDPOINTS, p);
                }
            }
            prop_assert_eq!(endpoint_index(slot, count, count), None);
        }
    }
}
