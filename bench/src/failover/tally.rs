//! From runs to rows.

use std::collections::BTreeMap;

use lockstep_cluster_tests::manifest::Profile;
use lockstep_cluster_tests::topology::Node;

use super::baseline::Advert;
use super::kind::Kind;
use crate::report::{Better, Report, Row};
use crate::statistics::Sample;

/// By name, when a phase of the takeover was reached, ms after the fault; none, where the next owner did not see it.
pub(crate) type Phases = [(&'static str, Option<f64>); 6];

/// One run.
#[derive(Debug, Clone)]
pub(crate) struct Measured {
    /// The probe's longest silence from the fault on.
    pub(crate) gap_ms: f64,
    /// The same right before it.
    pub(crate) quiet_ms: f64,
    /// Probes that were never answered.
    pub(crate) lost: u64,
    pub(crate) phases: Phases,
    /// Who led when it failed.
    pub(crate) leader: Node,
    /// What the run's time was spent on, s; not of the fault.
    pub(crate) laps: Vec<(&'static str, f64)>,
}

/// All runs of a row.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tally {
    gap_ms: Sample,
    quiet_ms: Sample,
    lost: Sample,
    phases: BTreeMap<&'static str, Sample>,
    last: Option<Measured>,
}

/// What is told of each sample.
const PERCENTILES: [(&str, usize); 2] = [("p50", 50), ("p99", 99)];

impl Tally {
    pub(crate) fn add(&mut self, run: &Measured) {
        self.add_gap(run.gap_ms, run.lost);
        self.quiet_ms.push(run.quiet_ms);
        for (phase, at) in run.phases {
            if let Some(at) = at {
                self.phases.entry(phase).or_default().push(at);
            }
        }
        self.last = Some(run.clone());
    }

    pub(crate) fn add_gap(&mut self, gap_ms: f64, lost: u64) {
        self.gap_ms.push(gap_ms);
        self.lost.push(lost as f64);
    }

    /// The newest run, in one line.
    pub(crate) fn last(&self) -> String {
        let Some(run) = &self.last else { return String::new() };
        let phases = run.phases.iter().filter_map(|(name, at)| Some((name, (*at)?)));
        let phases: Vec<String> = phases.map(|(name, at)| format!("{name} {at:.1}")).collect();
        let laps: Vec<String> = run.laps.iter().map(|(name, took)| format!("{name} {took:.1}")).collect();
        format!(
            "silent {:.1} ms (before {:.1}), {} lost, {} led; {}; s: {}",
            run.gap_ms,
            run.quiet_ms,
            run.lost,
            run.leader.name(),
            phases.join(", "),
            laps.join(", ")
        )
    }

    /// keepalived's rows.
    pub(crate) fn report_baseline(&self, advert: Advert, report: &mut Report) {
        for (name, percent) in PERCENTILES {
            report.rows.extend(self.gap_ms.row(advert.row(name), "ms", percent));
            report.rows.extend(self.lost.row(advert.row(&format!("lost/{name}")), "probes", percent));
        }
    }

    /// A fault's rows: its silence, beside keepalived's, what was lost, and its phases.
    pub(crate) fn report(
        &self,
        kind: Kind,
        profile: Profile,
        baselines: &BTreeMap<Advert, Tally>,
        report: &mut Report,
    ) {
        let row = |what: &str| format!("{}/{}/{what}", kind.name(), profile.name());
        for (name, percent) in PERCENTILES {
            let Some(mut silence) = self.gap_ms.row(row(name), "ms", percent) else { continue };
            // The comparable one first.
            let mut others: Vec<Advert> = baselines.keys().copied().collect();
            others.sort_by_key(|advert| *advert != Advert::beside(profile));
            for advert in others {
                let of = &baselines[&advert].gap_ms;
                silence = silence.beside(advert.row(name), of.percentile(percent));
            }
            report.rows.push(silence);
            report.rows.extend(self.quiet_ms.row(row(&format!("before/{name}")), "ms", percent));
            report.rows.extend(self.lost.row(row(&format!("lost/{name}")), "probes", percent));
            for (phase, sample) in &self.phases {
                report.rows.extend(sample.row(row(&format!("phase/{phase}/{name}")), "ms", percent));
            }
        }
    }
}

impl Sample {
    /// None of an empty sample.
    fn row(&self, name: String, unit: &'static str, percent: usize) -> Option<Row> {
        (self.len() > 0)
            .then(|| Row { value: self.percentile(percent), ..Row::new(name, unit, Better::Lower, self) })
    }
}
