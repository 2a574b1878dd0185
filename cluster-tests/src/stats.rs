//! Percentiles and gaps.

use serde::{Deserialize, Serialize};

use crate::clock::{Nanos, to_ms};

/// Percentiles of a set of durations, ms; zeros when the set is empty.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Percentiles {
    /// Median.
    pub p50: f64,
    /// 99th percentile.
    pub p99: f64,
    /// Largest.
    pub max: f64,
}

impl Percentiles {
    /// Of durations in ns, by the nearest-rank method.
    pub fn of(mut values: Vec<Nanos>) -> Self {
        values.sort_unstable();
        let rank = |percent: usize| {
            let index = (values.len() * percent).div_ceil(100).max(1) - 1;
            values.get(index).map_or(0.0, |v| to_ms(*v))
        };
        Percentiles { p50: rank(50), p99: rank(99), max: rank(100) }
    }
}

/// The longest silence within `[from, to]`, given the sorted times at which something was heard. A silence that
/// began before `from` or lasts beyond `to` counts with the part that lies inside.
pub fn longest_gap(heard: &[Nanos], from: Nanos, to: Nanos) -> Nanos {
    let first = heard.partition_point(|t| *t < from);
    let mut previous = from;
    let mut longest = 0;
    for &time in heard[first..].iter().take_while(|t| **t <= to) {
        longest = longest.max(time - previous);
        previous = time;
    }
    longest.max(to.saturating_sub(previous))
}

/// The median of figures.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => 0.0,
        n if n % 2 == 1 => values[n / 2],
        n => (values[n / 2 - 1] + values[n / 2]) / 2.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_by_nearest_rank() {
        let ms = |n: u64| n * 1_000_000;
        let p = Percentiles::of((1..=100).map(ms).collect());
        assert_eq!(p, Percentiles { p50: 50.0, p99: 99.0, max: 100.0 });
        assert_eq!(Percentiles::of(vec![]), Percentiles::default());
        assert_eq!(Percentiles::of(vec![ms(7)]), Percentiles { p50: 7.0, p99: 7.0, max: 7.0 });
    }

    #[test]
    fn gaps_are_clipped_to_the_window() {
        assert_eq!(longest_gap(&[0, 10, 20, 90, 100], 5, 95), 70);
        assert_eq!(longest_gap(&[], 5, 95), 90);
        assert_eq!(longest_gap(&[10, 20], 0, 100), 80);
    }
}
