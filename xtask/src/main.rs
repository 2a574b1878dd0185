//! `cargo xtask …`: what a developer, the README and CI run. It sets the machine up, tests, runs the demo and
//! the benchmarks, and plants known bugs to see whether a test finds them.
//!
//! It knows cargo, git and the system; it knows nothing of the cluster (see `cluster-tests` for that).

mod bench;
mod cargo;
mod checks;
mod demo;
mod mutants;
mod process;
mod repository;
mod setup;
mod signals;
mod sim;
mod test;

use std::process::ExitCode;

use clap::{Parser, Subcommand, ValueEnum};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Set-up, tests, demo, benchmarks and planted bugs of Lockstep")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Get everything that building and running need, or say what is missing
    Setup {
        /// Change nothing: report, and fail if something is missing
        #[arg(long)]
        check: bool,
    },
    /// Run all tests, or those whose name contains NAME
    Test { name: Option<String> },
    /// Run a cluster in network namespaces (see `cargo xtask demo --help`)
    #[command(disable_help_flag = true)]
    Demo {
        /// Handed to the demo as they are
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Strike a cluster under traffic with random faults from a seed (see `cargo xtask chaos --help`)
    #[command(disable_help_flag = true)]
    Chaos {
        /// Handed on as they are
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Measure: `dataplane`, `e2e`, `failover`, `raft` or `sync` (see `cargo xtask bench e2e --help`)
    #[command(disable_help_flag = true)]
    Bench {
        what: Benchmark,
        /// Handed to the benchmark as they are
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Simulate whole clusters in virtual time, one for each seed (see `cargo xtask sim --help`)
    #[command(disable_help_flag = true)]
    Sim {
        /// Handed to the simulation as they are
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Tell what the verifier makes of each program, and which kernels would refuse it
    #[command(disable_help_flag = true)]
    Verifier {
        /// Handed on as they are
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Plant the bugs of `mutants/` one by one, and fail if the tests named there do not notice
    Mutants {
        /// Only those of one invariant, such as I3
        #[arg(long)]
        invariant: Option<String>,
        /// Only those with this in their name
        #[arg(long)]
        name: Option<String>,
    },
}

#[derive(Clone, Copy, ValueEnum)]
enum Benchmark {
    /// The programs by themselves, packet by packet
    Dataplane,
    /// Client, balancer and server
    E2e,
    /// Commits, beside a bare append and fdatasync
    Raft,
    /// Flow replication between two nodes
    Sync,
    /// A cluster whose serving node fails or hands over
    Failover,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    signals::install();
    let outcome = match arguments.command {
        Command::Setup { check } => setup::run(if check { setup::Mode::Check } else { setup::Mode::Install }),
        Command::Test { name } => test::run(name.as_deref()),
        Command::Demo { arguments } => demo::run("demo", &arguments),
        Command::Chaos { arguments } => demo::run("chaos", &arguments),
        Command::Bench { what: Benchmark::Dataplane, arguments } => bench::run("dataplane", &arguments),
        Command::Bench { what: Benchmark::E2e, arguments } => bench::run("e2e", &arguments),
        Command::Bench { what: Benchmark::Raft, arguments } => bench::run("raft", &arguments),
        Command::Bench { what: Benchmark::Sync, arguments } => bench::run("sync", &arguments),
        Command::Bench { what: Benchmark::Failover, arguments } => bench::run("failover", &arguments),
        Command::Sim { arguments } => sim::run(&arguments),
        Command::Verifier { arguments } => bench::run("verifier", &arguments),
        Command::Mutants { invariant, name } => mutants::run(invariant.as_deref(), name.as_deref()),
    };
    if let Some(signal) = signals::received() {
        return ExitCode::from(128 + signal);
    }
    match outcome {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
