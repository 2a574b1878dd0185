//! Chaos: a real cluster under traffic, and one random fault after another, all from one seed. Between faults
//! everything is healed and has to come back; in the end nothing may be lost, and all must agree.

use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::time::Duration;

use anyhow::Context;

use crate::clock::{self, Nanos, nanos};
use crate::cluster::Cluster;
use crate::linear::recorder::{Judged, Recorder};
use crate::linear::search::Verdict;
use crate::manifest::{self, Profile};
use crate::namespace::Handle;
use crate::neighbours;
use crate::topology::Node;
use crate::wait;

mod agreement;
mod plan;
mod report;
mod step;
mod traffic;

use plan::{Plan, Planned};
use report::{Report, Struck};
use step::{Roles, Step};
use traffic::Traffic;

/// Time enough for a few faults.
pub const MIN_SECONDS: u64 = 10;
/// The captures keep every packet's time.
pub const MAX_SECONDS: u64 = 600;
/// How long the nodes may take to know a leader.
const LEADER_LIMIT: Duration = Duration::from_secs(10);
/// Connections of each host that are told of when something went wrong.
const SOCKETS: usize = 4;

/// What was asked for on the command line.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// Says which faults come, in which order, for how long
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Seconds in which faults begin; healing and judging come on top
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(MIN_SECONDS..=MAX_SECONDS))]
    pub seconds: u64,
    /// Only faults whose name, as the timeline prints it, contains this
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub fault: String,
    /// Also write the report as JSON
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
}

/// Runs it. The last line says pass or fail.
pub fn run(options: &Options) -> anyhow::Result<ExitCode> {
    let report = run_seed(options.seed, Duration::from_secs(options.seconds), &options.fault)?;
    if let Some(path) = &options.json {
        let json = serde_json::to_string_pretty(&report).context("cannot write the report as JSON")?;
        std::fs::write(path, json + "\n").with_context(|| format!("cannot write {}", path.display()))?;
    }
    println!("{}", report.table());
    Ok(if report.passed() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// One run, to its report. `fault`: see [`Options::fault`].
pub fn run_seed(seed: u64, time: Duration, fault: &str) -> anyhow::Result<Report> {
    let plan = Plan::new(seed, Step::named(fault)?);
    println!("seed {seed}: starting two balancers (a, b) and a witness (w)");
    let mut cluster = Cluster::start_on_small_disks(manifest::EXAMPLE, Profile::Lan)?;
    let recorder = Recorder::start(&cluster, seed)?;
    let traffic = Traffic::start(&cluster)?;
    let mut chaos = Chaos { seed, only: fault.to_owned(), start: clock::now(), traffic, struck: Vec::new() };
    let struck = chaos.strike(&mut cluster, plan, time);
    let intent = recorder.finish()?;
    let result = struck.and_then(|()| agreement::wait(&cluster));
    crate::interrupt::check()?;
    let failure = result.err().map(|error| {
        println!("{}", status(&cluster));
        format!("{:#}", cluster.explain(error))
    });
    chaos.judge(failure, &intent)
}

/// A run on its way.
struct Chaos {
    seed: u64,
    only: String,
    start: Nanos,
    traffic: Traffic,
    struck: Vec<Struck>,
}

impl Chaos {
    fn strike(&mut self, cluster: &mut Cluster, plan: Plan, time: Duration) -> anyhow::Result<()> {
        let end = self.start + nanos(time);
        for planned in plan {
            wait::pass(planned.pause)?;
            if clock::now() >= end {
                return Ok(());
            }
            self.strike_once(cluster, planned)?;
        }
        Ok(())
    }

    fn strike_once(&mut self, cluster: &mut Cluster, planned: Planned) -> anyhow::Result<()> {
        let Planned { step, hold, .. } = planned;
        let roles = Roles { owner: cluster.wait_ready()?, leader: wait_leader(cluster)? };
        if step.ends_flows() {
            self.traffic.close()?;
        }
        let at = clock::now();
        let t_ms = clock::between_ms(self.start, at);
        println!(
            "{:>9.3} s  {} for {} ms (owner {}, leader {})",
            t_ms / 1e3,
            step.name(),
            hold.as_millis(),
            roles.owner.name(),
            roles.leader.name()
        );
        let healed = step.run(cluster, roles, hold).and_then(|()| wait_healed(cluster));
        self.struck.push(Struck {
            t_ms,
            fault: step.name(),
            hold_ms: hold.as_millis() as u64,
            owner: roles.owner.name(),
            leader: roles.leader.name(),
            whole_again_ms: clock::between_ms(at, clock::now()),
            silence_ms: 0.0,
            at,
            until: 0,
        });
        healed.with_context(|| format!("after: {}", step.name()))?;
        if step.ends_flows() {
            self.traffic.open(cluster)?;
        }
        self.traffic.wait_awake().with_context(|| format!("after: {}", step.name()))?;
        self.struck.last_mut().expect("it was pushed").until = clock::now();
        Ok(())
    }

    fn judge(self, failure: Option<String>, intent: &Judged) -> anyhow::Result<Report> {
        let seconds = clock::to_ms(clock::now() - self.start) / 1e3;
        let result = self.traffic.finish(self.start)?;
        let mut steps = self.struck;
        for step in &mut steps {
            step.silence_ms = result.silence_ms(step.at, step.until);
        }
        let mut failures: Vec<String> = failure.into_iter().chain(result.harm).collect();
        let mut demand = |holds: bool, what: String| {
            if !holds {
                failures.push(what);
            }
        };
        let verdict = result.verdict;
        let until_s = clock::between_ms(self.start, result.overlap_until) / 1e3;
        let overlap = format!("two owners overlapped by {} ns until {until_s:.3} s (I3)", verdict.overlap);
        demand(verdict.overlap == 0, overlap);
        demand(verdict.judged > 0, "no packet was judged".to_owned());
        demand(!steps.is_empty(), "no fault was struck".to_owned());
        demand(intent.operations > 0, "no client was told anything".to_owned());
        if let Verdict::Violation(why) = &intent.verdict {
            demand(false, format!("the intent API is not linearizable (I2): {why}"));
        }
        Ok(Report {
            result: if failures.is_empty() { "pass" } else { "fail" },
            failures,
            seed: self.seed,
            only: self.only,
            seconds,
            tcp_flows: result.tcp_flows,
            udp_flows: result.udp_flows,
            overlap_ns: verdict.overlap,
            packets_judged: verdict.judged,
            frames_lost: result.frames_lost,
            intent_operations: intent.operations,
            intent_unknown: intent.unknown,
            intent_verdict: match &intent.verdict {
                Verdict::Linearizable => "linearizable",
                Verdict::Violation(_) => "violation",
                Verdict::Undecided => "not known",
            },
            faults: steps,
        })
    }
}

/// What the balancers say when something went wrong, and what clients and endpoints wait for: whether packets go to the wrong
/// node, are late because TCP waits, or are dropped by the right one.
fn status(cluster: &Cluster) -> String {
    let mut text = format!("--- neighbours\n{}", neighbours::describe(&cluster.topology));
    for host in [&cluster.topology.clients].into_iter().chain(&cluster.topology.endpoints) {
        text += &format!("--- {}: sockets\n{}", host.name(), sockets(host));
    }
    for node in Node::DATAPLANE {
        for command in [&["group", "status"][..], &["counters"]] {
            let said = match cluster.lockstep(node, command) {
                Ok(said) => said,
                Err(error) => format!("{error:#}"),
            };
            let lines = said.lines().filter(|line| !line.ends_with(" 0"));
            text += &format!("--- {}: {}\n", node.name(), command.join(" "));
            lines.for_each(|line| text += &format!("{line}\n"));
        }
    }
    text
}

/// The first of a host's TCP connections, with their timers.
fn sockets(host: &Handle) -> String {
    let mut command = Command::new("ss");
    command.args(["-H", "-t", "-i", "-n", "-o", "-O", "state", "established"]);
    host.place(&mut command);
    match command.output() {
        Ok(output) => String::from_utf8_lossy(&output.stdout)
            .lines()
            .take(SOCKETS)
            .map(|line| format!("{line}\n"))
            .collect(),
        Err(error) => format!("cannot run `ss` (iproute2): {error}\n"),
    }
}

fn wait_leader(cluster: &Cluster) -> anyhow::Result<Node> {
    wait::until_ok("a leader", LEADER_LIMIT, || cluster.leader(&Node::ALL))
}

/// A served group, a standby with all its flows, a leader whom everybody knows.
fn wait_healed(cluster: &Cluster) -> anyhow::Result<()> {
    cluster.wait_ready()?;
    wait::until_ok("all nodes to know the same leader", LEADER_LIMIT, || {
        let leaders =
            Node::ALL.iter().map(|node| cluster.leader(&[*node])).collect::<anyhow::Result<Vec<_>>>()?;
        anyhow::ensure!(leaders.windows(2).all(|pair| pair[0] == pair[1]), "they name {leaders:?}");
        Ok(())
    })?;
    wait::until_ok("nodes whose disk was full to go on", LEADER_LIMIT, || {
        let full = cluster.with_full_disks()?;
        anyhow::ensure!(full.is_empty(), "{full:?} say that it is full");
        Ok(())
    })?;
    cluster.wait_programmed()
}
