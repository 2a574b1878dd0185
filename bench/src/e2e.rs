//! `bench e2e`: a client, a balancer and a server in three namespaces over veth, with everything left as the
//! kernel sets it up (TSO, GSO and GRO on). One balancer for each subject, all set up before the first
//! measurement and idle while another is measured, so that nothing is loaded or torn down in between.

mod case;
mod haproxy;
mod network;
mod nftables;
pub(crate) mod nginx;
mod server;
mod subject;
mod udp;
pub(crate) mod wrk;

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use lockstep_cluster_tests::interrupt;
use lockstep_cluster_tests::run::Run;

use crate::report::{Better, Report, Row};
use crate::statistics::{Sample, lower_bound};
use case::Case;
use network::Network;
use server::Server;
use subject::{Balancers, Subject};

/// `bench e2e`
#[derive(Debug, Args)]
pub(crate) struct Options {
    #[command(flatten)]
    output: crate::Output,
    /// Rounds; in each, every subject is measured once.
    #[arg(long)]
    rounds: Option<usize>,
    /// Length of one measurement.
    #[arg(long)]
    seconds: Option<f64>,
    /// Only this case: close, keepalive, tcp or udp.
    #[arg(long)]
    case: Option<Case>,
    /// Only this subject, beside plain forwarding.
    #[arg(long)]
    subject: Option<Subject>,
}

const ROUNDS: usize = 15;
const SECONDS: f64 = 2.0;
const QUICK_ROUNDS: usize = 3;
const QUICK_SECONDS: f64 = 0.5;

pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let quick = options.output.quick;
    let rounds = options.rounds.unwrap_or(if quick { QUICK_ROUNDS } else { ROUNDS }).max(1);
    let seconds = options.seconds.unwrap_or(if quick { QUICK_SECONDS } else { SECONDS });
    let length = Duration::try_from_secs_f64(seconds)?;
    let mut report = Report::new("e2e")?;

    let run = Run::begin()?;
    let network = Network::create(&run)?;
    let server = Server::start(&run, &network)?;
    let balancers = Balancers::start(&run, &network)?;
    for subject in Subject::ALL {
        server.answers_through(&network, subject)?;
    }

    let bed = Bed { run: &run, network: &network, server: &server, balancers: &balancers };
    let mut measured = Ok(());
    for case in Case::ALL.into_iter().filter(|case| options.case.is_none_or(|only| only == *case)) {
        // What was measured before is worth telling in any case.
        measured = measure(case, options.subject, rounds, length, &bed, &mut report)
            .with_context(|| format!("the case {}", case.name()));
        if measured.is_err() {
            break;
        }
    }
    report.finish(options.output.json.as_deref())?;
    measured?;
    balancers.stop()?;
    server.stop()
}

/// Everything that is set up.
struct Bed<'a> {
    run: &'a Run,
    network: &'a Network,
    server: &'a Server,
    balancers: &'a Balancers,
}

/// All rounds of one case. The order turns round from one to the next: what drifts does so for everybody, and in
/// every round plain forwarding stands right beside the dataplane.
fn measure(
    case: Case,
    only: Option<Subject>,
    rounds: usize,
    length: Duration,
    bed: &Bed<'_>,
    report: &mut Report,
) -> anyhow::Result<()> {
    let mut samples: BTreeMap<Subject, Sample> = BTreeMap::new();
    let mut notes: BTreeMap<Subject, String> = BTreeMap::new();
    let mut refused: BTreeMap<&str, u64> = BTreeMap::new();
    let asked = |subject: &Subject| {
        only.is_none_or(|only| only == *subject || *subject == Subject::Forwarding) && subject.does(case)
    };
    let subjects: Vec<Subject> = Subject::ALL.into_iter().filter(asked).collect();
    for round in 0..rounds {
        let mut order = subjects.clone();
        if round % 2 == 1 {
            order.reverse();
        }
        for subject in order {
            interrupt::check()?;
            let before = bed.balancers.refusals()?;
            let measured = case.measure(bed.network, bed.server, subject, length, bed.run)?;
            samples.entry(subject).or_default().push(measured.rate);
            if let Some(note) = measured.note {
                notes.insert(subject, note);
            }
            if subject == Subject::Tc {
                for ((reason, count), (_, before)) in bed.balancers.refusals()?.into_iter().zip(before) {
                    *refused.entry(reason).or_default() += count - before;
                }
            }
        }
        println!("{:<10} round {} of {rounds}", case.name(), round + 1);
    }
    refused.retain(|_, count| *count != 0);
    if !refused.is_empty() {
        // Late packets of the connections that wrk leaves open, if they are few.
        println!("{:<10} refused by the dataplane: {refused:?}", case.name());
    }
    let name = |subject: Subject| format!("e2e/{}/{}", subject.name(), case.name());
    let forwarding = &samples[&Subject::Forwarding];
    for (subject, sample) in &samples {
        let mut row = Row::new(name(*subject), case.unit(), Better::Higher, sample);
        if *subject != Subject::Forwarding {
            row = row.beside(name(Subject::Forwarding), forwarding.median());
            row = row.low(lower_bound(sample, forwarding));
        }
        if let Some(note) = notes.remove(subject) {
            row = row.note(note);
        }
        report.rows.push(row);
    }
    for subject in Subject::ALL.into_iter().filter(|subject| !subject.does(case)) {
        report.skip(format!("{}: it has no such mode", name(subject)));
    }
    Ok(())
}
