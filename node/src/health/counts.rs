//! What probes, reports and verdicts came to, counted (I14).

use std::sync::atomic::{AtomicU64, Ordering};

use lockstep_model::health::{Failure, FailureKind};

/// A counter.
#[derive(Debug, Default)]
pub(super) struct Count(AtomicU64);

impl Count {
    pub(super) fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Counts {
    succeeded: Count,
    failed: [Count; FailureKind::ALL.len()],
    /// Probes that began more than half an interval late: there are too many for their number at a time.
    pub(super) late: Count,
    /// Opinions of this node.
    pub(super) found_up: Count,
    pub(super) found_down: Count,
    /// Verdicts of the cluster.
    pub(super) went_up: Count,
    pub(super) went_down: Count,
    pub(super) reports: Count,
    pub(super) failed_reports: Count,
    pub(super) refused_reports: Count,
    pub(super) proposals: Count,
    pub(super) failed_proposals: Count,
}

impl Counts {
    pub(super) fn probed(&self, outcome: Result<(), Failure>) {
        let count = match outcome {
            Ok(()) => &self.succeeded,
            Err(failure) => {
                let at = FailureKind::ALL.iter().position(|kind| *kind == failure.kind);
                &self.failed[at.expect("the list has every kind")]
            }
        };
        count.add(1);
    }

    pub(super) fn read(&self) -> Vec<(String, u64)> {
        let named = [
            ("probes_succeeded", &self.succeeded),
            ("probes_late", &self.late),
            ("found_up_here", &self.found_up),
            ("found_down_here", &self.found_down),
            ("verdicts_up", &self.went_up),
            ("verdicts_down", &self.went_down),
            ("reports", &self.reports),
            ("failed_reports", &self.failed_reports),
            ("refused_reports", &self.refused_reports),
            ("proposals", &self.proposals),
            ("failed_proposals", &self.failed_proposals),
        ];
        let named = named.into_iter().map(|(name, count)| (name.to_owned(), count.get()));
        let failed = FailureKind::ALL.iter().zip(&self.failed);
        named
            .chain(failed.map(|(kind, count)| (format!("probes_failed_{}", kind.name()), count.get())))
            .collect()
    }
}
