//! The demo: a cluster of balancers, and of a witness where they are two; traffic, a fault, a report.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};

use crate::cluster::Cluster;
use crate::fault::Fault;
use crate::interrupt;
use crate::manifest::Profile;
use crate::report::Report;
use crate::stats::median;
use crate::topology::Node;
use crate::traffic::load::Endpoints;
use crate::trial::{Leader, Trial};

/// Traffic runs at least this long: young flows before the fault and retransmissions after it need it.
pub const MIN_SECONDS: u64 = 8;
/// And at most this long: every answer's time is kept.
pub const MAX_SECONDS: u64 = 120;
/// Held flows at most: two cores carry them all.
pub const MAX_FLOWS: usize = 2_000;

/// What was asked for on the command line.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// What happens to the node that serves: none, power, kill, pause, link, drain.
    #[arg(long, default_value = "power", value_parser = fault)]
    pub fault: Fault,
    /// TCP connections held throughout; a quarter as many UDP flows come with them.
    #[arg(long, default_value_t = 200, value_parser = flows)]
    pub flows: usize,
    /// Seconds of traffic, half of them before the fault.
    #[arg(long, default_value_t = 12, value_parser = clap::value_parser!(u64).range(MIN_SECONDS..=MAX_SECONDS))]
    pub seconds: u64,
    /// Data-plane nodes, 1 to 5, which all vote; a witness is added when they are two. With three and more there is a
    /// group for each.
    #[arg(long, default_value_t = 2, value_parser = nodes)]
    pub nodes: usize,
    /// Lease profile: fast (45 ms), lan (150 ms) or wan (1 s).
    #[arg(long, default_value = "lan", value_parser = Profile::parse)]
    pub profile: Profile,
    /// Where the Raft leader is when the fault comes: away from the node that serves, where it moves by itself, or,
    /// forced, on it, so that the fault costs an election too.
    #[arg(long, default_value = "away", value_parser = leader)]
    pub leader: Leader,
    /// Also write the report as JSON.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Leave the cluster up until Ctrl-C and print how to look around.
    #[arg(long, conflicts_with = "runs")]
    pub keep: bool,
    /// How many times, each with a cluster of its own; the JSON is then a list.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub runs: u32,
}

fn fault(text: &str) -> Result<Fault, String> {
    match text {
        "none" => Ok(Fault::None),
        "power" => Ok(Fault::Power),
        "kill" => Ok(Fault::Kill),
        "pause" => Ok(Fault::Pause),
        "link" => Ok(Fault::Link),
        "drain" => Ok(Fault::Drain),
        _ => Err("allowed: none, power, kill, pause, link, drain".to_owned()),
    }
}

fn leader(text: &str) -> Result<Leader, String> {
    match text {
        "away" => Ok(Leader::Away),
        "owner" => Ok(Leader::OnOwner),
        _ => Err("allowed: away, owner".to_owned()),
    }
}

fn nodes(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(nodes) if (1..=Node::BALANCERS.len()).contains(&nodes) => Ok(nodes),
        _ => Err(format!("allowed: 1 to {}: each votes, and more may not", Node::BALANCERS.len())),
    }
}

/// Why a node that is alone cannot be dealt with in this way.
fn refuse_alone(fault: Fault) -> anyhow::Result<()> {
    let reason = match fault {
        Fault::Power | Fault::Link | Fault::Drain => "no other node could take over",
        Fault::Kill => "its kernel forwards on, and nobody is left to ask",
        Fault::None | Fault::Pause => return Ok(()),
    };
    bail!("--fault {} with --nodes 1: {reason}; allowed: none, pause", fault.name())
}

fn flows(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(flows) if (1..=MAX_FLOWS).contains(&flows) => Ok(flows),
        _ => Err(format!("allowed: 1 to {MAX_FLOWS}")),
    }
}

/// Runs the demo. Success is a report that says pass, of every run.
pub fn run(options: &Options) -> anyhow::Result<ExitCode> {
    if options.nodes == 1 {
        refuse_alone(options.fault)?;
    }
    let mut reports = Vec::new();
    for run in 1..=options.runs {
        if options.runs > 1 {
            println!("run {run} of {}", options.runs);
        }
        reports.push(run_once(options)?);
    }
    if let Some(path) = &options.json {
        let json = match &reports[..] {
            [report] => serde_json::to_string_pretty(report),
            reports => serde_json::to_string_pretty(reports),
        };
        let json = json.context("cannot write the report as JSON")?;
        std::fs::write(path, json + "\n").with_context(|| format!("cannot write {}", path.display()))?;
    }
    let passed = reports.iter().filter(|report| report.result == "pass").count();
    if reports.len() > 1 {
        let p99 = median(reports.iter().map(|report| report.gap_ms.p99).collect());
        println!(
            "\n{passed} of {} runs passed; median of the longest silence's p99: {p99:.1} ms",
            reports.len()
        );
    }
    Ok(if passed == reports.len() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn run_once(options: &Options) -> anyhow::Result<Report> {
    let nodes = Node::cluster_of(options.nodes);
    let names = nodes.iter().map(|node| node.name()).collect::<Vec<_>>().join(", ");
    println!(
        "starting {} balancer(s), which all vote; of two, a witness votes as well: {names}",
        options.nodes
    );
    let mut cluster = Cluster::start_of(options.nodes, options.profile)?;
    let trial = Trial {
        flows: options.flows,
        around: Duration::from_secs(options.seconds) / 2,
        leader: options.leader,
        ..Trial::new(options.fault, options.profile)
    };
    let report = trial.run(&mut cluster)?;
    print!("{}", report.table());
    if report.result != "pass" {
        let why = report.failures.join("; ");
        println!("{:#}", cluster.explain(anyhow::anyhow!("the demo failed: {why}")));
    }
    if options.keep {
        keep(&cluster)?;
    }
    Ok(report)
}

/// Leaves everything up, endpoints included, until a signal comes.
fn keep(cluster: &Cluster) -> anyhow::Result<()> {
    let endpoints = Endpoints::start(&cluster.topology)?;
    let lockstep = crate::programs::lockstep()?;
    let lockstep = lockstep.display();
    let run = cluster.run.name();
    println!("\nthe cluster stays up until Ctrl-C; look around, for example:");
    let owner = cluster.owner()?.name();
    println!("  ip netns exec {run}-{owner} {lockstep} group status");
    println!("  ip netns exec {run}-{owner} {lockstep} flows --limit 10");
    println!("  ip netns exec {run}-{owner} {lockstep} cluster status");
    println!("  ip netns exec {run}-clients ping -c 3 192.0.2.10");
    println!("  logs, keys and data: {}", cluster.run.folder().display());
    println!("  pins: {}", cluster.run.pins().display());
    while !interrupt::requested() {
        std::thread::sleep(Duration::from_millis(100));
    }
    println!("taking it down");
    endpoints.stop()
}
