//! Weighted round robin without state per endpoint: a turn counter, and one search.
//!
//! The endpoints' weights stand end to end on a line of `total` places. Turn t goes to place (t * stride) modulo
//! total; `stride` and `total` have no common divisor, so `total` turns in a row visit every place once, and
//! every endpoint exactly as often as its weight. The stride is near total divided by the golden ratio, which
//! spreads the turns of one endpoint evenly (Knuth, TAOCP vol. 3, section 6.4, theorem S).

/// The schedule of a list of weights.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schedule {
    /// The sum of weights up to and including each endpoint's.
    pub cumulative: Vec<u32>,
    /// Turns of a period: the sum of all weights.
    pub total: u32,
    /// From one turn's place to the next one's; coprime to `total`, less than `total` unless that is 1.
    pub stride: u32,
}

/// The schedule of `weights`; `None` when nobody has weight. Limits keep the sum far below `u32::MAX`: 1024
/// endpoints of weight 1000. A weight may come to 0 in a list, and takes no turn.
///
/// # Panics
/// If the sum of weights does not fit.
pub fn weighted(weights: &[u16]) -> Option<Schedule> {
    let sum = |total: &mut u32, weight: &u16| {
        *total = total.checked_add((*weight).into()).expect("limits keep the sum of weights far below");
        Some(*total)
    };
    let cumulative: Vec<u32> = weights.iter().scan(0, sum).collect();
    let total = cumulative.last().copied().filter(|total| *total > 0)?;
    Some(Schedule { cumulative, total, stride: stride(total) })
}

impl Schedule {
    /// The endpoint whose turn it is, as an index of the weights.
    pub fn endpoint(&self, turn: u64) -> usize {
        let total = u64::from(self.total);
        let place = ((turn % total) * u64::from(self.stride) % total) as u32;
        self.cumulative.partition_point(|sum| *sum <= place)
    }
}

/// The number nearest total / 1.618… that has no common divisor with it. There is one from 1 to total.
fn stride(total: u32) -> u32 {
    // 2^32 / golden ratio.
    let near = (u64::from(total) * 2_654_435_769) >> 32;
    let near = u32::try_from(near).expect("less than the total").clamp(1, total);
    let coprime = |n: &u32| (1..=total).contains(n) && gcd(*n, total) == 1;
    let outwards = (0..total).flat_map(|d| [near.saturating_add(d), near.saturating_sub(d)]);
    outwards.into_iter().find(coprime).expect("1 has no common divisor with anything")
}

const fn gcd(mut a: u32, mut b: u32) -> u32 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn nobody_with_weight_has_no_schedule() {
        assert_eq!(weighted(&[]), None);
        assert_eq!(weighted(&[0, 0]), None);
    }

    #[test]
    fn the_schedule_of_known_weights_never_changes() {
        let schedule = weighted(&[5, 0, 1, 2]).unwrap();
        assert_eq!((schedule.total, schedule.stride), (8, 5));
        let turns: Vec<usize> = (0..8).map(|turn| schedule.endpoint(turn)).collect();
        assert_eq!(turns, [0, 2, 0, 3, 0, 0, 3, 0]);
        assert_eq!(weighted(&[7]).unwrap().endpoint(u64::MAX), 0);
    }

    #[test]
    fn equal_weights_take_turns() {
        let schedule = weighted(&[1; 5]).unwrap();
        let mut first: Vec<usize> = (0..5).map(|turn| schedule.endpoint(turn)).collect();
        first.sort_unstable();
        assert_eq!(first, [0, 1, 2, 3, 4]);
    }

    #[test]
    fn a_heavy_one_does_not_take_its_turns_in_a_row() {
        let schedule = weighted(&[500, 500]).unwrap();
        let turns: Vec<usize> = (0..1000).map(|turn| schedule.endpoint(turn)).collect();
        let longest = turns.chunk_by(|a, b| a == b).map(<[usize]>::len).max();
        assert!(longest <= Some(2), "{longest:?} in a row of two that take half each");
    }

    proptest! {
        /// Exact over every period, wherever the counter stands.
        #[test]
        fn each_takes_as_many_turns_as_its_weight(weights in vec(0_u16..=1000, 1..20), start in 0_u64..1 << 40) {
            prop_assume!(weights.iter().any(|weight| *weight > 0));
            let schedule = weighted(&weights).unwrap();
            prop_assert_eq!(gcd(schedule.stride, schedule.total), 1);
            let mut counts = vec![0_u32; weights.len()];
            (start..start + u64::from(schedule.total)).for_each(|turn| counts[schedule.endpoint(turn)] += 1);
            let expected: Vec<u32> = weights.iter().copied().map(u32::from).collect();
            prop_assert_eq!(counts, expected);
        }
    }
}
