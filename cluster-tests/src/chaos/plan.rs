//! What happens in a run, from its seed alone: which faults, in which order, for how long. Whom they hit is said by
//! role: who owns and who leads is looked up when the time comes.

use std::time::Duration;

use lockstep_seeded::Rng;

use super::step::Step;

/// One fault of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Planned {
    /// What.
    pub(crate) step: Step,
    /// How much undisturbed time goes before.
    pub(crate) pause: Duration,
    /// How long it lasts, until it is healed.
    pub(crate) hold: Duration,
}

/// The faults of a run, without end. Each comes once before any comes again.
#[derive(Debug)]
pub(crate) struct Plan {
    rng: Rng,
    of: Vec<Step>,
    left: Vec<Step>,
}

impl Plan {
    /// Of these faults; at least one.
    pub(crate) fn new(seed: u64, of: Vec<Step>) -> Self {
        Plan { rng: Rng::new(seed), of, left: Vec::new() }
    }

    /// Milliseconds in `from..to`.
    fn ms(&mut self, from: u64, to: u64) -> Duration {
        Duration::from_millis(from + self.rng.below(to - from))
    }
}

impl Iterator for Plan {
    type Item = Planned;

    fn next(&mut self) -> Option<Planned> {
        if self.left.is_empty() {
            self.left = self.of.clone();
            self.rng.shuffle(&mut self.left);
        }
        let step = self.left.pop()?;
        Some(Planned { step, pause: self.ms(100, 700), hold: self.ms(300, 1500) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_says_what_happens() {
        let of = |seed| Plan::new(seed, Step::ALL.to_vec()).take(100).collect::<Vec<_>>();
        assert_eq!(of(7), of(7));
        assert_ne!(of(7), of(8));
    }

    #[test]
    fn every_fault_comes_before_one_comes_again() {
        let mut first: Vec<_> = Plan::new(3, Step::ALL.to_vec())
            .take(Step::ALL.len())
            .map(|planned| planned.step.name())
            .collect();
        first.sort_unstable();
        first.dedup();
        assert_eq!(first.len(), Step::ALL.len());
    }
}
