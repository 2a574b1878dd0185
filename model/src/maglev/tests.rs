use proptest::collection::btree_map;
use proptest::prelude::*;

use super::table;
use crate::ids::{EndpointId, LogIndex};
use crate::limits::MAGLEV_SLOTS;

/// Prime, and small enough for many cases.
const SLOTS: usize = 4093;

fn endpoints() -> impl Strategy<Value = Vec<(EndpointId, u16)>> {
    btree_map(any::<u64>().prop_map(EndpointId), 1_u16..=100, 1..12).prop_map(|m| m.into_iter().collect())
}

fn by_id(endpoints: &[(EndpointId, u16)], slots: usize) -> Vec<EndpointId> {
    table(endpoints, slots).into_iter().map(|i| endpoints[usize::from(i)].0).collect()
}

#[test]
fn nobody_with_weight_makes_an_empty_table() {
    assert!(table(&[], SLOTS).is_empty());
    assert!(table(&[(EndpointId(1), 0)], SLOTS).is_empty());
}

#[test]
fn i7_the_table_of_a_known_set_never_changes() {
    // The contract between versions: a change of these figures moves flows during a rolling upgrade.
    let table =
        table(&[(EndpointId(1 << 20), 1), (EndpointId((1 << 20) + 1), 2), (EndpointId(7 << 20), 3)], 31);
    assert_eq!(table, KNOWN);
}

const KNOWN: [u16; 31] =
    [2, 0, 0, 2, 2, 1, 2, 2, 2, 0, 2, 2, 2, 2, 2, 1, 1, 2, 2, 1, 2, 1, 2, 1, 0, 1, 0, 1, 2, 1, 1];

#[test]
fn the_real_size_is_even_within_a_percent() {
    let endpoints: Vec<_> = (1..=64).map(|id| (EndpointId(id << 20), 100)).collect();
    let mut counts = [0_usize; 64];
    table(&endpoints, MAGLEV_SLOTS).into_iter().for_each(|i| counts[usize::from(i)] += 1);
    let fair = MAGLEV_SLOTS / 64;
    assert!(counts.iter().all(|c| c.abs_diff(fair) <= fair / 100), "{counts:?}");
}

/// Slots of the endpoints that stay which do not belong to the same endpoint after `gone` is removed.
fn moved(endpoints: &[(EndpointId, u16)], gone: usize) -> (usize, usize) {
    let before = by_id(endpoints, MAGLEV_SLOTS);
    let mut rest = endpoints.to_vec();
    let (gone, _) = rest.remove(gone);
    let after = by_id(&rest, MAGLEV_SLOTS);
    let kept = before.iter().filter(|b| **b != gone).count();
    (before.iter().zip(&after).filter(|(b, a)| **b != gone && a != b).count(), kept)
}

#[test]
fn losing_one_of_ten_moves_few_slots_of_the_others() {
    let endpoints: Vec<_> = (1..=10).map(|id| (EndpointId(id << 20), 100)).collect();
    let (moved, kept) = moved(&endpoints, 0);
    assert!(moved * 20 <= kept, "{moved} of {kept} moved, which is more than 5 %");
}

/// Endpoints as commands make them: ids that are log indexes, some of one command, some of later ones.
fn hundred(first: u64, together: u32) -> Vec<(EndpointId, u16)> {
    let id = |n: u32| EndpointId(LogIndex(first + u64::from(n / together)).object(n % together + 1));
    (0..100).map(|n| (id(n), 100)).collect()
}

#[test]
fn losing_one_of_a_hundred_moves_at_most_2_percent_of_the_others() {
    for (first, together) in [(1, 1), (40, 100), (70_000, 7)] {
        let endpoints = hundred(first, together);
        for gone in [0, 17, 50, 99] {
            let (moved, kept) = moved(&endpoints, gone);
            assert!(moved * 50 <= kept, "{moved} of {kept} moved, which is more than 2 %");
        }
    }
}

proptest! {
    #[test]
    fn i7_neither_order_nor_weightless_endpoints_matter(endpoints in endpoints(), shift in 0_usize..12) {
        let mut other = endpoints.clone();
        other.rotate_left(shift % endpoints.len());
        let idle = EndpointId(endpoints.iter().map(|e| e.0.get()).max().unwrap() ^ 1);
        if endpoints.iter().all(|e| e.0 != idle) {
            other.push((idle, 0));
        }
        prop_assert_eq!(by_id(&endpoints, SLOTS), by_id(&other, SLOTS));
    }

    #[test]
    fn shares_follow_weights(endpoints in endpoints()) {
        let table = table(&endpoints, SLOTS);
        let total: u64 = endpoints.iter().map(|e| u64::from(e.1)).sum();
        for (i, (_, weight)) in endpoints.iter().enumerate() {
            let got = table.iter().filter(|slot| usize::from(**slot) == i).count();
            let fair = SLOTS as u64 * u64::from(*weight) / total;
            // The heaviest takes one slot a turn; whoever the last turn cuts off is two short at most.
            prop_assert!((got as u64).abs_diff(fair) <= 3, "{got} slots for a fair share of {fair}");
        }
    }

    #[test]
    fn removing_one_moves_few_slots_of_the_others(endpoints in endpoints(), victim in 0_usize..12) {
        prop_assume!(endpoints.len() > 1);
        let victim = victim % endpoints.len();
        let gone = endpoints[victim].0;
        let before = by_id(&endpoints, SLOTS);
        let mut rest = endpoints.clone();
        rest.remove(victim);
        let after = by_id(&rest, SLOTS);
        let moved = before.iter().zip(&after).filter(|(b, a)| **b != gone && a != b).count();
        let kept = before.iter().filter(|b| **b != gone).count();
        prop_assert!(moved * 2 <= kept, "{moved} of {kept} moved");
    }

    /// Weights that differ by no more than ten times, of fewer than thirty endpoints: a percent of the least
    /// share is then more than the two slots that the last turn can cut off.
    #[test]
    fn shares_of_the_real_size_are_within_a_percent(endpoints in btree_map(any::<u64>().prop_map(EndpointId), 100_u16..=1000, 1..30)) {
        let endpoints: Vec<_> = endpoints.into_iter().collect();
        let mut counts = vec![0_u64; endpoints.len()];
        table(&endpoints, MAGLEV_SLOTS).into_iter().for_each(|i| counts[usize::from(i)] += 1);
        let total: u64 = endpoints.iter().map(|e| u64::from(e.1)).sum();
        for ((_, weight), got) in endpoints.iter().zip(counts) {
            let ideal = MAGLEV_SLOTS as f64 * f64::from(*weight) / total as f64;
            prop_assert!((got as f64 - ideal).abs() <= ideal / 100.0, "{got} slots for a fair share of {ideal}");
        }
    }
}
