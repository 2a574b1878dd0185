//! `lockstep-bench`: what the dataplane, a commit, a flow's copy and a failover cost, beside what others cost in the same run,
//! and what the verifier makes of the programs. To be run as root, by `cargo xtask bench` and `cargo xtask verifier`.

mod bpf;
mod dataplane;
mod e2e;
mod failover;
mod interface;
mod lockstep;
mod object;
mod packet;
#[path = "../programs/src/plan.rs"]
#[allow(dead_code, reason = "shared with the eBPF programs, which use all of it")]
mod plan;
mod processor;
mod raft;
mod report;
mod socket;
mod statistics;
mod sync;
mod verifier;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use lockstep_cluster_tests::interrupt;

/// Benchmarks of the dataplane, of the cluster and of its store.
#[derive(Debug, Parser)]
#[command(name = "lockstep-bench", version, about)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// The programs by themselves, packet by packet, beside an empty program and a floor.
    Dataplane(dataplane::Options),
    /// Client, balancer and server in namespaces: beside plain forwarding, nftables and HAProxy.
    E2e(e2e::Options),
    /// Commits per second and their latency, beside a bare append and fdatasync of the same bytes.
    Raft(raft::Options),
    /// Flow replication between two nodes of a real cluster.
    Sync(sync::Options),
    /// Clusters whose serving node fails or hands over: how long nobody answers, beside keepalived.
    Failover(failover::Options),
    /// What the verifier makes of each program, and which older kernels would refuse it.
    Verifier(verifier::Options),
}

/// What every benchmark takes.
#[derive(Debug, Args)]
struct Output {
    /// Also write the report here, as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Fewer and shorter measurements: does it work, not how fast is it.
    #[arg(long)]
    quick: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let result = interrupt::install().and_then(|()| match &arguments.command {
        Command::Dataplane(options) => dataplane::run(options),
        Command::E2e(options) => e2e::run(options),
        Command::Raft(options) => raft::run(options),
        Command::Sync(options) => sync::run(options),
        Command::Failover(options) => failover::run(options),
        Command::Verifier(options) => verifier::run(options),
    });
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
