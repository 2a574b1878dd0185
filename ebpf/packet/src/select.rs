//! Choosing an endpoint: the same choice on every node (I7).

use core::mem::size_of;

use lockstep_abi::flow::{Address, FlowKey};
use lockstep_abi::map::{MAGLEV_SLOTS, MAGLEV_WORDS, MAX_ENDPOINTS};

/// A hash of the client's side of a flow and of what it connects to, the same on every node and in every
/// version: it decides where flows go that were not replicated in time. Two rounds of the SplitMix64
/// finalizer (Steele et al., OOPSLA 2014), over IPv6 five.
#[inline(always)]
pub fn flow_hash<A: Address>(key: &FlowKey<A>) -> u32 {
    let rest = (u16::from_be(key.source_port_be) as u64) << 32
        | (u16::from_be(key.destination_port_be) as u64) << 16
        | key.protocol as u64;
    (mix(pair_hash(&key.source_be, &key.destination_be) ^ rest) >> 32) as u32
}

/// A hash of the client's address alone: all its connections to a service go the same way.
#[inline(always)]
pub fn source_hash<A: Address>(client: &A) -> u32 {
    (pair_hash(client, client) >> 32) as u32
}

#[inline(always)]
fn pair_hash<A: Address>(source: &A, destination: &A) -> u64 {
    let (source, destination) = (source.wide(), destination.wide());
    let both = |i: usize| (u32::from_be(source[i]) as u64) << 32 | u32::from_be(destination[i]) as u64;
    let mut hash = mix(both(0));
    if size_of::<A>() > size_of::<u32>() {
        hash = mix(hash ^ both(1));
        hash = mix(hash ^ both(2));
        hash = mix(hash ^ both(3));
    }
    hash
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

/// Round robin: where turn `turn` stands on the line of all weights, one behind the other. Each period of `total`
/// turns meets every place once, and `stride` keeps those of one endpoint apart. `None` without weights.
#[inline(always)]
pub const fn round_robin_place(turn: u64, total: u32, stride: u32) -> Option<u32> {
    if total == 0 {
        return None;
    }
    let total = total as u64;
    Some((((turn % total) * stride as u64) % total) as u32)
}

/// Whether an endpoint with `load` flows and this weight is less loaded than the best so far.
#[inline(always)]
pub const fn less_loaded(load: u64, weight: u32, best_load: u64, best_weight: u32) -> bool {
    // (load + 1) / weight, without division: what it would be with the new flow.
    (load + 1).wrapping_mul(best_weight as u64) < (best_load + 1).wrapping_mul(weight as u64)
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

    use lockstep_abi::flow::{FlowKey4, FlowKey6};

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
    fn i7_the_hash_over_ipv6_is_part_of_the_contract_too() {
        let key = FlowKey6 {
            source_be: [0x2001_0db8u32.to_be(), 0, 0, 1u32.to_be()],
            destination_be: [0x2001_0db8u32.to_be(), 0, 0, 10u32.to_be()],
            source_port_be: 40000u16.to_be(),
            destination_port_be: 80u16.to_be(),
            protocol: 6,
            pad: [0; 3],
        };
        assert_eq!(flow_hash(&key), 0x1b32_74c1);
        assert_eq!(source_hash(&key.source_be), 0x10f3_140e);
        assert_eq!(source_hash(&0xc000_0201u32.to_be()), 0xfbcf_f3df);
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
        fn every_position_is_inside_its_version(position in 0u32..1024, count in 0u32..=1024, slot in 0u32..512) {
            match endpoint_index(slot, position, count) {
                None => prop_assert!(position >= count),
                Some(index) => {
                    prop_assert_eq!(index / MAX_ENDPOINTS, slot);
                    prop_assert_eq!(index % MAX_ENDPOINTS, position);
                }
            }
        }

        #[test]
        fn a_period_of_turns_meets_every_place_once(start in 0u64..1 << 40, prime_stride in prop::sample::select(vec![1u32, 7, 61, 997])) {
            // Coprime to every stride above.
            let total = 1000u32;
            let mut met = vec![0u32; total as usize];
            let start = start - start % u64::from(total);
            for turn in start..start + u64::from(total) {
                met[round_robin_place(turn, total, prime_stride).unwrap() as usize] += 1;
            }
            prop_assert!(met.iter().all(|&n| n == 1));
            prop_assert_eq!(round_robin_place(start, 0, 1), None);
        }

        #[test]
        fn the_less_loaded_has_fewer_flows_for_its_weight(load in 0u64..1 << 32, weight in 1u32..=1000, other in 0u64..1 << 32, other_weight in 1u32..=1000) {
            let exact = |load: u64, weight: u32| u128::from(load + 1) * 1_000_000_007 / u128::from(weight);
            if exact(load, weight) + 1 < exact(other, other_weight) {
                prop_assert!(less_loaded(load, weight, other, other_weight));
            }
            prop_assert!(!less_loaded(load, weight, load, weight));
        }
    }
}
