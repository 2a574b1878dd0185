//! What a run says in the end, for people and as JSON.

use serde::Serialize;

use crate::clock::Nanos;

/// A fault that came.
#[derive(Debug, Serialize)]
pub struct Struck {
    /// When, after the start.
    pub t_ms: f64,
    /// What.
    pub fault: &'static str,
    /// How long it lasted until it was healed.
    pub hold_ms: u64,
    /// Who owned the group.
    pub owner: &'static str,
    /// Who led.
    pub leader: &'static str,
    /// From its beginning until the cluster was whole again.
    pub whole_again_ms: f64,
    /// The longest silence of the UDP probes from its beginning until every flow went on, in the median over them.
    pub silence_ms: f64,
    #[serde(skip)]
    pub(super) at: Nanos,
    #[serde(skip)]
    pub(super) until: Nanos,
}

/// The report.
#[derive(Debug, Serialize)]
pub struct Report {
    /// `pass` or `fail`.
    pub result: &'static str,
    /// What was wrong.
    pub failures: Vec<String>,
    /// Says what happened.
    pub seed: u64,
    /// What the names of its faults had to contain.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub only: String,
    /// How long it took, without starting and judging.
    pub seconds: f64,
    /// Held TCP flows, those of before a blackout included.
    pub tcp_flows: usize,
    /// UDP flows and probes.
    pub udp_flows: usize,
    /// By how much two owners overlapped.
    pub overlap_ns: u64,
    /// Translated packets looked at.
    pub packets_judged: usize,
    /// Frames that were not captured.
    pub frames_lost: u64,
    /// Reads and writes of intent that were judged.
    pub intent_operations: usize,
    /// Those writes of which nobody knows whether they happened.
    pub intent_unknown: usize,
    /// `linearizable`, `violation`, or `not known`: the search was given up.
    pub intent_verdict: &'static str,
    /// In the order in which they came.
    pub faults: Vec<Struck>,
}

impl Report {
    /// Whether nothing was wrong.
    pub fn passed(&self) -> bool {
        self.failures.is_empty()
    }

    /// As a table; the last line says pass or fail.
    pub fn table(&self) -> String {
        let mut text =
            format!("\n  {:>9}  {:>8}  {:>8}  {:>8}\n", "at s", "held ms", "whole ms", "silent ms");
        for fault in &self.faults {
            text += &format!(
                "  {:>9.3}  {:>8}  {:>8.0}  {:>8.0}  {} (owner {}, leader {})\n",
                fault.t_ms / 1e3,
                fault.hold_ms,
                fault.whole_again_ms,
                fault.silence_ms,
                fault.fault,
                fault.owner,
                fault.leader
            );
        }
        text += &format!(
            "\n  flows               {} TCP, {} UDP\n  two owners at once  {} ns ({} packets judged, {} frames not captured)\n  intent              {} reads and writes, {} of unknown outcome: {}\n",
            self.tcp_flows,
            self.udp_flows,
            self.overlap_ns,
            self.packets_judged,
            self.frames_lost,
            self.intent_operations,
            self.intent_unknown,
            self.intent_verdict
        );
        for failure in &self.failures {
            text += &format!("  FAILED              {failure}\n");
        }
        if !self.passed() {
            let seconds = self.seconds.ceil() as u64;
            let only = match self.only.as_str() {
                "" => String::new(),
                only => format!(" --fault {only:?}"),
            };
            text += &format!(
                "  again               cargo xtask chaos --seed {} --seconds {seconds}{only}\n",
                self.seed
            );
        }
        text + &format!("chaos: seed {}: {} faults: {}", self.seed, self.faults.len(), self.result)
    }
}
