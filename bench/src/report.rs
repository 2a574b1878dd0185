//! The report of a benchmark: rows of figures, each with its baseline from the same run.

use std::path::Path;

use anyhow::Context;
use serde::Serialize;

use crate::statistics::Sample;

/// More load than this was there before, and the figures are of it as well.
const QUIET: f64 = 0.7;

/// Which way is good.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Better {
    /// Costs.
    Lower,
    /// Rates.
    Higher,
}

/// One figure.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Row {
    pub(crate) name: String,
    /// The median.
    pub(crate) value: f64,
    pub(crate) unit: &'static str,
    pub(crate) better: Better,
    /// The row that `baseline` is the value of.
    pub(crate) baseline_name: Option<String>,
    pub(crate) baseline: Option<f64>,
    /// `value / baseline`.
    pub(crate) ratio: Option<f64>,
    /// Measurements.
    pub(crate) n: usize,
    pub(crate) min: f64,
    pub(crate) max: f64,
    /// What else it is compared with.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) also: Vec<Comparison>,
    /// Lower confidence bound of `ratio`: see [`crate::statistics::lower_bound`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) low: Option<f64>,
    /// What a reader must know of this figure.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) note: Option<String>,
}

/// A further baseline.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Comparison {
    baseline_name: String,
    baseline: f64,
    ratio: Option<f64>,
}

impl Row {
    /// A figure without a baseline.
    pub(crate) fn new(name: impl Into<String>, unit: &'static str, better: Better, sample: &Sample) -> Self {
        Row {
            name: name.into(),
            value: sample.median(),
            unit,
            better,
            baseline_name: None,
            baseline: None,
            ratio: None,
            n: sample.len(),
            min: sample.min(),
            max: sample.max(),
            also: Vec::new(),
            low: None,
            note: None,
        }
    }

    /// The figure beside that of `baseline`; the first is the row's own, the others are told after it.
    pub(crate) fn beside(mut self, name: impl Into<String>, baseline: f64) -> Self {
        // A floor of nothing has no multiples.
        let ratio = (baseline > 0.0).then(|| self.value / baseline);
        if self.baseline_name.is_some() {
            self.also.push(Comparison { baseline_name: name.into(), baseline, ratio });
            return self;
        }
        self.baseline_name = Some(name.into());
        self.baseline = Some(baseline);
        self.ratio = ratio;
        self
    }

    pub(crate) fn low(mut self, low: f64) -> Self {
        self.low = Some(low);
        self
    }

    pub(crate) fn note(mut self, note: impl Into<String>) -> Self {
        self.note = Some(note.into());
        self
    }
}

/// The machine that the figures are of.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Machine {
    kernel: String,
    cpu: String,
    cpus: usize,
    memory_mib: u64,
    /// Processes that ran or waited for a processor in the last minute before: below 0.5 on a quiet machine.
    load: f64,
    bpf_jit: bool,
    /// What the kernel does about speculative execution: retpolines make each indirect call dearer.
    spectre_v2: String,
}

impl Machine {
    pub(crate) fn read() -> anyhow::Result<Self> {
        let text = |path: &str| {
            std::fs::read_to_string(path)
                .map(|text| text.trim().to_owned())
                .with_context(|| format!("cannot read {path}"))
        };
        let after = |text: &str, key: &str| {
            let line = text.lines().find(|line| line.starts_with(key));
            line.and_then(|line| line.split_once(':')).map(|(_, value)| value.trim().to_owned())
        };
        let memory = after(&text("/proc/meminfo")?, "MemTotal").unwrap_or_default();
        let memory_kib: u64 = memory.trim_end_matches(" kB").parse().context("MemTotal is no number")?;
        let loads = text("/proc/loadavg")?;
        let load = loads.split_whitespace().next().unwrap_or_default();
        // A kernel without the switch has the JIT always on.
        let jit = std::fs::read_to_string("/proc/sys/net/core/bpf_jit_enable");
        Ok(Machine {
            kernel: text("/proc/sys/kernel/osrelease")?,
            cpu: after(&text("/proc/cpuinfo")?, "model name").unwrap_or_else(|| "unknown".into()),
            cpus: std::thread::available_parallelism().context("cannot count the processors")?.get(),
            memory_mib: memory_kib / 1024,
            load: load.parse().context("the load is no number")?,
            bpf_jit: jit.map_or(true, |value| value.trim() != "0"),
            spectre_v2: text("/sys/devices/system/cpu/vulnerabilities/spectre_v2")
                .unwrap_or_else(|_| "unknown".into()),
        })
    }
}

/// All of it.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    bench: &'static str,
    machine: Machine,
    pub(crate) rows: Vec<Row>,
    /// What was not measured, and why.
    pub(crate) skipped: Vec<String>,
}

impl Report {
    pub(crate) fn new(bench: &'static str) -> anyhow::Result<Self> {
        Ok(Report { bench, machine: Machine::read()?, rows: Vec::new(), skipped: Vec::new() })
    }

    pub(crate) fn skip(&mut self, line: impl Into<String>) {
        self.skipped.push(line.into());
    }

    /// Prints the table and, if asked to, writes the JSON.
    pub(crate) fn finish(&self, json: Option<&Path>) -> anyhow::Result<()> {
        if self.machine.load > QUIET {
            println!("the machine was not quiet before this (load {})", self.machine.load);
        }
        println!();
        let width = self.rows.iter().map(|row| row.name.len()).max().unwrap_or(0);
        for row in &self.rows {
            let spread = format!("{}-{}, n={}", figure(row.min), figure(row.max), row.n);
            print!("{:<width$}  {:>10} {:<8} {spread:<24}", row.name, figure(row.value), row.unit);
            if let (Some(name), Some(ratio)) = (&row.baseline_name, row.ratio) {
                print!("  {ratio:>6.3} x {name}");
            }
            for other in &row.also {
                if let Some(ratio) = other.ratio {
                    print!(", {ratio:.3} x {}", other.baseline_name);
                }
            }
            if let Some(low) = row.low {
                print!(" (at least {low:.3})");
            }
            println!("{}", row.note.as_ref().map(|note| format!("  [{note}]")).unwrap_or_default());
        }
        for line in &self.skipped {
            println!("skipped  {line}");
        }
        if let Some(path) = json {
            let text = serde_json::to_string_pretty(self).context("cannot encode the report")?;
            std::fs::write(path, text + "\n").with_context(|| format!("cannot write {}", path.display()))?;
        }
        Ok(())
    }
}

/// Four digits that matter.
fn figure(value: f64) -> String {
    match value.abs() {
        v if v >= 1000.0 => format!("{value:.0}"),
        v if v >= 100.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}
