//! What was measured, by name, and the rows that are made of it.

use std::collections::HashMap;

use crate::report::{Better, Report, Row};
use crate::statistics::Sample;

/// A series of measurements, and what it is to be compared with.
#[derive(Debug, Default)]
struct Series {
    sample: Sample,
    unit: &'static str,
    /// The first is the row's baseline; the others are told beside it.
    baselines: Vec<String>,
    note: Option<String>,
}

/// All series, in the order in which they were begun.
#[derive(Debug, Default)]
pub(crate) struct Figures {
    series: HashMap<String, Series>,
    order: Vec<String>,
}

impl Figures {
    /// Adds a measurement of a cost in nanoseconds.
    pub(crate) fn cost(&mut self, name: &str, ns: f64, baselines: &[&str]) {
        self.push(name, ns, "ns", baselines);
    }

    /// Adds a measurement of a rate in millions of packets per second.
    pub(crate) fn rate(&mut self, name: &str, mpps: f64, baselines: &[&str]) {
        self.push(name, mpps, "Mpps", baselines);
    }

    /// What a reader must know of this series.
    pub(crate) fn note(&mut self, name: &str, note: String) {
        if let Some(series) = self.series.get_mut(name) {
            series.note = Some(note);
        }
    }

    fn push(&mut self, name: &str, value: f64, unit: &'static str, baselines: &[&str]) {
        if !self.series.contains_key(name) {
            self.order.push(name.to_owned());
        }
        let series = self.series.entry(name.to_owned()).or_default();
        series.sample.push(value);
        series.unit = unit;
        series.baselines = baselines.iter().map(|name| (*name).to_owned()).collect();
    }

    /// Makes the rows.
    pub(crate) fn report(&self, report: &mut Report) {
        for name in &self.order {
            let series = &self.series[name];
            let better = if series.unit == "ns" { Better::Lower } else { Better::Higher };
            let mut row = Row::new(name, series.unit, better, &series.sample);
            let measured = series.baselines.iter().filter_map(|name| Some((name, self.series.get(name)?)));
            for (name, baseline) in measured {
                row = row.beside(name, baseline.sample.median());
            }
            if let Some(note) = &series.note {
                row = row.note(note);
            }
            report.rows.push(row);
        }
    }
}
