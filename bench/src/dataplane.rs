//! `bench dataplane`: the programs by themselves, packet by packet, with `BPF_PROG_TEST_RUN`.
//!
//! Every figure is net: minus the same run with an empty program in the place of what is measured, right beside
//! it in time. What rewrites packets is called from a wrapper that makes each packet anew, because test-run does
//! not; the wrapper is part of the empty run too.

pub(crate) mod bed;
mod figures;
mod instruments;
mod live;
mod station;
mod subject;

use anyhow::Context;
use clap::{Args, ValueEnum};
use lockstep_cluster_tests::run::Run;

use crate::lockstep::{Family, Hook};
use crate::processor;
use crate::report::Report;
use bed::Bed;
use figures::Figures;
use instruments::Instruments;
use station::{Effort, Station};
use subject::Subject;

/// `bench dataplane`
#[derive(Debug, Args)]
pub(crate) struct Options {
    #[command(flatten)]
    output: crate::Output,
    /// Only this hook.
    #[arg(long)]
    hook: Option<Hook>,
    /// Only this family.
    #[arg(long)]
    family: Option<Family>,
    /// Only the rows of the shipped programs whose names contain this, such as `established/flows=1/64B`.
    #[arg(long, value_name = "PART")]
    rows: Option<String>,
    /// So many measurements of each row.
    #[arg(long, value_name = "N")]
    rounds: Option<usize>,
}

impl ValueEnum for Hook {
    fn value_variants<'a>() -> &'a [Self] {
        &Hook::ALL
    }

    fn to_possible_value(&self) -> Option<clap::builder::PossibleValue> {
        Some(self.name().into())
    }
}

impl ValueEnum for Family {
    fn value_variants<'a>() -> &'a [Self] {
        &Family::ALL
    }

    fn to_possible_value(&self) -> Option<clap::builder::PossibleValue> {
        Some(self.name().into())
    }
}

pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let mut effort = if options.output.quick { Effort::quick() } else { Effort::whole() };
    effort.rows.clone_from(&options.rows);
    if let Some(rounds) = options.rounds {
        (effort.rounds, effort.rounds_of_new) = (rounds.max(1), rounds.max(1));
    }
    let mut report = Report::new("dataplane")?;
    let run = Run::begin()?;
    let mut figures = Figures::default();
    let families: Vec<Family> =
        Family::ALL.into_iter().filter(|family| options.family.is_none_or(|only| only == *family)).collect();
    for hook in Hook::ALL.into_iter().filter(|hook| options.hook.is_none_or(|only| only == *hook)) {
        measure(&run, hook, &families, &effort, &mut figures)?;
    }
    figures.report(&mut report);
    report.finish(options.output.json.as_deref())
}

/// Everything at one hook.
fn measure(
    run: &Run,
    hook: Hook,
    families: &[Family],
    effort: &Effort,
    figures: &mut Figures,
) -> anyhow::Result<()> {
    let bed = Bed::create(run, hook)?;
    let subject = bed.node.run(|| Subject::open(&bed, hook, families, effort.most_flows()))?;
    let mut instruments = Instruments::load(effort.most_flows(), &bed.pinned_maps())?;
    bed.node.run(|| {
        processor::stay_on(processor::FIRST).context("the benchmark cannot keep its processor")?;
        for family in families {
            let mut station = Station {
                bed: &bed,
                hook,
                family: *family,
                subject: &subject,
                instruments: &instruments,
                effort,
                figures,
            };
            station.measure()?;
        }
        Ok(())
    })?;
    if hook == Hook::Xdp {
        live::measure(&bed, families, effort, &mut instruments, figures)?;
    }
    bed.node.run(|| subject.close())
}
