//! Medians, and how sure a ratio of them is.

use lockstep_seeded::Rng;

/// Draws of the bootstrap.
const DRAWS: usize = 10_000;
/// Share of the draws that fall below the lower bound: it is one-sided, at 95 %.
const BELOW: f64 = 0.05;

/// Measurements of one thing; never empty when looked at.
#[derive(Debug, Clone, Default)]
pub(crate) struct Sample(Vec<f64>);

impl Sample {
    pub(crate) fn push(&mut self, value: f64) {
        self.0.push(value);
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn median(&self) -> f64 {
        median(&self.0)
    }

    /// By nearest rank.
    pub(crate) fn percentile(&self, percent: usize) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_unstable_by(f64::total_cmp);
        sorted[(sorted.len() * percent).div_ceil(100).max(1) - 1]
    }

    pub(crate) fn min(&self) -> f64 {
        self.0.iter().copied().fold(f64::INFINITY, f64::min)
    }

    pub(crate) fn max(&self) -> f64 {
        self.0.iter().copied().fold(f64::NEG_INFINITY, f64::max)
    }
}

impl FromIterator<f64> for Sample {
    fn from_iter<I: IntoIterator<Item = f64>>(values: I) -> Self {
        Sample(values.into_iter().collect())
    }
}

fn median(values: &[f64]) -> f64 {
    assert!(!values.is_empty(), "a median needs a measurement");
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    if sorted.len().is_multiple_of(2) { (sorted[middle - 1] + sorted[middle]) / 2.0 } else { sorted[middle] }
}

/// The lower end of the one-sided 95 % confidence interval of `median(values) / median(baselines)`, where the
/// two were measured in pairs, one right after the other.
///
/// Bootstrap over pairs: as many pairs as there are, drawn with replacement, so that what slowed both members
/// of a pair moves both medians; the ratio of each draw; the 5th percentile of these.
pub(crate) fn lower_bound(values: &Sample, baselines: &Sample) -> f64 {
    assert_eq!(values.len(), baselines.len(), "measured in pairs");
    let count = values.len();
    // Seeded: the same measurements give the same bound.
    let mut rng = Rng::new(1);
    let mut ratios: Vec<f64> = (0..DRAWS)
        .map(|_| {
            let drawn: Vec<usize> = (0..count).map(|_| rng.below(count as u64) as usize).collect();
            let pick = |sample: &Sample| median(&drawn.iter().map(|i| sample.0[*i]).collect::<Vec<_>>());
            pick(values) / pick(baselines)
        })
        .collect();
    ratios.sort_unstable_by(f64::total_cmp);
    ratios[(DRAWS as f64 * BELOW) as usize]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), 2.5);
    }

    #[test]
    fn percentiles_are_of_what_was_measured() {
        let sample: Sample = (1..=300).map(f64::from).collect();
        assert_eq!((sample.percentile(50), sample.percentile(99)), (150.0, 297.0));
        let one: Sample = [7.0].into_iter().collect();
        assert_eq!((one.percentile(50), one.percentile(99)), (7.0, 7.0));
    }

    #[test]
    fn the_bound_is_below_the_ratio_and_follows_the_spread() {
        let baseline: Sample = (0..20).map(|i| 100.0 + f64::from(i % 5)).collect();
        let narrow: Sample = baseline.0.iter().map(|value| value * 1.1).collect();
        let bound = lower_bound(&narrow, &baseline);
        assert!((1.0..=1.1 + 1e-9).contains(&bound), "{bound}");

        let wide: Sample = (0..20).map(|i| if i % 2 == 0 { 80.0 } else { 150.0 }).collect();
        let bound = lower_bound(&wide, &baseline);
        assert!((0.75..1.0).contains(&bound), "{bound}");
        assert_eq!(bound, lower_bound(&wide, &baseline), "seeded");
    }
}
